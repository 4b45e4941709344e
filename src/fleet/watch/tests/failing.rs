//! Requests that fail, silence, and caches that are lost.

use super::*;

/// Requests that fail are looked into at once, and it is the checks that decide.
#[tokio::test(start_paused = true)]
async fn a_request_that_broke_off_has_it_checked_soon_but_not_all_the_time() {
    let bench = bench(PLAIN, Script::well());
    after(1000).await;
    bench.backend.observe_failure(crate::fleet::Failure::Broken);
    after(1).await;
    assert_eq!(bench.script.times("/health", bench.start).len(), 2);
    for _ in 0..90 {
        bench.backend.observe_failure(crate::fleet::Failure::Broken);
        after(10).await;
    }
    assert_eq!(bench.script.times("/health", bench.start).len(), 5);
    assert_eq!(bench.backend.state(), BackendState::Ready);
    bench.script.set("/health", Answer::Refused);
    after(5000).await;
    assert_eq!(bench.backend.state(), BackendState::Down);
}

/// Who was silent while as many checks got no answer as take it down is closed, if it can go elsewhere.
#[tokio::test(start_paused = true)]
async fn a_backend_that_goes_down_in_silence_has_its_silent_requests_closed() {
    let bench = bench(PLAIN, Script::well());
    after(1).await;
    let (old, mut closing) = (Instant::now(), bench.backend.closing());
    after(1000).await;
    bench.script.set("/health", Answer::Silent);
    // Asked at 2 s and 6 s, given up at 4 s and 8 s.
    after(6990).await;
    let young = Instant::now();
    assert!(
        timeout(Duration::ZERO, closing.of_silent_since(|| old, || true))
            .await
            .is_err()
    );
    after(20).await;
    let why = timeout(Duration::ZERO, closing.of_silent_since(|| old, || true)).await;
    assert_eq!(why, Ok(WhyClosed::Down));
    let stays = closing.of_silent_since(|| old, || false);
    assert!(
        timeout(Duration::ZERO, stays).await.is_err(),
        "it can go nowhere"
    );
    let waits = closing.of_silent_since(|| young, || true);
    assert!(
        timeout(Duration::ZERO, waits).await.is_err(),
        "it has just come"
    );
    let later = timeout(
        Duration::from_secs(10),
        closing.of_silent_since(|| young, || true),
    );
    assert_eq!(later.await, Ok(WhyClosed::Down));
}

/// It answers, if not as it should: whoever is silent there may be reading a long prompt.
#[tokio::test(start_paused = true)]
async fn a_backend_that_is_down_and_answers_keeps_its_requests() {
    let bench = bench(PLAIN, Script::well());
    after(1).await;
    let (began, mut closing) = (Instant::now(), bench.backend.closing());
    bench.script.set("/health", Answer::Reply(502, ""));
    let closed = timeout(
        Duration::from_secs(60),
        closing.of_silent_since(|| began, || true),
    );
    assert!(closed.await.is_err());
    assert_eq!(bench.backend.state(), BackendState::Down);
}

/// Regression: caches counted as warm after the process had gone and come back between two checks that saw it load.
#[tokio::test(start_paused = true)]
async fn caches_are_lost_with_the_process_and_when_the_model_falls_asleep() {
    let bench = bench(PLAIN, Script::well());
    after(1).await;
    let losses = || bench.backend.comeback().losses();
    let before = losses();
    bench.script.set("/health", Answer::Silent);
    after(12_000).await;
    bench.script.set("/health", Answer::Reply(200, "{}"));
    after(4000).await;
    assert_eq!(
        (bench.backend.state(), losses()),
        (BackendState::Ready, before),
        "it was only slow"
    );
    bench.script.set("/health", Answer::Refused);
    after(2000).await;
    bench.script.set("/health", Answer::Reply(200, "{}"));
    after(2000).await;
    assert_eq!(
        losses(),
        before + 1,
        "nobody listened, if for one check only"
    );

    let (loads, asleep) = (
        bench.backend.comeback().loads(),
        PROPS.replace("false", "true"),
    );
    bench
        .script
        .set("/props", Answer::Reply(200, asleep.leak()));
    after(6000).await;
    assert_eq!(losses(), before + 2, "once");
    assert_eq!(
        bench.backend.comeback().loads(),
        loads,
        "with the flags it had"
    );
}

/// Regression: a process that was started anew between two checks was taken for the one before.
#[tokio::test(start_paused = true)]
async fn slots_that_begin_anew_have_lost_what_they_held() {
    let script = Script::well();
    script.set(
        "/slots",
        Answer::Reply(200, r#"[{"id":0,"is_processing":true,"id_task":70}]"#),
    );
    let bench = bench(PLAIN, script);
    after(5000).await;
    let losses = bench.backend.comeback().losses();
    bench.script.set(
        "/slots",
        Answer::Reply(200, r#"[{"id":0,"is_processing":true,"id_task":2}]"#),
    );
    after(10_000).await;
    assert_eq!(bench.backend.comeback().losses(), losses + 1);
}

use super::*;
use std::future::pending;

fn drain(inflight: &Arc<Inflight>, seconds: u64) -> Drain {
    Drain::new(
        Arc::clone(inflight),
        Duration::from_secs(seconds),
        Box::new(|| ()),
    )
}

#[test]
fn a_guard_counts_until_it_is_dropped() {
    let inflight = Inflight::new();
    let one = inflight.enter();
    let two = inflight.enter();
    assert_eq!(inflight.count(), 2);
    drop(one);
    assert_eq!(inflight.count(), 1);
    drop(two);
    assert_eq!(inflight.count(), 0);
}

#[test]
fn draining_begins_once() {
    let inflight = Inflight::new();
    assert_eq!(inflight.phase(), Phase::Running);
    assert!(inflight.begin_drain());
    assert!(!inflight.begin_drain());
    assert_eq!(inflight.phase(), Phase::Draining);
}

#[tokio::test(start_paused = true)]
async fn an_idle_process_leaves_at_once() {
    let began = Instant::now();
    let drained = drain(&Inflight::new(), 600).wait(pending()).await;
    assert_eq!(drained, Drained::Complete);
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn the_last_answer_is_waited_for() {
    let inflight = Inflight::new();
    let guard = inflight.enter();
    tokio::spawn(async move {
        sleep(Duration::from_secs(30)).await;
        drop(guard);
    });
    let began = Instant::now();
    assert_eq!(
        drain(&inflight, 600).wait(pending()).await,
        Drained::Complete
    );
    let waited = began.elapsed();
    assert!(
        waited >= Duration::from_secs(30) && waited < Duration::from_secs(31),
        "{waited:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_begun_while_settling_is_waited_for_too() {
    let inflight = Inflight::new();
    let late = Arc::clone(&inflight);
    tokio::spawn(async move {
        sleep(SETTLE / 2).await;
        let _guard = late.enter();
        sleep(Duration::from_secs(5)).await;
    });
    let began = Instant::now();
    assert_eq!(
        drain(&inflight, 600).wait(pending()).await,
        Drained::Complete
    );
    assert!(began.elapsed() >= Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn the_limit_ends_the_wait() {
    let inflight = Inflight::new();
    let _guard = inflight.enter();
    let drained = drain(&inflight, 10).wait(pending()).await;
    assert_eq!(drained, Drained::Deadline { cut: 1 });
}

#[tokio::test(start_paused = true)]
async fn an_interrupt_ends_the_wait() {
    let inflight = Inflight::new();
    let _guard = inflight.enter();
    let drained = drain(&inflight, 600)
        .wait(sleep(Duration::from_secs(2)))
        .await;
    assert_eq!(drained, Drained::Interrupted { cut: 1 });
}

//! A second backend is asked while the first stays silent. Prompts of these tests take a second to read, and may
//! take two.

use super::*;
use crate::guard::intervention;

const PROGRESS: &str =
    "data: {\"choices\":[],\"prompt_progress\":{\"total\":9,\"cache\":0,\"processed\":1}}\n\n";

fn hedged(first: Play, second: Play) -> Script {
    Script::new().hedged().on("a", first).on("b", second)
}

fn slow(seconds: u64) -> Play {
    Play::new().wait(secs(seconds)).text("first").finish()
}

fn fast() -> Play {
    Play::new().wait(secs(1)).text("second").finish()
}

fn refuses_after(seconds: u64, status: u16) -> Play {
    let loading = r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#;
    let broken = r#"{"error":{"message":"Compute error."}}"#;
    let text = if status == 503 { loading } else { broken };
    Play::new().wait_head(secs(seconds)).status(status, text)
}

#[tokio::test(start_paused = true)]
async fn a_silent_backend_is_overtaken_and_closed_at_once() {
    for body in [STREAM, WHOLE] {
        let script = hedged(slow(60), fast());
        let (opened, dropped, bodies) = (script.opened(), script.dropped(), script.bodies());
        let (outcome, client) = script.run(body).await;
        assert_eq!(outcome.end, End::Complete);
        assert_eq!(outcome.attempts, [Why::First, Why::Hedge]);
        assert!(outcome.lost.is_empty());
        assert_eq!(opened.lock().as_slice(), [secs(0), secs(2)]);
        assert_eq!(dropped.lock().as_slice(), [secs(3)], "the first one");
        let text = client.text();
        assert!(text.contains("second") && !text.contains("first"), "{text}");
        assert_eq!(intervention::kinds(&client.interventions), ["hedge"]);
        let bodies = bodies.lock();
        assert_eq!(bodies[0], bodies[1], "the same request");
        let facts = client.head.unwrap().facts;
        assert_eq!((facts.backend.as_deref(), facts.attempts), (Some("b"), 2));
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_still_wins_when_it_speaks_first() {
    let script = hedged(slow(4), slow(60));
    let (dropped, released) = (script.dropped(), script.released());
    let (outcome, client) = script.run(STREAM).await;
    assert_eq!(outcome.end, End::Complete);
    assert_eq!(outcome.attempts, [Why::First]);
    assert_eq!(outcome.lost, [Why::Hedge]);
    assert_eq!(dropped.lock().as_slice(), [secs(4)], "the second one");
    assert_eq!(*released.lock(), 1);
    assert_whole_stream(&client);
    let facts = client.head.unwrap().facts;
    assert_eq!((facts.backend.as_deref(), facts.attempts), (Some("a"), 2));
}

#[tokio::test(start_paused = true)]
async fn who_is_in_time_is_not_hedged_nor_who_tells_of_progress() {
    let mut reads = Play::new();
    for _ in 0..8 {
        reads = reads.wait(secs(1)).raw(PROGRESS);
    }
    for play in [slow(1), reads.text("first").finish()] {
        let script = hedged(play, fast());
        let opened = script.opened();
        let (outcome, client) = script.run(STREAM).await;
        assert_eq!(outcome.attempts, [Why::First]);
        assert_eq!(opened.lock().len(), 1);
        assert_whole_stream(&client);
    }
    // It has told of progress, and then nothing more.
    let script = hedged(
        Play::new().wait(secs(1)).raw(PROGRESS).wait(secs(60)),
        fast(),
    );
    let opened = script.opened();
    let (outcome, client) = script.run(STREAM).await;
    assert_eq!(outcome.attempts, [Why::First, Why::Hedge]);
    assert_eq!(opened.lock().as_slice(), [secs(0), secs(3)]);
    assert_whole_stream(&client);
}

#[tokio::test(start_paused = true)]
async fn a_second_one_that_fails_changes_nothing() {
    let failures = [
        Play::refused(),
        Play::new().broken_head(),
        Play::new().status(500, r#"{"error":{"message":"Compute error."}}"#),
        Play::new().role().cut(),
        Play::new().raw("data: {\"error\":{\"message\":\"Compute error.\"}}\n\n"),
    ];
    for failure in failures {
        let (outcome, client) = hedged(slow(9), failure).run(STREAM).await;
        assert_eq!(outcome.end, End::Complete);
        assert_eq!(
            (outcome.attempts, outcome.lost),
            (vec![Why::First], vec![Why::Hedge])
        );
        assert!(client.text().contains("first"));
        assert_whole_stream(&client);
    }
}

#[tokio::test(start_paused = true)]
async fn when_the_first_dies_the_second_goes_on() {
    let deaths = [
        Play::new().wait(secs(3)).cut(),
        Play::new().wait_head(secs(3)).broken_head(),
        // Regression: an error of the first one closed the second in the middle of its work.
        refuses_after(3, 500),
        refuses_after(3, 503),
    ];
    for (number, death) in deaths.into_iter().enumerate() {
        let script = hedged(death, slow(9));
        let opened = script.opened();
        let (outcome, client) = script.run(STREAM).await;
        assert_eq!(outcome.end, End::Complete, "{number}");
        assert_eq!(outcome.attempts, [Why::First, Why::Hedge]);
        assert_eq!(opened.lock().len(), 2, "asked already");
        assert_whole_stream(&client);
    }
}

/// Regression: once hedged, a turn heard neither the checks nor the watchdog, and waited for ten minutes.
#[tokio::test(start_paused = true)]
async fn when_both_are_stuck_a_third_one_is_asked() {
    let script = hedged(slow(900), slow(900))
        .on("c", fast())
        .stuck_after(secs(5));
    let opened = script.opened();
    let (outcome, client) = script.run(STREAM).await;
    assert_eq!(outcome.end, End::Complete);
    let third = opened.lock()[2];
    assert!(third >= secs(5) && third < secs(10), "{third:?}");
    assert_whole_stream(&client);
}

/// Regression: its signs of life since the hedge had failed were not seen, and the watchdog's word closed it at work.
#[tokio::test(start_paused = true)]
async fn a_first_one_that_gets_on_again_is_not_stuck() {
    let mut reads = Play::new().wait(secs(2));
    for _ in 0..20 {
        reads = reads.wait(secs(1)).raw(PROGRESS);
    }
    let script = hedged(reads.text("first").finish(), Play::refused())
        .on("c", fast())
        .stuck_after(Duration::from_millis(15_500));
    let (outcome, client) = script.run(STREAM).await;
    assert_eq!(outcome.end, End::Complete);
    assert_eq!(outcome.attempts, [Why::First]);
    assert!(client.text().contains("first"));
}

#[tokio::test(start_paused = true)]
async fn when_both_die_a_third_one_is_asked() {
    for death in [Play::new().wait(secs(3)).cut(), refuses_after(3, 500)] {
        let script = hedged(death.clone(), death).on("c", fast());
        let (outcome, client) = script.run(STREAM).await;
        assert_eq!(outcome.end, End::Complete);
        assert_eq!(outcome.attempts, [Why::First, Why::Failover]);
        assert_eq!(outcome.lost, [Why::Hedge]);
        assert_whole_stream(&client);
    }
}

#[tokio::test(start_paused = true)]
async fn both_are_closed_when_the_client_leaves() {
    let script = hedged(slow(60), slow(60)).client_leaves_after(secs(5));
    let dropped = script.dropped();
    let (outcome, _) = script.run(STREAM).await;
    assert_eq!(outcome.end, End::ClientGone);
    assert_eq!(dropped.lock().as_slice(), [secs(5), secs(5)]);
}

#[tokio::test(start_paused = true)]
async fn two_that_stay_silent_end_as_one_does() {
    let (outcome, client) = hedged(Play::new().wait(secs(9000)), Play::new().wait(secs(9000)))
        .run(STREAM)
        .await;
    assert!(
        matches!(outcome.end, End::Failed { .. }),
        "{:?}",
        outcome.end
    );
    assert_eq!(outcome.aborts.len(), 1);
    // Pings went out meanwhile.
    assert_eq!(client.pieces[0].0, secs(12));
    assert_eq!(client.pieces.last().unwrap().0, secs(600));
}

#[tokio::test(start_paused = true)]
async fn off_it_does_nothing() {
    let script = Script::new().on("a", slow(60)).on("b", fast());
    let opened = script.opened();
    let (outcome, client) = script.run(STREAM).await;
    assert_eq!(outcome.attempts, [Why::First]);
    assert_eq!(opened.lock().len(), 1);
    assert!(client.interventions.is_empty());
    assert_whole_stream(&client);
}

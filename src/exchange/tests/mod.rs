//! The turn loop under a paused clock, with scripted backends and a recording client.

mod accept;
mod answers;
mod bytes;
mod guards;
mod hedge;
mod matrix;
mod order;
mod script;
mod streams;

use std::time::Duration;

use script::{Play, Recorded, Script};

use super::End;
use crate::telemetry::labels::{AbortCause, Why};
use crate::turn::TurnError;

const STREAM: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true}"#;
const WHOLE: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn assert_whole_stream(client: &Recorded) {
    let text = client.text();
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    assert_eq!(text.matches("[DONE]").count(), 1);
    assert!(!text.contains("\"error\""), "{text}");
    assert!(client.ended);
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_passed_on_as_it_comes() {
    let script = Script::new().on(
        "a",
        Play::new().text("one").wait(secs(1)).text("two").finish(),
    );
    let (outcome, client) = script.run(STREAM).await;
    assert_eq!(outcome.end, End::Complete);
    assert_whole_stream(&client);
    let one = client.when("one");
    assert_eq!(client.when("two") - one, secs(1));
    assert_eq!(client.head.unwrap().status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_whole_answer_is_one_body_with_its_length() {
    let script = Script::new().on(
        "a",
        Play::new().text("one ").wait(secs(40)).text("two").finish(),
    );
    let (outcome, client) = script.run(WHOLE).await;
    assert_eq!(outcome.end, End::Complete);
    let body = client.text();
    assert!(body.contains("\"content\":\"one two\""), "{body}");
    assert_eq!(client.head.unwrap().length, Some(body.len()));
}

#[tokio::test(start_paused = true)]
async fn silence_is_bridged_by_pings_that_start_after_ping_first() {
    let script = Script::new().on("a", Play::new().wait(secs(60)).text("late").finish());
    let (outcome, client) = script.run(STREAM).await;
    assert_eq!(outcome.end, End::Complete);
    let times: Vec<u64> = client.pieces.iter().map(|(at, _)| at.as_secs()).collect();
    // 12 s, then every 20 s, then the answer.
    assert_eq!(&times[..4], [12, 32, 52, 60]);
    assert!(
        client
            .pieces
            .iter()
            .take(3)
            .all(|(_, text)| text.starts_with("data: {"))
    );
    assert_whole_stream(&client);
}

#[tokio::test(start_paused = true)]
async fn an_error_after_a_ping_is_told_inside_the_stream() {
    let overflow = r#"{"error":{"code":400,"message":"x","type":"exceed_context_size_error","n_prompt_tokens":9,"n_ctx":5}}"#;
    let script = Script::new().on("a", Play::new().wait_head(secs(15)).status(400, overflow));
    let (outcome, client) = script.run(STREAM).await;
    let error = TurnError::ContextOverflow {
        prompt: 9,
        limit: 5,
    };
    assert_eq!(
        outcome.end,
        End::Failed {
            error,
            committed: true
        }
    );
    let text = client.text();
    assert!(
        text.contains("prompt is too long: 9 tokens > 5 maximum"),
        "{text}"
    );
    assert!(!text.contains("[DONE]") && client.ended);
    assert_eq!(client.head.unwrap().status, 200);
}

#[tokio::test(start_paused = true)]
async fn an_error_before_anything_keeps_its_status() {
    let template =
        r#"{"error":{"code":500,"message":"Jinja Exception: no","type":"server_error"}}"#;
    let script = Script::new().on("a", Play::new().status(500, template));
    let (outcome, client) = script.run(STREAM).await;
    assert_eq!(
        outcome.attempts,
        [Why::First],
        "a permanent error is not tried again"
    );
    assert_eq!(client.head.unwrap().status, 400);
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_fails_before_content_is_replaced_unnoticed() {
    let deaths = [
        Play::refused(),
        Play::new().broken_head(),
        Play::new().status(500, r#"{"error":{"message":"Compute error."}}"#),
        Play::new().status(
            503,
            r#"{"error":{"message":"Loading model","type":"unavailable_error"}}"#,
        ),
        Play::new().role().cut(),
        Play::new().role().clean_end(),
        Play::new().comment().wait(secs(30)).cut(),
        Play::new().raw(
            "data: {\"error\":{\"code\":500,\"message\":\"Context size has been exceeded.\"}}\n\n",
        ),
        Play::new().raw("data: nonsense\n\n"),
        Play::new().wait(secs(601)),
    ];
    for (number, death) in deaths.into_iter().enumerate() {
        let script = Script::new()
            .on("a", death)
            .on("b", Play::new().text("fine").finish());
        let (outcome, client) = script.run(STREAM).await;
        assert_eq!(outcome.end, End::Complete, "death {number}");
        assert_eq!(
            outcome.attempts,
            [Why::First, Why::Failover],
            "death {number}"
        );
        assert!(client.text().contains("fine"));
        assert_whole_stream(&client);
    }
}

#[tokio::test(start_paused = true)]
async fn after_content_a_death_is_a_protocol_error() {
    for death in [
        Play::new().text("par").cut(),
        Play::new().text("par").clean_end(),
    ] {
        let script = Script::new()
            .on("a", death)
            .on("b", Play::new().text("never").finish());
        let (outcome, client) = script.run(STREAM).await;
        assert!(
            matches!(
                outcome.end,
                End::Failed {
                    committed: true,
                    ..
                }
            ),
            "{:?}",
            outcome.end
        );
        assert_eq!(outcome.attempts, [Why::First]);
        let text = client.text();
        assert!(text.contains("par") && text.contains("\"error\"") && !text.contains("[DONE]"));
        assert!(client.ended);
    }
}

#[tokio::test(start_paused = true)]
async fn a_whole_answer_survives_a_death_at_any_point() {
    let script = Script::new()
        .on("a", Play::new().text("lost half").cut())
        .on("b", Play::new().text("whole").finish());
    let (outcome, client) = script.run(WHOLE).await;
    assert_eq!(outcome.end, End::Complete);
    assert!(
        client.text().contains("\"content\":\"whole\""),
        "{}",
        client.text()
    );
}

#[tokio::test(start_paused = true)]
async fn when_every_backend_fails_the_last_reason_is_told() {
    let script = Script::new()
        .on("a", Play::refused())
        .on("b", Play::refused());
    let (outcome, client) = script.run(STREAM).await;
    let head = client.head.clone().unwrap();
    assert_eq!((head.status, head.retry_after), (503, Some(2)));
    assert_eq!(outcome.attempts.len(), 2);
    assert!(client.text().contains("no_backend"), "{}", client.text());
}

#[tokio::test(start_paused = true)]
async fn a_silent_backend_is_left_after_first_event_and_a_stalled_one_after_inter_token() {
    let script = Script::new().on("a", Play::new().comments_for(secs(700)));
    let (outcome, client) = script.run(STREAM).await;
    assert_eq!(outcome.aborts, [AbortCause::Timeout]);
    assert_eq!(
        client.pieces.last().unwrap().0,
        secs(600),
        "own pings of a backend are no event"
    );

    let script = Script::new().on("a", Play::new().text("x").comments_for(secs(700)));
    let (outcome, client) = script.run(STREAM).await;
    assert!(matches!(
        outcome.end,
        End::Failed {
            error: TurnError::Timeout {
                stage: "timeouts.inter_token",
                ..
            },
            ..
        }
    ));
    assert_eq!(client.pieces.last().unwrap().0, secs(120));
}

#[tokio::test(start_paused = true)]
async fn prompt_progress_is_a_sign_of_life() {
    let progress =
        "data: {\"choices\":[],\"prompt_progress\":{\"total\":9,\"cache\":0,\"processed\":1}}\n\n";
    let mut play = Play::new();
    for _ in 0..10 {
        play = play.raw(progress).wait(secs(100));
    }
    let script = Script::new().on("a", play.text("done").finish());
    let (outcome, _) = script.run(STREAM).await;
    assert_eq!(
        outcome.end,
        End::Complete,
        "1000 s of prompt processing with progress are fine"
    );
}

#[tokio::test(start_paused = true)]
async fn the_whole_turn_has_an_end() {
    let mut play = Play::new();
    for _ in 0..40 {
        play = play.text("x").wait(secs(100));
    }
    let script = Script::new().on("a", play);
    let (outcome, client) = script.run(STREAM).await;
    assert!(matches!(
        outcome.end,
        End::Failed {
            error: TurnError::Timeout {
                stage: "timeouts.total",
                ..
            },
            ..
        }
    ));
    assert_eq!(client.pieces.last().unwrap().0, secs(3600));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_drops_the_attempt_at_once() {
    for body in [STREAM, WHOLE] {
        let play = Play::new().text("x").wait(secs(500)).text("y").finish();
        let script = Script::new().on("a", play).client_leaves_after(secs(3));
        let dropped = script.dropped();
        let (outcome, _) = script.run(body).await;
        assert_eq!(outcome.end, End::ClientGone);
        assert_eq!(outcome.aborts, [AbortCause::ClientGone]);
        assert_eq!(dropped.lock().as_slice(), [secs(3)]);
    }
}

#[tokio::test(start_paused = true)]
async fn connections_are_kept_when_read_to_their_end_and_dropped_otherwise() {
    let script = Script::new().on("a", Play::new().text("x").finish());
    let (released, dropped) = (script.released(), script.dropped());
    script.run(STREAM).await;
    assert_eq!((*released.lock(), dropped.lock().len()), (1, 0));

    let with_stop = STREAM.replace("\"stream\"", "\"stop\":[\"END\"],\"stream\"");
    let script = Script::new().on(
        "a",
        Play::new()
            .text("go EN")
            .text("D on")
            .wait(secs(9))
            .finish(),
    );
    let (released, dropped) = (script.released(), script.dropped());
    let (outcome, client) = script.run(&with_stop).await;
    assert_eq!(outcome.end, End::Complete);
    assert_eq!(
        (*released.lock(), dropped.lock().as_slice()),
        (0, [secs(0)].as_slice())
    );
    assert!(client.text().contains("go ") && !client.text().contains("EN"));
    assert_whole_stream(&client);
}

//! Guards inside the open stream.

use std::time::Duration;

use super::assert_whole_stream;
use super::script::{Play, Recorded, Script};
use crate::config::Preset;
use crate::exchange::End;
use crate::telemetry::labels::Why;

const TOOL: &str = r#"{"type":"function","function":{"name":"ls","parameters":{"type":"object","properties":{"path":{"type":"string"}},"required":["path"],"additionalProperties":false}}}"#;

fn request(stream: bool, more: &str) -> String {
    format!(
        r#"{{"model":"m","messages":[{{"role":"user","content":"hi"}}],"tools":[{TOOL}],"stream":{stream}{more}}}"#
    )
}

/// The arguments of every call the client got, put together as a client does.
fn calls(client: &Recorded) -> Vec<(String, String)> {
    let mut calls: Vec<(String, String)> = Vec::new();
    for line in client
        .text()
        .lines()
        .filter_map(|line| line.strip_prefix("data: {"))
    {
        let chunk: serde_json::Value = serde_json::from_str(&format!("{{{line}")).unwrap();
        let delta = &chunk["choices"][0]["delta"]["tool_calls"][0];
        if let Some(name) = delta["function"]["name"].as_str() {
            calls.push((name.to_owned(), String::new()));
        }
        if let Some(more) = delta["function"]["arguments"].as_str() {
            calls.last_mut().unwrap().1.push_str(more);
        }
    }
    calls
}

fn one(name: &str, arguments: &str) -> Vec<(String, String)> {
    vec![(name.to_owned(), arguments.to_owned())]
}

#[tokio::test(start_paused = true)]
async fn a_good_call_passes_byte_for_byte() {
    let arguments = r#"{ "path" : "a}}}}<b>\u00e9" }"#;
    let script = Script::new().on(
        "a",
        Play::new().text("let me").call("ls", arguments).finish(),
    );
    let (outcome, client) = script.run(&request(true, "")).await;
    assert_eq!(
        (outcome.end, outcome.attempts.as_slice()),
        (End::Complete, [Why::First].as_slice())
    );
    assert_eq!(calls(&client), one("ls", arguments));
    assert!(client.text().contains("\"finish_reason\":\"tool_calls\""));
    assert_whole_stream(&client);
}

#[tokio::test(start_paused = true)]
async fn a_bad_call_is_asked_for_again_inside_the_open_stream() {
    let script = Script::new()
        .on(
            "a",
            Play::new()
                .text("let me look")
                .call("ls", r#"{"wrong":1}"#)
                .finish(),
        )
        .on(
            "b",
            Play::new()
                .text(r#"{"name":"ls","arguments":{"path":"src"}}"#)
                .finish(),
        );
    let bodies = script.bodies();
    let (outcome, client) = script.run(&request(true, "")).await;
    assert_eq!(outcome.end, End::Complete);
    assert_eq!(outcome.attempts, [Why::First, Why::Reask]);
    assert_eq!(calls(&client), one("ls", r#"{"path":"src"}"#));
    let text = client.text();
    assert_eq!(
        text.matches("let me look").count(),
        1,
        "what was said is not said again"
    );
    assert!(
        !text.contains("arguments\\\":{"),
        "the constrained answer itself is not shown"
    );
    assert_whole_stream(&client);
    let bodies = bodies.lock();
    let (first, second) = (&bodies[0], &bodies[1]);
    assert!(
        second.contains("\"response_format\":{\"type\":\"json_schema\""),
        "{second}"
    );
    let tools = &first[first.find("\"tools\":").unwrap()..first.find(",\"stream\"").unwrap()];
    assert!(second.contains(tools), "the tools keep their bytes");
    let prefix = &first[..first.find("}],\"tools\"").unwrap()];
    assert!(second.starts_with(prefix), "everything is appended");
}

/// What each attempt's backend has measured says which of them was abandoned over a call that cannot be used:
/// malformed answers are counted by it. One that is asked for again for another reason is none.
#[tokio::test(start_paused = true)]
async fn only_an_attempt_with_a_bad_call_is_measured_as_such() {
    let bad = |play: Play| async move {
        let good = Play::new().text(r#"{"name":"ls","arguments":{"path":"src"}}"#);
        let script = Script::new().on("a", play).on("b", good.finish());
        let (outcome, client) = script.run(&request(true, "")).await;
        assert_eq!(outcome.attempts, [Why::First, Why::Reask]);
        let measured = client.report.measured.iter();
        measured.map(|attempt| attempt.bad_call).collect::<Vec<_>>()
    };
    let call = Play::new().call("ls", r#"{"wrong":1}"#).finish();
    assert_eq!(bad(call).await, [true, false]);
    let announced = Play::new().text("Let me list the files:").finish();
    assert_eq!(bad(announced).await, [false, false]);
}

/// Regression: asked at once, llama-server had the slot of the closed attempt still at work, took the other one
/// and evaluated the whole prompt again.
#[tokio::test(start_paused = true)]
async fn a_closed_attempt_is_put_down_before_the_next_is_asked() {
    let token = Duration::from_millis(40);
    let bad = Play::new()
        .text("let ")
        .wait(token)
        .text("me")
        .wait(token)
        .call("ls", r#"{"wrong":1}"#)
        .wait(token)
        .finish();
    let good = Play::new()
        .text(r#"{"name":"ls","arguments":{"path":"src"}}"#)
        .finish();
    let script = Script::new().on("a", bad).on("b", good);
    let (opened, dropped) = (script.opened(), script.dropped());
    let (outcome, _) = script.run(&request(true, "")).await;
    assert_eq!(outcome.attempts, [Why::First, Why::Reask]);
    let waited = opened.lock()[1] - dropped.lock()[0];
    assert!(
        (token * 2..Duration::from_millis(150)).contains(&waited),
        "{waited:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn exhausted_attempts_end_as_a_plain_answer() {
    let bad = || Play::new().call("ls", "[]").finish();
    let script = Script::new()
        .on("a", bad())
        .on("b", Play::new().text("no").finish())
        .on("c", bad());
    let (outcome, client) = script.run(&request(true, "")).await;
    assert_eq!((outcome.end, outcome.attempts.len()), (End::Complete, 3));
    assert!(calls(&client).is_empty());
    let text = client.text();
    assert!(
        text.contains("could not be used") && text.contains("\"finish_reason\":\"stop\""),
        "{text}"
    );
    assert_whole_stream(&client);
}

#[tokio::test(start_paused = true)]
async fn a_call_the_server_could_not_parse_is_asked_for_again() {
    let misparse = r#"{"error":{"code":500,"message":"The model produced output that does not match the expected peg-native format","type":"server_error"}}"#;
    let good = || {
        Play::new()
            .text(r#"{"name":"ls","arguments":{"path":"x"}}"#)
            .finish()
    };
    for first in [
        Play::new().status(500, misparse),
        Play::new().text("hm").raw(&format!("data: {misparse}\n\n")),
    ] {
        let script = Script::new().on("a", first).on("b", good());
        let (outcome, client) = script.run(&request(true, "")).await;
        assert_eq!(outcome.attempts, [Why::First, Why::Reask]);
        assert_eq!(calls(&client), one("ls", r#"{"path":"x"}"#));
        assert_whole_stream(&client);
    }
}

#[tokio::test(start_paused = true)]
async fn a_required_call_that_was_missed_is_asked_for() {
    let script = Script::new()
        .on("a", Play::new().text("I would rather talk").finish())
        .on(
            "b",
            Play::new()
                .text(r#"{"name":"ls","arguments":{"path":"."}}"#)
                .finish(),
        );
    let (_, client) = script
        .run(&request(true, r#","tool_choice":"required""#))
        .await;
    assert_eq!(calls(&client), one("ls", r#"{"path":"."}"#));
}

#[tokio::test(start_paused = true)]
async fn a_textual_call_becomes_a_call_and_its_text_is_not_shown() {
    let say = "<tool_call>{\"name\":\"ls\",\"arguments\":{\"path\":\"/\"}}</tool_call>";
    let script = Script::new().on(
        "a",
        Play::new()
            .text("Look: ")
            .text(&say[..9])
            .text(&say[9..])
            .finish(),
    );
    let (_, client) = script.run(&request(true, "")).await;
    assert_eq!(calls(&client), one("ls", r#"{"path":"/"}"#));
    assert!(!client.text().contains("tool_call>"));
}

#[tokio::test(start_paused = true)]
async fn a_whole_answer_is_guarded_alike() {
    let script = Script::new()
        .on("a", Play::new().text("let me").call("ls", "{}").finish())
        .on(
            "b",
            Play::new()
                .text(r#"{"name":"ls","arguments":{"path":"y"}}"#)
                .finish(),
        );
    let (outcome, client) = script.run(&request(false, "")).await;
    assert_eq!(outcome.attempts, [Why::First, Why::Reask]);
    let body: serde_json::Value = serde_json::from_str(&client.text()).unwrap();
    let message = &body["choices"][0]["message"];
    assert_eq!(message["content"], "let me");
    assert_eq!(
        message["tool_calls"][0]["function"]["arguments"],
        r#"{"path":"y"}"#
    );
    assert_eq!(body["choices"][0]["finish_reason"], "tool_calls");
}

#[tokio::test(start_paused = true)]
async fn observe_and_off_change_nothing() {
    for preset in [Preset::Observe, Preset::Off] {
        let bad = Play::new()
            .text("<think>a</think>b")
            .call("ls", "{\"wrong\":1}")
            .finish();
        let script = Script::new().on("a", bad).preset(preset);
        let (outcome, client) = script.run(&request(true, "")).await;
        assert_eq!(outcome.attempts, [Why::First]);
        assert_eq!(calls(&client), one("ls", "{\"wrong\":1}"), "{preset:?}");
        assert!(client.text().contains("<think>a</think>b"));
    }
}

#[tokio::test(start_paused = true)]
async fn strict_shows_nothing_of_an_answer_that_turns_out_bad() {
    let script = Script::new()
        .on(
            "a",
            Play::new().text("half a thought").call("ls", "{}").finish(),
        )
        .on(
            "b",
            Play::new()
                .text(r#"{"name":"ls","arguments":{"path":"z"}}"#)
                .finish(),
        )
        .preset(Preset::Strict);
    let (_, client) = script.run(&request(true, "")).await;
    assert!(!client.text().contains("half a thought"));
    assert_eq!(calls(&client), one("ls", r#"{"path":"z"}"#));
}

#[tokio::test(start_paused = true)]
async fn an_empty_answer_and_one_of_reasoning_only_get_a_second_chance() {
    let thinking =
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"reasoning_content\":\"hm\"}}]}\n\n";
    for first in [Play::new().finish(), Play::new().raw(thinking).finish()] {
        let script = Script::new()
            .on("a", first)
            .on("b", Play::new().text("here").finish());
        let (outcome, client) = script.run(&request(true, "")).await;
        assert_eq!(outcome.attempts, [Why::First, Why::Reask]);
        assert!(client.text().contains("here"));
        assert_whole_stream(&client);
    }
}

/// The earlier system's ladder and words, which people search their logs for.
#[tokio::test(start_paused = true)]
async fn uap_legacy_asks_and_gives_up_in_the_earlier_words() {
    let mut script = Script::new().preset(Preset::UapLegacy);
    for name in ["a", "b", "c", "d"] {
        script = script.on(name, Play::new().call("ls", "not JSON").finish());
    }
    let bodies = script.bodies();
    let (outcome, client) = script.run(&request(true, r#","max_tokens":9000"#)).await;
    assert_eq!(outcome.attempts.len(), 4);
    let bodies = bodies.lock();
    for (number, temperature) in [(1, "0.0"), (2, "0.5"), (3, "0.5")] {
        let body = &bodies[number];
        assert!(
            body.contains(&format!("[TOOL CALL REPAIR attempt {number}/3]")),
            "{body}"
        );
        assert!(body.contains(r#""max_tokens":2048"#), "{body}");
        assert!(
            body.contains(&format!(r#""temperature":{temperature}"#)),
            "{body}"
        );
        assert!(body.contains(TOOL), "all tools: {body}");
    }
    let text = client.text();
    assert!(
        text.contains("Please retry the same request.")
            && text.contains(r#""finish_reason":"stop""#)
    );
    assert!(calls(&client).is_empty());
}

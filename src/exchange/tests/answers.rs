//! Answers that are no good as answers: cut, asked about, ended properly.

use super::assert_whole_stream;
use super::script::{Play, Recorded, Script};
use crate::config::Preset;
use crate::exchange::{End, Outcome};
use crate::telemetry::labels::Why;

const TOOL: &str = r#"{"type":"function","function":{"name":"ls","parameters":{"type":"object"}}}"#;

fn request(stream: bool) -> String {
    format!(
        r#"{{"model":"m","messages":[{{"role":"user","content":"hi"}}],"tools":[{TOOL}],"stream":{stream}}}"#
    )
}

/// The visible text of an OpenAI answer.
fn text(client: &Recorded) -> String {
    let all = client.text();
    if let Ok(body) = serde_json::from_str::<serde_json::Value>(&all) {
        let content = &body["choices"][0]["message"]["content"];
        return content.as_str().unwrap_or_default().to_owned();
    }
    let chunks = all.lines().filter_map(|line| line.strip_prefix("data: {"));
    chunks
        .map(|chunk| {
            let chunk: serde_json::Value = serde_json::from_str(&format!("{{{chunk}")).unwrap();
            let content = &chunk["choices"][0]["delta"]["content"];
            content.as_str().unwrap_or_default().to_owned()
        })
        .collect()
}

async fn two(first: Play, second: Play, stream: bool) -> (Outcome, Recorded, Vec<String>) {
    let script = Script::new().on("a", first).on("b", second);
    let bodies = script.bodies();
    let (outcome, client) = script.run(&request(stream)).await;
    assert_eq!(outcome.end, End::Complete);
    let bodies = bodies.lock().clone();
    (outcome, client, bodies)
}

fn say(text: &str) -> Play {
    Play::new().text(text).finish()
}

const UNIT: &str = "I will look at the file once more. ";

/// A model in a loop, one sentence a chunk, which would never stop by itself.
fn in_circles() -> Play {
    (0..500).fold(Play::new().text("So. "), |play, _| play.text(UNIT))
}

#[tokio::test(start_paused = true)]
async fn a_repetition_is_cut_and_asked_about_once() {
    for stream in [true, false] {
        let script = Script::new()
            .on("a", in_circles())
            .on("b", say("The file is empty."));
        let (bodies, dropped) = (script.bodies(), script.dropped());
        let (outcome, client) = script.run(&request(stream)).await;
        assert_eq!(outcome.attempts, [Why::First, Why::Reask]);
        assert_eq!(dropped.lock().len(), 1, "the backend is told by closing");
        let text = text(&client);
        assert!(text.ends_with("\n\nThe file is empty."), "{text}");
        let times = text.matches(UNIT.trim()).count();
        match stream {
            true => assert!(times < 60, "{times} times"),
            false => assert_eq!(
                times, 1,
                "a whole answer is cut where the repetition begins"
            ),
        }
        let second = bodies.lock()[1].clone();
        assert!(second.contains(r#""temperature":0.9"#), "{second}");
        assert_eq!(
            second.matches(UNIT.trim()).count(),
            2,
            "said once, and named once: {second}"
        );
        assert!(!second.contains("json_schema"), "no call is forced");
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_repetition_ends_the_answer() {
    for stream in [true, false] {
        let (outcome, client, _) = two(in_circles(), in_circles(), stream).await;
        assert_eq!(outcome.attempts.len(), 2);
        let all = client.text();
        assert!(all.contains(r#""finish_reason":"stop""#), "{all}");
        if stream {
            assert_whole_stream(&client);
        } else {
            assert_eq!(text(&client).matches(UNIT.trim()).count(), 2);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn remains_of_a_call_are_never_shown() {
    for remains in [
        "</parameter>\n</function>\n</tool_call>",
        "</tool_call>",
        "<parameter=path>\nx",
    ] {
        for stream in [true, false] {
            let first = Play::new().text("I look.\n").text(remains).finish();
            let (outcome, client, bodies) = two(first, say("Nothing there."), stream).await;
            assert_eq!(outcome.attempts, [Why::First, Why::Reask]);
            assert_eq!(text(&client), "I look.\n\n\nNothing there.");
            assert!(bodies[1].contains("part of a tool call"), "{}", bodies[1]);
        }
    }
    let again = || Play::new().text("Done.\n</tool_call>").finish();
    let script = Script::new()
        .on("a", again())
        .on("b", again())
        .on("c", again());
    let (outcome, client) = script.run(&request(true)).await;
    assert_eq!(outcome.attempts.len(), 3);
    assert!(!client.text().contains("tool_call>"), "{}", client.text());
    assert_whole_stream(&client);
}

#[tokio::test(start_paused = true)]
async fn an_answer_about_tags_is_left_alone() {
    for said in [
        "Close it with </parameter> and go on.",
        "The closing tag is `</tool_call>`",
        "```xml\n<tool_call>\n</tool_call>\n```",
        "A call looks like this: <tool_call>...</tool_call>",
        "<tool_call>{\"name\": \"unknown\"}</tool_call>",
        "<div>\n</div>",
    ] {
        let (outcome, client) = Script::new().on("a", say(said)).run(&request(true)).await;
        assert_eq!(outcome.attempts, [Why::First], "{said}");
        assert_eq!(text(&client), said);
    }
}

#[tokio::test(start_paused = true)]
async fn an_announced_action_is_asked_for_once() {
    for stream in [true, false] {
        let acting = Play::new().call("ls", "{}").finish();
        let (outcome, client, bodies) = two(say("Let me list the files:"), acting, stream).await;
        assert_eq!(outcome.attempts, [Why::First, Why::Reask]);
        assert!(client.text().contains("tool_calls"), "{}", client.text());
        assert!(!bodies[1].contains("json_schema"), "no call is forced");
        assert!(!bodies[1].contains("temperature"), "as the client wants it");
        // Still nothing: so be it.
        let still = say("Let me list the files:");
        let (outcome, client, _) = two(still.clone(), still, stream).await;
        assert_eq!(outcome.attempts.len(), 2);
        assert_eq!(
            text(&client),
            "Let me list the files:\n\nLet me list the files:"
        );
        let (outcome, client, _) =
            two(say("Let me list the files:"), Play::new().finish(), stream).await;
        assert_eq!(outcome.attempts.len(), 2);
        assert_eq!(
            text(&client),
            "Let me list the files:",
            "an empty answer has nothing to add"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_plain_final_answer_costs_one_generation() {
    for preset in [Preset::Standard, Preset::Strict, Preset::Observe] {
        for said in [
            "Done.",
            "The bug is fixed. Let me know if there is more.",
            "Shall I run the tests?",
        ] {
            let script = Script::new().on("a", say(said)).preset(preset);
            let (outcome, client) = script.run(&request(true)).await;
            assert_eq!(outcome.attempts, [Why::First], "{said}");
            assert_eq!(text(&client), said);
        }
    }
}

/// Found while the guards were completed: the stream ended without a finish.
#[tokio::test(start_paused = true)]
async fn a_further_attempt_that_fails_leaves_a_proper_end() {
    let deaths = || {
        [
            Play::refused(),
            Play::new().text("x").cut(),
            Play::new().status(400, "{}"),
        ]
    };
    for stream in [true, false] {
        for death in deaths() {
            let mut script = Script::new().on("a", say("Let me list the files:"));
            for name in ["b", "c", "d", "e", "f"] {
                script = script.on(name, death.clone());
            }
            let (outcome, client) = script.run(&request(stream)).await;
            if outcome.end != End::Complete {
                // Content of the further attempt was streamed before it died.
                assert!(
                    stream && client.text().contains("\"error\""),
                    "{:?}",
                    outcome.end
                );
                continue;
            }
            assert_eq!(text(&client), "Let me list the files:");
            let all = client.text();
            assert!(all.contains(r#""finish_reason":"stop""#), "{all}");
        }
    }
}

/// Found while the guards were completed: arguments were lost, since the call that had been collected
/// before the backend died was still counted.
#[tokio::test(start_paused = true)]
async fn a_whole_answer_with_a_call_survives_the_death_of_its_backend() {
    let call = || Play::new().call("ls", r#"{"path":"x"}"#).text("so");
    let script = Script::new().on("a", call().cut()).on("b", call().finish());
    let (outcome, client) = script.run(&request(false)).await;
    assert_eq!(outcome.attempts, [Why::First, Why::Failover]);
    let body: serde_json::Value = serde_json::from_str(&client.text()).unwrap();
    let calls = &body["choices"][0]["message"]["tool_calls"];
    assert_eq!(calls.as_array().unwrap().len(), 1);
    assert_eq!(calls[0]["function"]["arguments"], r#"{"path":"x"}"#);
}

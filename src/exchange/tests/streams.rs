//! A great many random upstream streams with guards on: turns of several attempts, with textual calls,
//! remains, repetitions, broken and dying backends. Whatever comes, the client gets an order its SDK
//! takes, calls that are good, and never a false end.
//!
//! `DROVER_STREAMS` sets how many (20,000); `DROVER_STREAMS_DIR` makes files of them, which
//! `tests/sdk/streams` has the official SDKs read.

use std::fs;
use std::sync::LazyLock;

use bytes::BytesMut;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

use super::accept::{Accepted, Stopped, accept};
use super::order::upstream::{End, Step, end, pieces, steps};
use crate::config::{self, Preset};
use crate::dialect::llama::{Ask, Fault, Target};
use crate::dialect::{Dialect, Meta};
use crate::exchange::{ChatConversion, Conversion, Guards, Progress};

/// What else a model may say.
const SAYINGS: &[&str] = &[
    "<tool_call>",
    "{\"name\":\"f\",\"arguments\":{\"a\":1}}",
    "{\"name\":\"f\",\"arguments\":{\"a\":",
    "</tool_call>",
    "<function=f><parameter=a>\n1\n</parameter></function>",
    "\n</parameter>\n",
    "<think>",
    "</think>",
    "```json\n{\"a\": 2}\n```",
    "{\"a\":1}",
    "Let me read the file:",
    "I am done. ",
];

/// Calls with a text that is large enough to be released early; good and bad ends, and none.
static LARGE: LazyLock<[String; 4]> = LazyLock::new(|| {
    let text = "a line\\n".repeat(200);
    ["\"}", "\",}", "\",\"a\":\"x\"}", ""].map(|end| format!(r#"{{"a":1,"t":"{text}{end}"#))
});

/// One attempt's course.
#[derive(Clone, Debug)]
struct Course {
    steps: Vec<Step>,
    end: End,
    cut: usize,
}

fn course() -> impl Strategy<Value = Course> {
    let said = select(SAYINGS).prop_map(Step::Text);
    let good = Just(Step::Call("{\"a\":1}"));
    let large = (0..LARGE.len()).prop_map(|number| Step::Call(&LARGE[number]));
    let again = Just(Step::Text(
        "I look at it again and again. I look at it again and again. I look at it again and again. ",
    ));
    let more = prop_oneof![
        6 => vec(prop_oneof![12 => said, 3 => good, 1 => large], 0..4),
        1 => vec(again, 12..14),
    ];
    (steps(), more, any::<bool>(), end(), 1usize..300).prop_map(|(steps, more, first, end, cut)| {
        let steps = match first {
            true => [more, steps].concat(),
            false => [steps, more].concat(),
        };
        Course { steps, end, cut }
    })
}

#[derive(Clone, Debug)]
struct Story {
    preset: Preset,
    early_release: bool,
    choice: &'static str,
    stop: bool,
    courses: Vec<Course>,
}

fn story() -> impl Strategy<Value = Story> {
    let presets = [
        Preset::Standard,
        Preset::Strict,
        Preset::UapLegacy,
        Preset::Observe,
    ];
    let choices = ["auto", "auto", "required", "none"];
    (
        select(presets.to_vec()),
        any::<bool>(),
        select(choices.to_vec()),
        any::<bool>(),
        vec(course(), 1..4),
    )
        .prop_map(|(preset, early_release, choice, stop, courses)| Story {
            preset,
            early_release,
            choice,
            stop,
            courses,
        })
}

fn conversion(dialect: Dialect, story: &Story, stream: bool) -> ChatConversion {
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}, "t": {"type": "string"}}});
    let mut body = json!({"model": "m", "stream": stream, "tool_choice": story.choice,
        "messages": [{"role": "user", "content": "x"}],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": schema}}]});
    if story.stop {
        body["stop"] = json!(["END"]);
    }
    let turn = Dialect::OpenAi.decode(body.to_string().as_bytes()).unwrap();
    let meta = Meta {
        id: "1".into(),
        created: 1,
        model: "m".into(),
    };
    let mut settings = config::Guard::default();
    settings.tool_calls.early_release = story.early_release;
    let guards = Guards::new(story.preset, &settings);
    ChatConversion::new(dialect, turn, meta, guards)
}

/// How an attempt ended.
enum Came {
    Complete,
    Again,
    Fault(Fault),
}

fn attempt(
    conversion: &mut ChatConversion,
    ask: Option<&Ask>,
    course: &Course,
    out: &mut BytesMut,
) -> Came {
    conversion.begin(Target::default(), ask);
    for piece in pieces(&course.steps, course.end, course.cut) {
        let Some(piece) = piece else {
            conversion.ping(out);
            continue;
        };
        match conversion.feed(&piece, out) {
            Ok(Progress::Complete | Progress::Cancel) => break,
            Ok(Progress::Again) => return Came::Again,
            Ok(_) => {}
            Err(fault) => return Came::Fault(fault),
        }
    }
    match conversion.end(out) {
        Ok(()) => Came::Complete,
        Err(fault) => Came::Fault(fault),
    }
}

/// The turn loop without sockets and clocks. Whether the answer is complete, and what the client got.
fn tell(conversion: &mut ChatConversion, story: &Story) -> (bool, String) {
    let mut out = BytesMut::new();
    let mut ask: Option<Ask> = None;
    let mut complete = false;
    for number in 0.. {
        let course = &story.courses[number % story.courses.len()];
        let fault = match attempt(conversion, ask.as_ref(), course, &mut out) {
            Came::Complete => {
                complete = true;
                break;
            }
            Came::Again => match conversion.ask().filter(|_| number < 5) {
                Some(next) => {
                    ask = Some(next);
                    continue;
                }
                None => {
                    conversion.give_up(&mut out);
                    complete = true;
                    break;
                }
            },
            Came::Fault(fault) => fault,
        };
        if !conversion.delivered() && number < 5 {
            continue;
        }
        if ask.is_some() && !conversion.delivered() {
            conversion.give_up(&mut out);
            complete = true;
        } else {
            conversion.fail(&fault.into_error(), &mut out);
        }
        break;
    }
    (complete, String::from_utf8(out.to_vec()).unwrap())
}

fn check_stream(dialect: Dialect, story: &Story) -> Result<String, TestCaseError> {
    let mut conversion = conversion(dialect, story, true);
    let (complete, stream) = tell(&mut conversion, story);
    let answer = accept(dialect, &stream).map_err(TestCaseError::fail)?;
    prop_assert_eq!(complete, answer.stop.is_some(), "{}", stream);
    prop_assert_eq!(complete, !answer.failed, "{}", stream);
    prop_assert!(!complete || !conversion.report().unguarded, "{}", stream);
    check_calls(story, &answer).map_err(|e| TestCaseError::fail(format!("{e}: {stream}")))?;
    Ok(stream)
}

/// Where guards act, every call that reaches a client is one of the tool on offer, with arguments that
/// match, and a complete answer is not empty.
fn check_calls(story: &Story, answer: &Accepted) -> Result<(), String> {
    if !story.preset.acts() {
        return Ok(());
    }
    for (at, call) in answer.calls.iter().enumerate() {
        // The end of what was released early, and of its stream.
        if answer.failed && story.early_release && at + 1 == answer.calls.len() {
            continue;
        }
        let arguments: Value = serde_json::from_str(&call.arguments).map_err(|e| e.to_string())?;
        let good = arguments.is_object() && arguments.get("a").is_none_or(Value::is_i64);
        if call.name != "f" || !good {
            return Err(format!("a bad call: {call:?}"));
        }
    }
    let empty = answer.calls.is_empty() && answer.texts.concat().trim().is_empty();
    if answer.stop == Some(Stopped::End) && empty && !story.stop {
        return Err("an empty answer".into());
    }
    Ok(())
}

/// A whole answer: the same rules, without an order to look at.
fn check_whole(dialect: Dialect, story: &Story) -> Result<(), TestCaseError> {
    let mut conversion = conversion(dialect, story, false);
    if !tell(&mut conversion, story).0 {
        return Ok(());
    }
    prop_assert!(!conversion.report().unguarded);
    let body = conversion.whole().expect("collected");
    let text = std::str::from_utf8(&body).unwrap();
    prop_assert!(serde_json::from_str::<Value>(text).is_ok(), "{}", text);
    let ends_in_calls = text.contains(r#""finish_reason":"tool_calls""#)
        || text.contains(r#""stop_reason":"tool_use""#);
    let calls = text.contains(r#""type":"tool_use""#) || text.contains(r#""tool_calls":["#);
    prop_assert!(!ends_in_calls || calls, "{}", text);
    Ok(())
}

fn count() -> u32 {
    let set = std::env::var("DROVER_STREAMS").ok();
    set.and_then(|count| count.parse().ok()).unwrap_or(20_000)
}

/// Deterministic: the same streams every time.
fn many(count: u32, mut check: impl FnMut(&Story) -> Result<(), TestCaseError>) {
    let config = Config {
        cases: count,
        failure_persistence: None,
        ..Config::default()
    };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let checked = std::cell::RefCell::new(&mut check);
    let result =
        TestRunner::new_with_rng(config, rng).run(&story(), |story| (checked.borrow_mut())(&story));
    if let Err(error) = result {
        panic!("{error}");
    }
}

#[test]
fn random_streams_are_orders_the_sdks_take() {
    for &dialect in Dialect::ALL {
        many(count() / 2 / Dialect::ALL.len() as u32, |story| {
            check_stream(dialect, story).map(drop)
        });
    }
}

#[test]
fn random_whole_answers_are_whole() {
    for &dialect in Dialect::ALL {
        many(count() / 2 / Dialect::ALL.len() as u32, |story| {
            check_whole(dialect, story)
        });
    }
}

/// Files for the official SDKs: the stream, and what it has to come to.
#[test]
#[ignore = "writes files for tests/sdk/streams; scripts/sdk-streams.sh runs it"]
fn write_streams_for_the_sdks() {
    let directory = std::env::var("DROVER_STREAMS_DIR").expect("DROVER_STREAMS_DIR");
    for &dialect in Dialect::ALL {
        let name = format!("{dialect:?}").to_lowercase();
        let below = std::path::Path::new(&directory).join(&name);
        fs::create_dir_all(&below).unwrap();
        let mut number = 0;
        many(count() / Dialect::ALL.len() as u32, |story| {
            let stream = check_stream(dialect, story)?;
            let answer = accept(dialect, &stream).map_err(TestCaseError::fail)?;
            let calls: Vec<_> = answer
                .calls
                .iter()
                .map(|call| json!([call.name, call.arguments]))
                .collect();
            let expected = json!({"text": answer.texts.concat(), "calls": calls,
                "complete": answer.stop.is_some(), "stop": answer.stop.map(|stop| format!("{stop:?}"))});
            let file = below.join(format!("{number:06}"));
            fs::write(file.with_extension("sse"), &stream).unwrap();
            fs::write(file.with_extension("json"), expected.to_string()).unwrap();
            number += 1;
            Ok(())
        });
    }
}

//! Every guard, in every dialect, streamed and whole, with every preset: no path skips one.

use super::script::{Play, Recorded, Script};
use crate::config::Preset;
use crate::dialect::Dialect;
use crate::exchange::{End, Outcome};
use crate::guard::tool_calls::BadCall;
use crate::guard::trouble::Trouble;

const TOOL: &str = r#"{"type":"function","function":{"name":"ls","parameters":{"type":"object","properties":{"path":{"type":"string"}},"required":["path"],"additionalProperties":false}}}"#;

/// What a model does, and what a guard calls it.
struct Case {
    kind: &'static str,
    /// More members of the request.
    more: &'static str,
    first: Play,
    /// What it does when asked again; none when it is not to be asked.
    then: Option<Play>,
    /// What no client may see of it when guards act.
    hidden: &'static str,
}

fn case(kind: &'static str, first: Play, then: Option<Play>) -> Case {
    Case {
        kind,
        more: "",
        first,
        then,
        hidden: "\u{0}",
    }
}

impl Case {
    fn with(mut self, more: &'static str) -> Self {
        self.more = more;
        self
    }

    fn hides(mut self, hidden: &'static str) -> Self {
        self.hidden = hidden;
        self
    }
}

fn cases() -> Vec<Case> {
    let say = |text: &str| Play::new().text(text).finish();
    let call = |name: &str, arguments: &str| Play::new().call(name, arguments).finish();
    let good = || Some(say(r#"{"name":"ls","arguments":{"path":"x"}}"#));
    let misparse = r#"{"error":{"code":500,"message":"The model produced output that does not match the expected peg-native format","type":"server_error"}}"#;
    let circles = "I will look at the file once more. ".repeat(60);
    vec![
        case("unknown_tool", call("rm", r#"{"path":"HIDDEN"}"#), good()).hides("HIDDEN"),
        case(
            "truncated",
            Play::new().call("ls", r#"{"path":"HIDD"#).ends("length"),
            good(),
        )
        .hides("HIDD"),
        case("malformed", call("ls", "HIDDEN"), good()).hides("HIDDEN"),
        case("malformed", Play::new().status(500, misparse), good()).hides("peg-native"),
        case(
            "malformed",
            Play::new().text("hm").raw(&format!("data: {misparse}\n\n")),
            good(),
        )
        .hides("peg-native"),
        case("invalid", call("ls", r#"{"HIDDEN":1}"#), good()).hides("HIDDEN"),
        case("missed_call", say("I would rather talk."), good())
            .with(r#","tool_choice":"required""#),
        case("missed_call", say("I would rather STOP talk."), good())
            .with(r#","tool_choice":"required","stop":["STOP"]"#),
        case(
            "reasoning_only",
            Play::new().thinking("hm").finish(),
            Some(say("here")),
        ),
        case("empty_answer", Play::new().finish(), Some(say("here"))),
        case("inline_reasoning", say("<think>so</think>there"), None).hides("<think>"),
        case(
            "textual_call",
            say(r#"<tool_call>{"name":"ls","arguments":{"path":"x"}}</tool_call>"#),
            None,
        )
        .hides("tool_call>"),
        case("textual_call", say("```json\n{\"path\": \"x\"}\n```"), None).hides("```"),
        case("trailing_comma", call("ls", r#"{"path":"x",}"#), None).hides(",}"),
        case("name", call("functions.ls", r#"{"path":"x"}"#), None).hides("functions.ls"),
        case(
            "leaked_fragment",
            say("I look.\n</parameter>\n</function>"),
            Some(say("Done.")),
        )
        .hides("</"),
        case(
            "unexpected_end",
            say("Let me read the file:"),
            Some(say("Nothing is left to do.")),
        ),
        case(
            "repetition",
            Play::new().text(&circles).finish(),
            Some(say("That is all.")),
        ),
        case(
            "repetition",
            Play::new().thinking(&circles).finish(),
            Some(say("That is all.")),
        ),
    ]
}

/// Names the case that covers a trouble; a new kind of trouble does not compile without one.
fn covered_by(trouble: &Trouble) -> &'static str {
    match trouble {
        Trouble::Call { bad, .. } => match bad {
            BadCall::UnknownTool { .. } => "unknown_tool",
            BadCall::Truncated => "truncated",
            BadCall::Malformed(_) => "malformed",
            BadCall::Invalid(_) => "invalid",
        },
        // Takes a conversation that goes round: tests/cases/loop_cases.rs, in every dialect and mode.
        Trouble::Denied { .. } => "denied_call",
        // Only where the client gets part of a call early: tests/cases/early.rs.
        Trouble::HalfSent { .. } => "half_sent_call",
        // Takes rules and their session: tests/cases/policy.rs, in every dialect and mode.
        Trouble::Policy { .. } => "denied_call",
        Trouble::MissedCall => "missed_call",
        Trouble::ReasoningOnly => "reasoning_only",
        Trouble::Empty => "empty_answer",
        Trouble::Leftover { .. } => "leaked_fragment",
        Trouble::Announced => "unexpected_end",
        Trouble::Repeating { .. } => "repetition",
    }
}

async fn run(case: &Case, dialect: Dialect, stream: bool, preset: Preset) -> (Outcome, Recorded) {
    let more = case.more;
    let body = format!(
        r#"{{"model":"m","messages":[{{"role":"user","content":"hi"}}],"tools":[{TOOL}],"stream":{stream}{more}}}"#
    );
    let mut script = Script::new()
        .preset(preset)
        .dialect(dialect)
        .on("a", case.first.clone());
    if let Some(then) = &case.then {
        script = script.on("b", then.clone());
    }
    script.run(&body).await
}

#[tokio::test(start_paused = true)]
async fn no_path_skips_a_guard() {
    for case in cases() {
        for &dialect in Dialect::ALL {
            for stream in [true, false] {
                for preset in [
                    Preset::Standard,
                    Preset::Strict,
                    Preset::UapLegacy,
                    Preset::Observe,
                ] {
                    let (outcome, client) = run(&case, dialect, stream, preset).await;
                    let at = format!(
                        "{} {dialect:?} stream={stream} {preset:?}: {}",
                        case.kind,
                        client.text()
                    );
                    let done = client
                        .interventions
                        .iter()
                        .find(|done| done.kind == case.kind);
                    let done = done.unwrap_or_else(|| panic!("not recorded: {at}"));
                    assert_eq!(done.acted(), preset.acts(), "{at}");
                    assert!(
                        outcome.end != End::Complete || !client.report.unguarded,
                        "{at}"
                    );
                    if !preset.acts() {
                        assert_eq!(outcome.attempts.len(), 1, "{at}");
                        continue;
                    }
                    assert_eq!(outcome.end, End::Complete, "{at}");
                    assert_eq!(
                        outcome.attempts.len(),
                        1 + usize::from(case.then.is_some()),
                        "{at}"
                    );
                    assert!(!client.text().contains(case.hidden), "{at}");
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn off_guards_nothing_and_says_so() {
    for case in cases() {
        for &dialect in Dialect::ALL {
            let (outcome, client) = run(&case, dialect, true, Preset::Off).await;
            assert_eq!(outcome.attempts.len(), 1, "{}", case.kind);
            assert!(client.interventions.is_empty(), "{}", case.kind);
            assert!(!client.report.unguarded);
        }
    }
}

#[test]
fn every_trouble_has_a_case() {
    let kinds: Vec<&str> = cases().iter().map(|case| case.kind).collect();
    for trouble in [
        Trouble::MissedCall,
        Trouble::ReasoningOnly,
        Trouble::Empty,
        Trouble::Announced,
    ] {
        assert_eq!(covered_by(&trouble), trouble.kind());
        assert!(kinds.contains(&trouble.kind()));
    }
}

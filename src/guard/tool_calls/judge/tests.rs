use super::*;
use crate::guard::tool_calls::validate::tests::tool;

const NAMES: [&str; 4] = ["Read", "Write", "Bash", "mcp__git-hub__search"];

fn resolve(name: &str) -> Option<&'static str> {
    NAMES.into_iter().find(|n| n.eq_ignore_ascii_case(name))
}

fn judged(name: &str, arguments: &str, cut: bool) -> Judgement {
    let schema = r#"{"type":"object","properties":{"path":{"type":"string"}},"required":["path"]}"#;
    let tools: Vec<_> = NAMES.iter().map(|name| tool(name, Some(schema))).collect();
    let call = RawCall {
        name: name.to_owned(),
        arguments: arguments.to_owned(),
    };
    judge(&call, resolve, &Validators::for_tools(&tools), cut)
}

fn bad(name: &str, arguments: &str, cut: bool) -> BadCall {
    match judged(name, arguments, cut) {
        Judgement::Bad { reason } => reason,
        good => panic!("{good:?}"),
    }
}

#[test]
fn a_good_call_is_the_models_own_text() {
    let arguments = " {\"path\" : \"}}}}</tool_call>\"}\n";
    let Judgement::Good { call, changes } = judged("Read", arguments, true) else {
        panic!("refused");
    };
    assert_eq!(call.arguments, arguments);
    assert!(changes.is_empty());
}

#[test]
fn the_name_is_repaired_like_the_rest_of_the_envelope() {
    let Judgement::Good { call, changes } = judged("read", "{'path':'a'}", false) else {
        panic!("refused");
    };
    assert_eq!(
        (call.name.as_str(), call.arguments.as_str()),
        ("Read", r#"{"path":"a"}"#)
    );
    assert_eq!(changes.as_slice(), [Change::SingleQuotes, Change::Name]);
}

#[test]
fn each_kind_of_failure_tells_the_model_what_to_do() {
    let unknown = bad("Reed", "{}", false);
    assert!(unknown.tell_model().contains("Did you mean `Read`?"));
    assert_eq!(
        bad("frobnicate", "{}", false),
        BadCall::UnknownTool {
            name: "frobnicate".into(),
            close: None
        }
    );
    let malformed = bad("Read", r#"{"path": "say "hi""}"#, false);
    assert_eq!(malformed.kind(), "malformed");
    assert!(
        malformed.tell_model().contains("near `hi\"\"}`"),
        "{malformed:?}"
    );
    assert_eq!(bad("Read", "ls -la", false).kind(), "malformed");
    let invalid = bad("Read", r#"{"path":7}"#, false);
    assert!(
        invalid
            .tell_model()
            .contains("/path: the value is not of type \"string\" (found 7)")
    );
    let missing = bad("Read", "{}", false).tell_model();
    assert!(
        missing.contains("\"path\" is a required property"),
        "{missing}"
    );
}

#[test]
fn what_the_token_limit_cut_is_never_completed() {
    for arguments in [r#"{"path":"a"#, r#"{"path":"a""#, r#"{"path":"#, "{", ""] {
        assert_eq!(
            bad("Read", arguments, true),
            BadCall::Truncated,
            "{arguments}"
        );
    }
    // Cut inside the name as well: the limit is the reason, not the name.
    assert_eq!(bad("Wri", "", true), BadCall::Truncated);
    assert!(matches!(
        judged("Read", r#"{"path":"a"}"#, true),
        Judgement::Good { .. }
    ));
}

#[test]
fn a_withheld_tool_is_never_suggested() {
    let tools = [tool("Read", None), tool("Reads", None)];
    let call = RawCall {
        name: "Reed".into(),
        arguments: "{}".into(),
    };
    let only = |name: &str| (name == "Reads").then_some("Reads");
    let judgement = judge(&call, only, &Validators::for_tools(&tools), false);
    let reason = BadCall::UnknownTool {
        name: "Reed".into(),
        close: Some("Reads".into()),
    };
    assert_eq!(judgement, Judgement::Bad { reason });
}

#[test]
fn messages_to_the_model_stay_short() {
    let long = "x".repeat(1_000_000);
    for reason in [
        bad(&long, "{}", false),
        bad("Read", &format!("{{\"path\": {long}}}"), false),
        bad(
            "Read",
            &format!("{{\"path\": [\"{long}\"], \"{long}\": 1}}"),
            false,
        ),
    ] {
        assert!(reason.tell_model().len() < 2_000);
    }
}

//! One call: may it go to the client, and if not, what does the model have to know?

use super::clip;
use super::repair::{Change, Changes, Unrepairable, repair};
use super::validate::{Validators, Violation};

/// Least similarity of a name worth suggesting, from 0 to 1.
const SIMILAR: f64 = 0.8;

/// Longest name that is compared with others, in bytes.
const MAX_NAME: usize = 128;

/// A call as the model wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawCall {
    /// The tool's name.
    pub name: String,
    /// The text in place of the arguments.
    pub arguments: String,
}

/// What becomes of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// The client gets it.
    Good {
        /// The call, its arguments a JSON object that matches the tool's schema.
        call: RawCall,
        /// What was repaired; with no changes the call is byte for byte the model's.
        changes: Changes,
    },
    /// The model is asked again.
    Bad {
        /// Why.
        reason: BadCall,
    },
}

/// Why a call cannot go to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadCall {
    /// No tool of that name is on offer.
    UnknownTool {
        /// The name in the call.
        name: String,
        /// A tool on offer with a similar name.
        close: Option<String>,
    },
    /// The call ends before its arguments do.
    Truncated,
    /// The arguments are no JSON object.
    Malformed(String),
    /// The arguments do not match the tool's schema.
    Invalid(Vec<Violation>),
}

impl BadCall {
    /// The label in metrics and logs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::UnknownTool { .. } => "unknown_tool",
            Self::Truncated => "truncated",
            Self::Malformed(_) => "malformed",
            Self::Invalid(_) => "invalid",
        }
    }

    /// What was wrong and how to do better: one short paragraph for the model.
    pub fn tell_model(&self) -> String {
        match self {
            Self::UnknownTool { name, close } => {
                let hint = close
                    .as_ref()
                    .map(|close| format!(" Did you mean `{close}`?"))
                    .unwrap_or_default();
                format!(
                    "There is no tool named `{}`.{hint} Call one of the tools you were given, \
                     by its exact name.",
                    clip(name, 80)
                )
            }
            Self::Truncated => "The tool call ended before its arguments were complete, so \
                it was not carried out. Make it again in full; split long content over several \
                smaller calls."
                .to_owned(),
            Self::Malformed(what) => format!(
                "The arguments of the tool call could not be read: {what}. Write them as one \
                 JSON object with nothing before or after it: keys and strings in double quotes, \
                 and inside strings `\\\"` for a quote, `\\n` for a line break, `\\\\` for a backslash."
            ),
            Self::Invalid(violations) => {
                let list: Vec<String> = violations.iter().map(ToString::to_string).collect();
                format!(
                    "The arguments of the tool call do not match the tool's schema. {}. Make the \
                     call again with arguments that match.",
                    list.join("; ")
                )
            }
        }
    }
}

/// Judge a call.
///
/// `resolve` gives the exact name of the tool on offer that a written name stands for; a tool that
/// is withheld this turn has none. `cut` says that generation stopped at the token limit.
pub fn judge<'n>(
    call: &RawCall,
    resolve: impl Fn(&str) -> Option<&'n str>,
    validators: &Validators,
    cut: bool,
) -> Judgement {
    match examine(call, resolve, validators, cut) {
        Ok((call, changes)) => Judgement::Good { call, changes },
        Err(reason) => Judgement::Bad { reason },
    }
}

fn examine<'n>(
    call: &RawCall,
    resolve: impl Fn(&str) -> Option<&'n str>,
    validators: &Validators,
    cut: bool,
) -> Result<(RawCall, Changes), BadCall> {
    let repaired = repair(&call.arguments, cut);
    if cut && repaired == Err(Unrepairable::Truncated) {
        return Err(BadCall::Truncated);
    }
    let Some(name) = resolve(&call.name) else {
        return Err(BadCall::UnknownTool {
            name: call.name.clone(),
            close: closest(&call.name, validators, resolve),
        });
    };
    let mut repaired = repaired.map_err(|why| match why {
        Unrepairable::Truncated => BadCall::Truncated,
        Unrepairable::NotAnObject => BadCall::Malformed("they are not a JSON object".to_owned()),
        Unrepairable::Hopeless(fault) => BadCall::Malformed(fault.to_string()),
    })?;
    validators
        .validate(name, &repaired.arguments)
        .map_err(BadCall::Invalid)?;
    if name != call.name {
        repaired.changes.note(Change::Name);
    }
    let call = RawCall {
        name: name.to_owned(),
        arguments: repaired.arguments,
    };
    Ok((call, repaired.changes))
}

/// The tool on offer whose name is most like `name`.
fn closest<'n>(
    name: &str,
    validators: &Validators,
    resolve: impl Fn(&str) -> Option<&'n str>,
) -> Option<String> {
    let folded = |name: &str| -> String {
        let letters = name.chars().filter(|c| c.is_alphanumeric());
        letters.flat_map(char::to_lowercase).collect()
    };
    if name.len() > MAX_NAME {
        return None;
    }
    let wanted = folded(name);
    let mut best: Option<(f64, &str)> = None;
    for candidate in validators.names() {
        if candidate.len() > MAX_NAME || resolve(candidate) != Some(candidate) {
            continue;
        }
        let score = strsim::jaro_winkler(&wanted, &folded(candidate));
        // Equal scores: the smaller name, so that the answer does not depend on a hash's order.
        if score >= SIMILAR && best.is_none_or(|(top, name)| (score, name) > (top, candidate)) {
            best = Some((score, candidate));
        }
    }
    best.map(|(_, name)| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::validate::tests::tool;
    use super::*;

    const NAMES: [&str; 4] = ["Read", "Write", "Bash", "mcp__git-hub__search"];

    fn resolve(name: &str) -> Option<&'static str> {
        NAMES.into_iter().find(|n| n.eq_ignore_ascii_case(name))
    }

    fn judged(name: &str, arguments: &str, cut: bool) -> Judgement {
        let schema =
            r#"{"type":"object","properties":{"path":{"type":"string"}},"required":["path"]}"#;
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
}

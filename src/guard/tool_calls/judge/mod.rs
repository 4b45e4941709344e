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
mod tests;

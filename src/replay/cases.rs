//! Cases: calls with what is expected of them, in a YAML file.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::{Effect, Ruling, active};
use crate::policy::tools::Class;
use crate::policy::{Actor, Engine, SessionPolicy, TurnPolicy};
use crate::turn::{Content, Message, Part, Role, ToolCall, ToolResult};

/// One case.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What it shows.
    pub name: String,
    /// Profiles in force, besides `policy.profile`.
    #[serde(default)]
    pub profiles: Vec<String>,
    /// The working directory; `policy.root` comes first.
    #[serde(default)]
    pub root: Option<String>,
    /// Calls that were made before, in order.
    #[serde(default)]
    pub history: Vec<Made>,
    /// The call to be judged.
    #[serde(default)]
    pub call: Option<Asked>,
    /// The end of the turn is to be judged.
    #[serde(default)]
    pub end: bool,
    /// `allow`, `rewrite` or `block`.
    pub expect: Effect,
    /// The rule that decides.
    #[serde(default)]
    pub rule: Option<String>,
    /// Why.
    #[serde(default)]
    pub reason: Option<String>,
    /// The arguments after a rewrite.
    #[serde(default)]
    pub becomes: Option<Value>,
}

/// A call.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// Its tool.
    pub tool: String,
    /// Its arguments.
    pub input: Value,
}

/// A call that was made, with its result.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Made {
    /// Its tool.
    pub tool: String,
    /// Its arguments.
    pub input: Value,
    /// Its result.
    #[serde(default)]
    pub result: String,
    /// It failed.
    #[serde(default)]
    pub is_error: bool,
}

/// The cases in a YAML document.
///
/// # Errors
/// In words, with the place.
pub fn parse(text: &str) -> Result<Vec<Case>, String> {
    serde_saphyr::from_str(text).map_err(|error| error.to_string())
}

impl Case {
    /// Whether `engine` decides as is expected.
    ///
    /// # Errors
    /// What it decides otherwise.
    pub fn run(&self, engine: &Arc<Engine>) -> Result<(), String> {
        let got = self.judge(engine)?;
        let told = || match (&*got.rule, &got.new) {
            ("", _) => "allowed".to_owned(),
            (rule, Some(new)) => format!("rewritten by {rule} to {new}"),
            (rule, None) => format!("blocked by {rule}: {}", got.reason),
        };
        if got.effect != self.expect {
            return Err(format!(
                "expected {}, and it is {}",
                self.expect.as_str(),
                told()
            ));
        }
        let differs = |wanted: &Option<String>, is: &str| wanted.as_ref().is_some_and(|w| w != is);
        if differs(&self.rule, &got.rule) || differs(&self.reason, &got.reason) {
            return Err(format!("it is {}", told()));
        }
        let new = got
            .new
            .as_deref()
            .and_then(|new| serde_json::from_str::<Value>(new).ok());
        if self.becomes.is_some() && self.becomes != new {
            return Err(format!("it is {}", told()));
        }
        Ok(())
    }

    fn judge(&self, engine: &Arc<Engine>) -> Result<Ruling, String> {
        let active = active(engine, &self.profiles.join(","))?;
        let actor = Actor {
            root: engine.root.clone().or_else(|| self.root.clone()),
            ..Actor::default()
        };
        let mut known = SessionPolicy::default();
        engine.observe(&mut known, &actor, &self.messages());
        let engine = Arc::clone(engine);
        let policy = TurnPolicy::restored(engine, active, actor, known.state, Class::ALL.into());
        match (&self.call, self.end) {
            (Some(call), false) => {
                let input = call.input.to_string();
                Ok(Ruling::of_call(policy.tool_call(&call.tool, &input)))
            }
            (None, true) => {
                let judged = policy.completion(false);
                let names: Vec<&str> = judged.verdict.iter().map(|b| &*b.name).collect();
                let by = judged.decisions.iter().find(|one| one.acted);
                Ok(match (names.is_empty(), by) {
                    (false, Some(by)) => Ruling::blocked(&by.rule, &names.join(", ")),
                    _ => Ruling::allowed(),
                })
            }
            _ => Err("a case needs either `call` or `end: true`".to_owned()),
        }
    }

    fn messages(&self) -> Vec<Message> {
        let made = |(n, made): (usize, &Made)| {
            let id = format!("call-{n}");
            let call = Part::ToolCall(ToolCall {
                id: id.clone(),
                name: made.tool.clone(),
                arguments: made.input.to_string(),
            });
            let result = Part::ToolResult(ToolResult {
                call_id: id,
                content: vec![Content::Text(made.result.clone())],
                is_error: made.is_error,
            });
            [
                Message::new(Role::Assistant, vec![call]),
                Message::new(Role::Tool, vec![result]),
            ]
        };
        self.history.iter().enumerate().flat_map(made).collect()
    }
}

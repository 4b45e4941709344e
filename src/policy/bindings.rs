//! What expressions can ask for. Nothing is copied or computed before it is asked for.

use std::borrow::Cow;
use std::collections::BTreeSet;

use cel::common::types::{CelBool, CelList, CelString};
use cel::common::value::{CowVal, Val};
use cel::context::VariableResolver;
use serde::{Deserialize, Serialize};

use super::call::Call;
use super::session::SessionState;

/// Variables and their fields. `session` also has the facts and captures of the policy.
pub(super) const FIELDS: &[(&str, &[&str])] = &[
    (
        "tool",
        &[
            "name", "class", "command", "paths", "input", "mutates", "edits", "agent", "text",
            "deploys",
        ],
    ),
    (
        "session",
        &["root", "mutated", "is_agent", "id", "principal", "has_root"],
    ),
    (
        "request",
        &["model", "tools", "stream", "messages", "bytes", "dialect"],
    ),
    ("result", &["text", "is_error"]),
];

/// A request as rules see it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Request {
    /// The model asked for.
    pub model: String,
    /// Names of the tools on offer.
    pub tools: Vec<String>,
    /// Whether the answer is to be streamed.
    pub stream: bool,
    /// Messages in it.
    pub messages: usize,
    /// Size of its body.
    pub bytes: usize,
    /// The client's dialect.
    pub dialect: Cow<'static, str>,
}

/// Who is acting.
#[derive(Clone, Debug, Default)]
pub struct Actor {
    /// The working directory, where it is known.
    pub root: Option<String>,
    /// A subagent that says so.
    pub is_agent: bool,
    /// The session's public name.
    pub session: String,
    /// Whose it is.
    pub principal: String,
}

/// See the module's documentation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bindings<'a> {
    pub(super) actor: &'a Actor,
    pub(super) state: &'a SessionState,
    /// Names that stand for texts.
    pub(super) captures: &'a BTreeSet<String>,
    pub(super) call: Option<&'a Call<'a>>,
    pub(super) result: Option<(&'a str, bool)>,
    pub(super) request: Option<&'a Request>,
    pub(super) p: Option<&'a str>,
}

impl<'a> Bindings<'a> {
    pub(super) fn new(
        actor: &'a Actor,
        state: &'a SessionState,
        captures: &'a BTreeSet<String>,
    ) -> Self {
        Self {
            actor,
            state,
            captures,
            call: None,
            result: None,
            request: None,
            p: None,
        }
    }

    pub(super) fn with_call(self, call: &'a Call<'a>) -> Self {
        Self {
            call: Some(call),
            ..self
        }
    }

    /// Why an evaluation failed, so that it can be mended.
    pub(super) fn explain(&self, error: &str) -> String {
        if let Some(fault) = self.call.and_then(|call| call.fault) {
            return fault.to_owned();
        }
        if error.contains("deploys")
            && let Some(Err(why)) = self.call.map(Call::deploys)
        {
            return why.0.to_owned();
        }
        if self.call.is_some_and(Call::has_unknown_paths) {
            return "what the command writes cannot be told before it runs".to_owned();
        }
        if error.contains("'session'") && self.actor.root.is_none() {
            return "the session's working directory is not known (policy.root, x-drover-root)"
                .to_owned();
        }
        error.replace("Error executing function ", "")
    }

    /// What is true or false of the session.
    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        match name {
            "root" | "id" | "principal" => None,
            "has_root" => Some(self.actor.root.is_some()),
            "is_agent" => Some(self.actor.is_agent),
            "mutated" => Some(self.state.mutated),
            name if self.captures.contains(name) => None,
            name => Some(self.state.holds(name)),
        }
    }

    fn tool(&self, field: &str) -> Option<CowVal<'_, '_>> {
        let call = self.call?;
        let told = matches!(field, "name" | "class" | "mutates" | "edits");
        if call.fault.is_some() && !told {
            return None;
        }
        Some(match field {
            "name" => text(call.name),
            "class" => text(call.class.as_str()),
            "command" => text(&call.command),
            "agent" => text(call.agent()),
            "text" => CowVal::owned(CelString::from(call.text())),
            "mutates" => yes(call.mutates()),
            "edits" => yes(call.edits()),
            "deploys" => yes(!call.deploys().ok()?.is_empty()),
            "paths" if call.has_unknown_paths() => return None,
            "paths" => texts(call.paths()),
            "input" => {
                let value = cel::to_value(&call.input).ok()?;
                CowVal::Owned(value.try_into().ok()?)
            }
            _ => return None,
        })
    }

    fn session(&self, field: &str) -> Option<CowVal<'_, '_>> {
        Some(match field {
            "root" => text(self.actor.root.as_deref()?),
            "has_root" => yes(self.actor.root.is_some()),
            "is_agent" => yes(self.actor.is_agent),
            "id" => text(&self.actor.session),
            "principal" => text(&self.actor.principal),
            "mutated" => yes(self.state.mutated),
            name => match self.state.capture(name) {
                Some(captured) => text(captured),
                None if self.captures.contains(name) => text(""),
                None => yes(self.state.holds(name)),
            },
        })
    }

    fn request(&self, field: &str) -> Option<CowVal<'_, '_>> {
        let request = self.request?;
        let number = |n: usize| {
            let n = i64::try_from(n).unwrap_or(i64::MAX);
            CowVal::owned(cel::common::types::CelInt::from(n))
        };
        Some(match field {
            "model" => text(&request.model),
            "tools" => texts(&request.tools),
            "stream" => yes(request.stream),
            "messages" => number(request.messages),
            "bytes" => number(request.bytes),
            "dialect" => text(&request.dialect),
            _ => return None,
        })
    }
}

fn text<'a>(text: &'a str) -> CowVal<'a, 'a> {
    CowVal::owned(CelString::from(text))
}

fn yes<'a>(yes: bool) -> CowVal<'a, 'a> {
    CowVal::owned(CelBool::from(yes))
}

fn texts(texts: &[String]) -> CowVal<'_, '_> {
    let boxed = texts.iter().map(|text| {
        let text: Box<dyn Val + '_> = Box::new(CelString::from(text.as_str()));
        text
    });
    CowVal::owned(CelList::from(boxed.collect::<Vec<_>>()))
}

impl VariableResolver for Bindings<'_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        match variable.split_once('.') {
            None => (variable == "p").then_some(self.p).flatten().map(text),
            Some(("tool", field)) => self.tool(field),
            Some(("session", field)) if !field.contains('.') => self.session(field),
            Some(("request", field)) => self.request(field),
            Some(("result", "text")) => self.result.map(|(said, _)| text(said)),
            Some(("result", "is_error")) => self.result.map(|(_, is_error)| yes(is_error)),
            Some(_) => None,
        }
    }
}

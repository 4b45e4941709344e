//! Scripts: what the model says, step by step.
//!
//! A script comes from (first hit wins) the `x-sim-script` header, a directive in the conversation,
//! or the configured rules; without one the answer is made up (see [`super::plan`]).
//!
//! A **directive** is `[[sim JSON]]` in the text of a user or tool message, where JSON is a
//! [`Script`] or just a list of [`Step`]s. The latest message with a directive counts. Its `steps`
//! answer the request that ends the conversation there; `turns[i]` answers the request after `i`
//! further assistant messages, so a tool loop is one directive. `attempts[i]` answers the i-th
//! time this very conversation is received, so that "fail, then succeed" is one directive too.

use std::collections::HashMap;

use regex::Regex;
use serde::{Deserialize, Serialize};

use super::{conversation::Message, errors::ApiError, request::Request, rng, step::Step};

/// Answers to one or more requests of a conversation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Script {
    /// The answer to the request that ends at the directive (or to every matching request of a rule).
    pub steps: Option<Vec<Step>>,
    /// Answers by the number of assistant messages after the directive.
    pub turns: Vec<Vec<Step>>,
    /// Answers by the number of times the same conversation was received before; the last stays.
    pub attempts: Vec<Vec<Step>>,
    /// After the last of `turns` (or `steps`), say the last again instead of made-up text.
    pub repeat: bool,
    /// Only on the backend of this name; others make up their answer.
    pub on: Option<String>,
}

/// A scripted answer for the requests that match all given conditions.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rule {
    /// Part of the last user message.
    pub contains: Option<String>,
    /// Pattern found in the last user message.
    #[serde(with = "pattern")]
    pub regex: Option<Regex>,
    /// The n-th generation request to this server, from 1.
    pub request: Option<u64>,
    /// Whether the conversation ends with a tool's result.
    pub after_tool: Option<bool>,
    /// The answer; `turns` count the assistant messages after the last user message.
    pub script: Script,
}

mod pattern {
    use regex::Regex;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(regex: &Option<Regex>, s: S) -> Result<S::Ok, S::Error> {
        match regex {
            Some(regex) => s.serialize_some(regex.as_str()),
            None => s.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Regex>, D::Error> {
        let text = Option::<String>::deserialize(d)?;
        text.map(|text| Regex::new(&text).map_err(D::Error::custom))
            .transpose()
    }
}

impl Rule {
    fn matches(&self, request: &Request, nth: u64) -> bool {
        let text = request.last_user_text();
        self.contains
            .as_ref()
            .is_none_or(|part| text.contains(part))
            && self.regex.as_ref().is_none_or(|regex| regex.is_match(text))
            && self.request.is_none_or(|wanted| wanted == nth)
            && self
                .after_tool
                .is_none_or(|wanted| wanted == request.after_tool())
    }
}

/// Parses a rule file: a JSON or YAML list of rules.
///
/// # Errors
/// A text with line and column when the file is not a list of rules.
pub fn parse_rules(text: &str) -> Result<Vec<Rule>, String> {
    serde_saphyr::from_str(text).map_err(|error| error.to_string())
}

/// Remembers how often conversations were seen; decides what to say.
#[derive(Debug, Default)]
pub(crate) struct Scripts {
    requests: u64,
    seen: HashMap<u64, usize>,
}

/// Conversations remembered for `attempts`; all are forgotten when there are more.
const MOST_SEEN: usize = 4096;

impl Scripts {
    /// The steps for a request, or `None` for a made-up answer.
    ///
    /// # Errors
    /// 400 for a directive that is no valid script.
    pub(crate) fn choose(
        &mut self,
        request: &Request,
        rules: &[Rule],
        name: &str,
    ) -> Result<Option<Vec<Step>>, ApiError> {
        self.requests += 1;
        let Some((script, turn)) = find(request, rules, self.requests)? else {
            return Ok(None);
        };
        if script.on.as_deref().is_some_and(|on| on != name) {
            return Ok(None);
        }
        let attempt = self.attempt(request, &script);
        Ok(script.select(turn, attempt))
    }

    fn attempt(&mut self, request: &Request, script: &Script) -> usize {
        if script.attempts.is_empty() {
            return 0;
        }
        if self.seen.len() >= MOST_SEEN {
            self.seen.clear();
        }
        let count = self
            .seen
            .entry(rng::hash(request.prompt.as_bytes()))
            .or_default();
        *count += 1;
        *count - 1
    }
}

impl Script {
    fn select(mut self, turn: usize, attempt: usize) -> Option<Vec<Step>> {
        if let Some(last) = self.attempts.len().checked_sub(1) {
            let repeats = self.repeat || turn == 0;
            return repeats.then(|| self.attempts.swap_remove(attempt.min(last)));
        }
        self.turns.splice(0..0, self.steps);
        let last = self.turns.len().checked_sub(1)?;
        match turn {
            turn if turn <= last => Some(self.turns.swap_remove(turn)),
            _ if self.repeat => Some(self.turns.swap_remove(last)),
            _ => None,
        }
    }
}

/// The script for a request and the turn within it.
fn find(request: &Request, rules: &[Rule], nth: u64) -> Result<Option<(Script, usize)>, ApiError> {
    if let Some(header) = &request.script {
        return Ok(Some((parse(header)?.0, 0)));
    }
    let mut turn = 0;
    for message in request.messages.iter().rev() {
        if message.role == "assistant" {
            turn += 1;
        } else if let Some(script) = directive(message)? {
            return Ok(Some((script, turn)));
        }
    }
    let rule = rules.iter().find(|rule| rule.matches(request, nth));
    let answered = request
        .messages
        .iter()
        .rev()
        .take_while(|m| m.role != "user")
        .filter(|m| m.role == "assistant");
    Ok(rule.map(|rule| (rule.script.clone(), answered.count())))
}

fn directive(message: &Message) -> Result<Option<Script>, ApiError> {
    const OPEN: &str = "[[sim ";
    let Some(start) = message.text.rfind(OPEN) else {
        return Ok(None);
    };
    let (script, rest) = parse(&message.text[start + OPEN.len()..])?;
    if !rest.trim_start().starts_with("]]") {
        return Err(ApiError::invalid(
            "sim directive: expected ]] after the script",
        ));
    }
    Ok(Some(script))
}

/// Reads a script from the start of `text`; returns what follows it.
fn parse(text: &str) -> Result<(Script, &str), ApiError> {
    let bad = |error: serde_json::Error| ApiError::invalid(format!("sim directive: {error}"));
    let text = text.trim_start();
    if text.starts_with('[') {
        let mut stream = serde_json::Deserializer::from_str(text).into_iter::<Vec<Step>>();
        let steps = stream.next().transpose().map_err(bad)?;
        return Ok((
            Script {
                steps,
                ..Script::default()
            },
            &text[stream.byte_offset()..],
        ));
    }
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<Script>();
    let script = stream.next().transpose().map_err(bad)?.unwrap_or_default();
    Ok((script, &text[stream.byte_offset()..]))
}

#[cfg(test)]
#[path = "script_tests.rs"]
mod tests;

//! A client's request, judged again: every call in its conversation, with what the session had done by then.

use std::sync::Arc;

use serde_json::Value;

use super::{Change, Effect, Outcome, Ruling, active};
use crate::dialect::Dialect;
use crate::policy::{Actor, Engine, Kept, Request, SessionPolicy, TurnPolicy, stated_root};
use crate::turn::{Message, Turn};

/// Longest arguments shown, in bytes.
const MOST_SHOWN: usize = 2000;

/// Why a file holds no request.
#[derive(Debug, thiserror::Error)]
pub enum NoTurn {
    /// It is neither JSON nor a captured HTTP request.
    #[error("it is neither a JSON body nor a captured HTTP request")]
    Form,
    /// No dialect can read it.
    #[error("as a request in the dialect {0}: {1}")]
    Dialect(&'static str, String),
    /// A profile that the configuration does not have.
    #[error("{0}")]
    Profile(String),
}

/// What `engine` decides about the calls in a request, which were allowed when it was recorded. `text` is its
/// body, or the request with its header.
///
/// # Errors
/// See [`NoTurn`].
pub fn conversation(
    text: &[u8],
    engine: &Arc<Engine>,
    profiles: &str,
    root: Option<String>,
) -> Result<Outcome, NoTurn> {
    let (path, body) = split(text).ok_or(NoTurn::Form)?;
    let (name, dialect) = dialect(path, body).ok_or(NoTurn::Form)?;
    let turn = dialect.decode(body);
    let turn = turn.map_err(|error| NoTurn::Dialect(name, error.to_string()))?;
    let active = active(engine, profiles).map_err(NoTurn::Profile)?;
    let actor = Actor {
        root: root
            .or_else(|| engine.root.clone())
            .or_else(|| stated_root(&turn.messages)),
        ..Actor::default()
    };
    let mut known = SessionPolicy::default();
    let mut outcome = Outcome::default();
    let mut calls = 0;
    let policy = |known: &SessionPolicy| {
        let (engine, state) = (Arc::clone(engine), known.state.clone());
        TurnPolicy::new(engine, active.clone(), actor.clone(), state, &turn.tools)
    };
    let judged = policy(&known).request(&asked(&turn, name, body.len()));
    outcome.replayed += 1;
    if let Some(blocked) = judged.verdict {
        let now = Ruling::blocked(&blocked.rule, &blocked.reason);
        outcome.changes.push(change("request", None, "", "", now));
    }
    for (n, message) in turn.messages.iter().enumerate() {
        engine.observe(&mut known, &actor, &turn.messages[..n]);
        let policy = policy(&known);
        for call in Message::tool_calls(message) {
            calls += 1;
            outcome.replayed += 1;
            let now = Ruling::of_call(policy.tool_call(&call.name, &call.arguments));
            if now.effect != Effect::Allowed {
                let change = change("tool_call", Some(calls), &call.name, &call.arguments, now);
                outcome.changes.push(change);
            }
        }
    }
    Ok(outcome)
}

fn change(stage: &str, call: Option<usize>, tool: &str, arguments: &str, now: Ruling) -> Change {
    let shown = |text: &str| Kept::of(text).redacted(MOST_SHOWN).0;
    Change {
        seq: 0,
        call,
        request_id: String::new(),
        session: String::new(),
        stage: stage.to_owned(),
        tool: tool.to_owned(),
        arguments: shown(arguments),
        before: Ruling::allowed(),
        now: Ruling {
            new: now.new.as_deref().map(shown),
            ..now
        },
    }
}

fn asked(turn: &Turn, dialect: &'static str, bytes: usize) -> Request {
    Request {
        model: turn.model.clone(),
        tools: turn.tools.iter().map(|tool| tool.name.clone()).collect(),
        stream: turn.stream,
        messages: turn.messages.len(),
        bytes,
        dialect: dialect.into(),
    }
}

/// The path, where there is a header, and the body.
fn split(text: &[u8]) -> Option<(&str, &[u8])> {
    let text = text.trim_ascii_start();
    if text.first() == Some(&b'{') {
        return Some(("", text));
    }
    let mut lines = text.split(|b| *b == b'\n');
    let path = std::str::from_utf8(lines.next()?).ok()?.split(' ').nth(1)?;
    let ends = [&b"\r\n\r\n"[..], b"\n\n"];
    let ends = ends
        .iter()
        .filter_map(|end| Some(memchr::memmem::find(text, end)? + end.len()));
    Some((path, &text[ends.min()?..]))
}

/// By the path, else by what only one of them has.
fn dialect(path: &str, body: &[u8]) -> Option<(&'static str, Dialect)> {
    let (path, _) = path.split_once('?').unwrap_or((path, ""));
    let openai = ("openai", Dialect::OpenAi);
    let anthropic = ("anthropic", Dialect::Anthropic);
    let responses = ("responses", Dialect::Responses);
    for (end, dialect) in [
        ("/messages", anthropic),
        ("/responses", responses),
        ("/chat/completions", openai),
    ] {
        if path.ends_with(end) {
            return Some(dialect);
        }
    }
    let body: Value = serde_json::from_slice(body).ok()?;
    if body.get("input").is_some() {
        return Some(responses);
    }
    let messages = body.get("messages")?.as_array()?;
    let blocks = messages
        .iter()
        .filter_map(|message| message.get("content")?.as_array());
    let mut types = blocks
        .flatten()
        .filter_map(|block| block.get("type")?.as_str());
    let is_anthropic = body.get("system").is_some()
        || types.any(|kind| matches!(kind, "tool_use" | "tool_result" | "thinking"));
    Some(if is_anthropic { anthropic } else { openai })
}

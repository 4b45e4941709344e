//! Offering a model only the tools that fit what the human asked.
//!
//! Tools stand at the top of the prompt: the choice is made once a conversation and then kept, since
//! another one would cost the backend its whole prefix.

use std::collections::HashSet;

use serde::Deserialize;
use xxhash_rust::xxh3::Xxh3;

use crate::config::Sampling;
use crate::turn::{Message, Part, Role, Tool, ToolChoice, Turn, human_text};

/// Which tools of a client are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Narrowed {
    /// Hash of the names of all of them.
    offer: u64,
    /// Places of those sent, ascending.
    kept: Box<[u16]>,
}

/// Leave out tools; `known` is what was chosen before in this conversation. Nothing is left out when
/// the client names a tool, when there are few, and when nobody has said yet what it is about. With
/// `acts` false the choice is made and nothing left out.
pub fn narrow(
    turn: &mut Turn,
    settings: &Sampling,
    known: Option<&Narrowed>,
    acts: bool,
) -> Option<Narrowed> {
    let count = turn.tools.len();
    let possible = settings.narrowing
        && !matches!(turn.tool_choice, ToolChoice::Named(_))
        && count >= settings.narrowing_min_tools
        && count > settings.narrowing_keep
        && u16::try_from(count).is_ok();
    if !possible {
        return None;
    }
    let offer = hash(&turn.tools);
    let narrowed = match known.filter(|known| known.offer == offer) {
        // Also where no call is wanted this time: the tools are in the prompt all the same.
        Some(known) => known.clone(),
        None if !turn.is_tool_turn() => return None,
        None => Narrowed {
            offer,
            kept: choose(turn, settings.narrowing_keep)?,
        },
    };
    if !acts {
        return Some(narrowed);
    }
    let kept = narrowed.kept.iter();
    turn.tools = kept
        .filter_map(|place| turn.tools.get(usize::from(*place)).cloned())
        .collect();
    Some(narrowed)
}

fn hash(tools: &[Tool]) -> u64 {
    let mut hash = Xxh3::new();
    for tool in tools {
        hash.update(&tool.name.len().to_le_bytes());
        hash.update(tool.name.as_bytes());
    }
    hash.digest()
}

/// The best by their words, earlier ones first among equals; and all that were called already, for a
/// model is confused by calls in its past that it could not make.
fn choose(turn: &Turn, keep: usize) -> Option<Box<[u16]>> {
    let query = query(&turn.messages)?;
    let words = words(&query);
    let called: HashSet<&str> = turn
        .messages
        .iter()
        .flat_map(Message::tool_calls)
        .map(|call| call.name.as_str())
        .collect();
    let mut ranked: Vec<(usize, u16)> = turn
        .tools
        .iter()
        .zip(0u16..)
        .map(|(tool, place)| (score(tool, &query, &words), place))
        .collect();
    ranked.sort_by_key(|(score, place)| (std::cmp::Reverse(*score), *place));
    let best = ranked.iter().take(keep).map(|(_, place)| *place);
    let used = turn.tools.iter().zip(0u16..);
    let used = used.filter(|(tool, _)| called.contains(tool.name.as_str()));
    let mut kept: Vec<u16> = best.chain(used.map(|(_, place)| place)).collect();
    kept.sort_unstable();
    kept.dedup();
    Some(kept.into())
}

/// What the human said last, in small letters; none when it has no words.
fn query(messages: &[Message]) -> Option<String> {
    let humans = messages.iter().rev().filter(|m| m.role() == Role::User);
    humans
        .map(|message| {
            let texts = message.parts().iter().filter_map(|part| match part {
                Part::Text(text) => Some(human_text(text)),
                _ => None,
            });
            texts.collect::<Vec<_>>().join("\n").to_lowercase()
        })
        .find(|text| !words(text).is_empty())
}

/// Runs of at least two letters, digits and underscores.
fn words(text: &str) -> HashSet<&str> {
    let runs = text.split(|c: char| !(c.is_alphanumeric() || c == '_'));
    runs.filter(|run| run.len() >= 2).collect()
}

fn score(tool: &Tool, query: &str, asked: &HashSet<&str>) -> usize {
    let name = tool.name.to_lowercase();
    let text = format!("{name} {}", description(tool)).to_lowercase();
    let common = words(&text).intersection(asked).count();
    let named = query.contains(&name);
    let inside = asked.iter().any(|word| name.contains(word));
    3 * common + 4 * usize::from(named) + usize::from(inside)
}

fn description(tool: &Tool) -> String {
    #[derive(Deserialize)]
    struct Definition {
        function: Function,
    }
    #[derive(Deserialize)]
    struct Function {
        #[serde(default)]
        description: String,
    }
    serde_json::from_str::<Definition>(tool.upstream.get())
        .map_or(String::new(), |definition| definition.function.description)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::dialect::openai;

    fn settings() -> Sampling {
        Sampling {
            narrowing: true,
            narrowing_keep: 2,
            narrowing_min_tools: 3,
            ..Sampling::default()
        }
    }

    fn turn(messages: Value, more: Value) -> Turn {
        let tool = |(name, about): (&str, &str)| json!({"type": "function", "function": {"name": name, "description": about, "parameters": {"type": "object"}}});
        let tools = [
            ("Read", "Read a file"),
            ("Edit", "Edit a file"),
            ("RunTests", "Run tests"),
            ("Deploy", "Deploy to production"),
        ];
        let tools: Vec<Value> = tools.into_iter().map(tool).collect();
        let mut body = json!({"model": "m", "messages": messages, "tools": tools});
        for (key, value) in more.as_object().unwrap() {
            body[key] = value.clone();
        }
        openai::decode(body.to_string().as_bytes()).unwrap()
    }

    fn names(turn: &Turn) -> Vec<&str> {
        turn.tools.iter().map(|tool| tool.name.as_str()).collect()
    }

    fn asks(text: &str) -> Value {
        json!([{"role": "user", "content": text}])
    }

    const QUERY: &str = "run tests and fix the failing test quickly";

    /// Cases 68 and 69 of the earlier proxy.
    #[test]
    fn the_tools_that_fit_the_question_stay_in_order() {
        let mut first = turn(asks(QUERY), json!({}));
        let narrowed = narrow(&mut first, &settings(), None, true).unwrap();
        assert_eq!(names(&first), ["Read", "RunTests"]);

        let history = json!([
            {"role": "user", "content": QUERY},
            {"role": "assistant", "content": null, "tool_calls": [{"id": "1", "type": "function", "function": {"name": "RunTests", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "1", "content": "deploy production"},
        ]);
        let mut later = turn(history, json!({}));
        assert_eq!(narrow(&mut later, &settings(), None, true), Some(narrowed));
    }

    #[test]
    fn a_choice_stays_for_the_conversation() {
        let mut first = turn(asks(QUERY), json!({}));
        let narrowed = narrow(&mut first, &settings(), None, true).unwrap();
        let mut next = turn(asks("now deploy it to production"), json!({}));
        assert_eq!(
            narrow(&mut next, &settings(), Some(&narrowed), true),
            Some(narrowed.clone())
        );
        assert_eq!(names(&next), names(&first));
        let mut silent = turn(asks("sum it up"), json!({"tool_choice": "none"}));
        assert!(narrow(&mut silent, &settings(), Some(&narrowed), true).is_some());
        assert_eq!(
            names(&silent),
            names(&first),
            "no call is wanted, the prompt stays"
        );
        let mut other = turn(asks("now deploy it to production"), json!({}));
        other.tools = other.tools[1..].into();
        let anew = narrow(&mut other, &settings(), Some(&narrowed), true).unwrap();
        assert_ne!(anew, narrowed, "the client offers others");
        assert_eq!(names(&other), ["Edit", "Deploy"]);
    }

    #[test]
    fn a_tool_that_was_called_stays() {
        let history = json!([
            {"role": "user", "content": "deploy"},
            {"role": "assistant", "content": null, "tool_calls": [{"id": "1", "type": "function", "function": {"name": "Deploy", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "1", "content": "ok"},
            {"role": "user", "content": "read and edit the file"},
        ]);
        let mut turn = turn(history, json!({}));
        narrow(&mut turn, &settings(), None, true).unwrap();
        assert_eq!(names(&turn), ["Read", "Edit", "Deploy"]);
    }

    #[test]
    fn it_is_left_alone_where_it_would_harm() {
        let off = Sampling {
            narrowing: false,
            ..settings()
        };
        let few = Sampling {
            narrowing_min_tools: 5,
            ..settings()
        };
        let named = json!({"tool_choice": {"type": "function", "function": {"name": "Edit"}}});
        for (settings, messages, more) in [
            (off, asks(QUERY), json!({})),
            (few, asks(QUERY), json!({})),
            (settings(), asks("?"), json!({})),
            (
                settings(),
                asks("<system-reminder>read it</system-reminder>"),
                json!({}),
            ),
            (settings(), asks(QUERY), named),
            (settings(), asks(QUERY), json!({"tool_choice": "none"})),
        ] {
            let mut turn = turn(messages, more);
            assert_eq!(narrow(&mut turn, &settings, None, true), None);
            assert_eq!(turn.tools.len(), 4);
        }
    }
}

//! The part of a prompt that stays the same from turn to turn and from session to session: the system
//! text and the tools. Chat templates put both at the top.

use once_cell::sync::Lazy;
use xxhash_rust::xxh3::Xxh3Default;

use super::warmth::Prefix;
use crate::config::{BuiltinFragment, Volatile};
use crate::guard::context::volatile;
use crate::turn::{Part, Role, Turn};

/// Bytes of English text and JSON for a token, roughly.
const BYTES_PER_TOKEN: u64 = 4;

/// What differs between the sessions of one client though their prompts have most in common.
static FRAGMENTS: Lazy<Volatile> = Lazy::new(|| Volatile {
    builtin: vec![
        BuiltinFragment::BillingHeader,
        BuiltinFragment::TimeOfDay,
        BuiltinFragment::Date,
        BuiltinFragment::WorkingDirectory,
    ],
    patterns: Vec::new(),
});

impl Prefix {
    /// The one of `turn`; none when it is shorter than `least` bytes, and not worth a place of its own.
    pub fn of(turn: &Turn, least: u64) -> Option<Self> {
        let tools = || turn.tools.iter().map(|tool| tool.upstream.get());
        let bytes: usize = systems(turn).chain(tools()).map(str::len).sum();
        if (bytes as u64) < least.max(1) {
            return None;
        }
        let mut hash = Xxh3Default::new();
        for text in systems(turn) {
            hash.update(volatile::without(text, &FRAGMENTS).as_bytes());
            hash.update(&[0]);
        }
        for tool in tools() {
            hash.update(tool.as_bytes());
            hash.update(&[0]);
        }
        Some(Self {
            hash: hash.digest(),
            tokens: bytes as u64 / BYTES_PER_TOKEN,
        })
    }
}

/// System text before the conversation begins; later system messages are part of it.
fn systems(turn: &Turn) -> impl Iterator<Item = &str> {
    let leading = turn
        .messages
        .iter()
        .take_while(|m| m.role() == Role::System);
    leading
        .flat_map(|m| m.parts())
        .filter_map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            _ => None,
        })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::dialect::Dialect;

    fn prefix(system: &str, tools: &[&str], said: &str) -> Option<Prefix> {
        let tools: Vec<Value> = tools
            .iter()
            .map(|name| json!({"name": name, "input_schema": {"type": "object"}}))
            .collect();
        let body = json!({"model": "m", "max_tokens": 9, "system": system, "tools": tools,
            "messages": [{"role": "user", "content": said}]});
        let turn = Dialect::Anthropic
            .decode(body.to_string().as_bytes())
            .unwrap();
        Prefix::of(&turn, 100)
    }

    #[test]
    fn it_is_the_same_for_all_who_begin_alike() {
        let system = |cwd: &str, second: u32| {
            format!(
                "{}\nWorking directory: {cwd}\nNow: 2026-11-23T18:17:{second}Z",
                "You are an agent. ".repeat(20)
            )
        };
        let one = prefix(&system("/a", 11), &["read"], "fix it").unwrap();
        assert_eq!(
            prefix(&system("/b", 12), &["read"], "look").unwrap().hash,
            one.hash
        );
        assert_ne!(
            prefix(&system("/a", 11), &["read", "write"], "fix it")
                .unwrap()
                .hash,
            one.hash
        );
        let other = system("/a", 11).replace("agent", "poet");
        assert_ne!(prefix(&other, &["read"], "fix it").unwrap().hash, one.hash);
        assert!((90..200).contains(&one.tokens), "{}", one.tokens);
    }

    #[test]
    fn a_short_one_has_no_home() {
        assert_eq!(prefix("Be brief.", &[], &"long ".repeat(99)), None);
    }
}

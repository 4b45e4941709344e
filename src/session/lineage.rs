//! Which of the conversations inside a session a transcript belongs to.
//!
//! Subagents, titles and memory agents run interleaved under one session id. A *lineage* is one of
//! them: the subagent's id, else whether tools are offered and how the conversation begins.
//! Conversations that begin alike are *siblings*, told apart by what was said: a transcript belongs
//! to the sibling it extends. What is said is hashed message by message: text, calls and results,
//! without ids of calls (random), reasoning (clients drop it from old turns), system messages
//! (clients put the time in them) and what agents inject around a human's text.

mod hash;
mod trail;

use std::cmp::Reverse;
use std::fmt;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::turn::{Message, Part, Role, Turn, human_text, is_summary};
pub use hash::hash;
use hash::{SEED, join};
pub use trail::Trail;

/// Characters of the first human text that count.
const OPENER_CHARS: usize = 512;

/// What the human said first, at most 512 characters: the first user message with text of its own.
/// Falls back to injected text where there is no other.
pub fn opener(turn: &Turn) -> String {
    let users = || turn.messages.iter().filter(|m| m.role() == Role::User);
    users()
        .map(|message| said(message, human_text))
        .find(|text| !text.is_empty())
        .or_else(|| {
            users()
                .map(|m| said(m, str::trim))
                .find(|text| !text.is_empty())
        })
        .unwrap_or_default()
}

fn said(message: &Message, clean: impl Fn(&str) -> &str) -> String {
    let mut opener = String::new();
    let mut left = OPENER_CHARS;
    for part in message.parts() {
        let Part::Text(text) = part else { continue };
        let text = clean(text);
        if text.is_empty() || left == 0 {
            continue;
        }
        if !opener.is_empty() {
            opener.push('\n');
        }
        let end = text
            .char_indices()
            .nth(left)
            .map_or(text.len(), |(at, _)| at);
        left -= text[..end].chars().count();
        opener.push_str(&text[..end]);
    }
    opener
}

/// What a conversation is for: conversations of different kinds are never the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A subagent that says who it is.
    Agent,
    /// Tools are offered.
    Tools,
    /// None are: titles, summaries, plain chats.
    Plain,
}

impl Kind {
    /// Its name in the admin API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Tools => "tools",
            Self::Plain => "plain",
        }
    }
}

/// Identity of a lineage inside its session, written `0123456789abcdef` or, from the second sibling
/// on, `0123456789abcdef#2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LineageId {
    /// Hash of how it began.
    pub base: u64,
    /// Which of those that began alike, counted from 1.
    pub sibling: u32,
}

impl fmt::Display for LineageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.base)?;
        match self.sibling {
            1 => Ok(()),
            n => write!(f, "#{n}"),
        }
    }
}

/// A conversation as this request shows it.
#[derive(Clone, Debug)]
pub struct Transcript {
    kind: Kind,
    base: u64,
    continues: bool,
    messages: Vec<u64>,
    /// Where in the request each of them stands.
    places: Vec<u32>,
    /// Hash of the messages up to and including each.
    prefixes: Vec<u64>,
}

impl Transcript {
    /// Read a request's; `agent` is the subagent's id, where the client sends one.
    pub fn read(turn: &Turn, agent: Option<&str>, opener: &str) -> Self {
        let kind = match agent {
            Some(_) => Kind::Agent,
            None if turn.tools.is_empty() => Kind::Plain,
            None => Kind::Tools,
        };
        let name = agent.unwrap_or(opener);
        let base = xxh3_64_with_seed(name.as_bytes(), SEED ^ kind as u64);
        let hashed = turn.messages.iter().map(hash).zip(0..);
        let (messages, places): (Vec<u64>, Vec<u32>) = hashed
            .filter_map(|(hash, place)| Some((hash?, place)))
            .unzip();
        let mut all = SEED;
        let prefixes = messages.iter().map(|message| {
            all = join(all, *message);
            all
        });
        Self {
            kind,
            base,
            continues: is_summary(opener),
            prefixes: prefixes.collect(),
            messages,
            places,
        }
    }

    /// What the conversation is for.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Hash of all messages, the same for a client's retry of the same turn.
    pub fn key(&self) -> u64 {
        self.prefix(self.messages.len())
    }

    /// A hash for each message.
    pub fn messages(&self) -> &[u64] {
        &self.messages
    }

    /// How many messages it begins with in common with `others`.
    pub fn common_prefix(&self, others: &[u64]) -> usize {
        let pairs = self.messages.iter().zip(others);
        pairs.take_while(|(mine, other)| mine == other).count()
    }

    /// Hash of the first `length` messages, of which there are that many.
    fn prefix(&self, length: usize) -> u64 {
        match length.checked_sub(1) {
            None => SEED,
            Some(last) => self.prefixes[last],
        }
    }

    /// How many messages of the request the first `length` hashes stand for.
    fn span(&self, length: usize) -> usize {
        match length.checked_sub(1) {
            None => 0,
            Some(last) => self.places[last] as usize + 1,
        }
    }

    fn has_in_a_row(&self, pair: [u64; 2]) -> bool {
        self.messages.windows(2).any(|window| window == pair)
    }
}

/// Where a transcript belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// To the lineage at this index.
    Known(usize),
    /// To none yet.
    New(LineageId),
}

/// Find the lineage of `transcript` among those of its session, the most recently seen first.
/// `messages` gives the message hashes of a lineage's last transcript while they are remembered.
///
/// In this order: the sibling it extends farthest, one it is a pruned form of, one it has slid along
/// (the client dropped the oldest messages), and for a client's own summary the most recent of its
/// kind.
pub fn place<'a, M: AsRef<[u64]>>(
    transcript: &Transcript,
    trails: impl Iterator<Item = &'a Trail> + Clone,
    messages: impl Fn(LineageId) -> Option<M>,
) -> Place {
    let alike = || {
        trails
            .clone()
            .enumerate()
            .filter(|(_, t)| t.begins_like(transcript))
    };
    let same_kind = || {
        trails
            .clone()
            .enumerate()
            .filter(|(_, t)| t.kind == transcript.kind)
    };
    let extended = || alike().filter(|(_, t)| t.is_extended_by(transcript));
    let farthest = extended().max_by_key(|(index, t)| (t.length, Reverse(*index)));
    let found = farthest
        .or_else(|| alike().find(|(_, t)| t.is_pruned_to(transcript)))
        .or_else(|| {
            same_kind().find(|(_, t)| {
                // Asked for only where it can matter.
                t.is_pruned_to(transcript)
                    && messages(t.id).is_some_and(|m| t.has_slid_to(transcript, m.as_ref()))
            })
        })
        .or_else(|| {
            let compacted = || transcript.continues.then(same_kind).into_iter().flatten();
            match transcript.kind {
                Kind::Agent => compacted().find(|(_, t)| t.base == transcript.base),
                Kind::Tools | Kind::Plain => compacted().next(),
            }
        });
    match found {
        Some((index, _)) => Place::Known(index),
        None => {
            let base = transcript.base;
            let taken = trails
                .clone()
                .filter(|t| t.id.base == base)
                .map(|t| t.id.sibling);
            let sibling = taken.max().unwrap_or(0) + 1;
            Place::New(LineageId { base, sibling })
        }
    }
}

#[cfg(test)]
mod tests;

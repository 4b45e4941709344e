//! Telling lines of a backend's log.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Serialize;

use super::observe::Place;
use super::signature::Finding;

/// What a line of llama-server's log tells (b11434 and before; wording as in its source).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LogSignature {
    /// Positions of a sequence have a hole: recurrent or hybrid memory after a rollback of drafts.
    NonConsecutivePosition,
    /// No cell of the KV cache is free.
    KvCacheFull,
    /// The window slid on: the cached prompt is shifted, and wrong for some caches.
    ContextShift,
    /// A whole prompt is read anew.
    FullReprocessing,
    /// A checkpoint was thrown away to make room.
    CheckpointLost,
    /// The configured speculation could not be set up.
    SpecInitFailed,
    /// The hash pool of ngram-mod is full and starts anew.
    NgramPoolReset,
    /// The model's tool call could not be read.
    UnreadableCall,
    /// The process has aborted.
    Aborted,
}

impl LogSignature {
    /// What is the likely cause.
    pub const fn cause(self) -> &'static str {
        match self {
            Self::NonConsecutivePosition => {
                "recurrent or hybrid memory after a rollback of drafts, or a bug of that build"
            }
            Self::KvCacheFull => {
                "with `--kv-unified` all slots share one cache, and together they are over it"
            }
            Self::ContextShift => {
                "`--context-shift` is on and a conversation has outgrown its slot"
            }
            Self::FullReprocessing => {
                "sliding-window or recurrent memory without a checkpoint at the point where the prompt goes on"
            }
            Self::CheckpointLost => "more checkpoints than `--ctx-checkpoints` are wanted",
            Self::SpecInitFailed => "a draft type without its model, or a model that does not fit",
            Self::NgramPoolReset => "all slots share one pool of n-grams, and it is full",
            Self::UnreadableCall => {
                "the model's template or its sampling does not fit its tool calls"
            }
            Self::Aborted => "an assertion of the server does not hold",
        }
    }

    /// What to do about it.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::NonConsecutivePosition => {
                "run this model without speculation, or on another build"
            }
            Self::KvCacheFull => "a larger `-c`, fewer slots, or no `--kv-unified`",
            Self::ContextShift => {
                "no `--context-shift`: the gateway keeps conversations within the window"
            }
            Self::FullReprocessing => "raise `--ctx-checkpoints` and `--cache-ram`",
            Self::CheckpointLost => "raise `--ctx-checkpoints`",
            Self::SpecInitFailed => "give it `--spec-draft-model`, or another type",
            Self::NgramPoolReset => "fewer slots to a server, or another type",
            Self::UnreadableCall => "see interventions by model; update the server",
            Self::Aborted => "keep the log and its core; go back to the build before",
        }
    }
}

/// Part of a line, and what it tells. More than one part: all of them.
const LINES: &[(&[&str], LogSignature)] = &[
    (
        &["non-consecutive token position"],
        LogSignature::NonConsecutivePosition,
    ),
    (
        &["failed to find free space in the KV cache"],
        LogSignature::KvCacheFull,
    ),
    (
        &["failed to find a memory slot for batch"],
        LogSignature::KvCacheFull,
    ),
    (&["slot context shift"], LogSignature::ContextShift),
    (
        &["forcing full prompt re-processing"],
        LogSignature::FullReprocessing,
    ),
    (
        &["erasing old context checkpoint"],
        LogSignature::CheckpointLost,
    ),
    (
        &["failed to initialize speculative decoding context"],
        LogSignature::SpecInitFailed,
    ),
    (
        &["ngram_mod occupancy", "exceeds threshold"],
        LogSignature::NgramPoolReset,
    ),
    (
        &["unparsed peg-native output"],
        LogSignature::UnreadableCall,
    ),
    (&["GGML_ABORT"], LogSignature::Aborted),
    (&["map.idx_last_check > cur_len"], LogSignature::Aborted),
];

/// What `line` tells; none for nearly all lines.
pub fn log_signature(line: &str) -> Option<LogSignature> {
    told(line).map(|(_, signature)| signature)
}

/// The words that a telling line is known by, and what it tells.
fn told(line: &str) -> Option<(&'static [&'static str], LogSignature)> {
    let is_there = |(parts, _): &&(&[&str], _)| parts.iter().all(|part| line.contains(part));
    LINES.iter().find(is_there).copied()
}

/// Kinds of lines remembered, over all backends; the one seen longest ago goes first.
const MOST: usize = 256;

/// Time without a further line of its kind after which one is forgotten.
const KEPT: Duration = Duration::from_secs(3600);

/// Numbers of a line that are kept.
const MOST_NUMBERS: usize = 8;

/// The telling lines of all backends.
#[derive(Debug, Default)]
pub(super) struct Lines(VecDeque<Line>);

#[derive(Debug)]
struct Line {
    place: Place,
    signature: LogSignature,
    shown: Box<str>,
    count: u64,
    /// When the last one came.
    at: Duration,
}

impl Lines {
    /// Takes a line in that came `now`. Whether it is a telling one.
    pub(super) fn push(&mut self, place: &Place, line: &str, now: Duration) -> bool {
        let Some((parts, signature)) = told(line) else {
            return false;
        };
        let same = |known: &Line| (&known.place, known.signature) == (place, signature);
        let known = self
            .0
            .iter()
            .position(same)
            .and_then(|at| self.0.remove(at));
        if known.is_none() && self.0.len() >= MOST {
            self.0.pop_front();
        }
        self.0.push_back(Line {
            place: place.clone(),
            signature,
            shown: shown(line, parts).into(),
            count: known.map_or(0, |known| known.count).saturating_add(1),
            at: now,
        });
        true
    }

    /// Forgets what was not seen again for [`KEPT`].
    pub(super) fn expire(&mut self, now: Duration) {
        let is_fresh = |line: &Line| now.saturating_sub(line.at) < KEPT;
        self.0.retain(is_fresh);
    }

    pub(super) fn findings(&self) -> impl Iterator<Item = Finding> {
        let finding = |l: &Line| Finding::of_log(&l.place, l.signature, &l.shown, l.count);
        self.0.iter().map(finding)
    }
}

/// What of a line may be shown anywhere: the words that it was known by, and the numbers after them. Nothing else of
/// it is kept: a log can have what users and models have said.
fn shown(line: &str, parts: &[&str]) -> String {
    let first = parts.first().copied().unwrap_or_default();
    let mut text = parts.join(" … ");
    let Some((_, rest)) = line.split_once(first) else {
        return text;
    };
    let is_number = |word: &&str| !word.is_empty() && word.len() <= 12;
    let words = rest.split(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | '-'));
    let numbers = words.filter(is_number).filter_map(|word| {
        let word = word.trim_matches(|c| matches!(c, '.' | '-'));
        word.parse::<f64>().is_ok().then_some(word)
    });
    for (n, number) in numbers.take(MOST_NUMBERS).enumerate() {
        text.push_str(if n == 0 { ": " } else { ", " });
        text.push_str(number);
    }
    text
}

#[cfg(test)]
mod tests;

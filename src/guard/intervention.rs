//! What guards did to a turn: recorded once, then counted, logged and shown.
//!
//! Every guard records through [`Ledger::record`]. The turn's ledger ends up in the metric
//! `drover_interventions_total`, in the access log, in `x-drover-interventions` and in the view of
//! the session.

use serde::Serialize;

use super::floor;
use crate::config::Preset;

/// Longest part of a text that is kept, in bytes.
const MAX_EXCERPT: usize = 240;

/// Interventions of one turn that keep excerpts; a model that does everything wrong does much of it.
const MAX_EXCERPTS: usize = 32;

/// Something a guard changed, or would have changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Intervention {
    /// What was done: a stable name, the label of the metric.
    pub kind: &'static str,
    /// Whether it was done, or only seen.
    pub mode: Mode,
    /// The attempt whose answer showed the need, from 1; 0 is before the first attempt.
    pub attempt: u32,
    /// What was there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Excerpt>,
    /// What came in its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Excerpt>,
}

impl Intervention {
    /// Whether something was changed.
    pub fn acted(&self) -> bool {
        self.mode == Mode::Act
    }

    /// Memory its excerpts take, in bytes.
    pub fn excerpt_bytes(&self) -> usize {
        let excerpts = [&self.before, &self.after];
        let kept = excerpts
            .into_iter()
            .flatten()
            .filter_map(|e| e.text.as_deref());
        kept.map(str::len).sum()
    }
}

/// The kinds of what was changed, each once, in the order they first came.
pub fn kinds(interventions: &[Intervention]) -> Vec<&'static str> {
    let mut kinds = Vec::new();
    for done in interventions.iter().filter(|done| done.acted()) {
        if !kinds.contains(&done.kind) {
            kinds.push(done.kind);
        }
    }
    kinds
}

/// Whether guards act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// They change the turn.
    Act,
    /// They decide, and change nothing.
    Observe,
}

impl Mode {
    /// The label of metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Act => "act",
            Self::Observe => "observe",
        }
    }

    /// How guards of this preset are recorded.
    pub fn of(preset: Preset) -> Self {
        if preset.acts() {
            Self::Act
        } else {
            Self::Observe
        }
    }
}

/// The beginning of a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Excerpt {
    /// Length of the whole text.
    bytes: usize,
    /// Its beginning; none where excerpts are redacted.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<Box<str>>,
}

impl Excerpt {
    fn of(text: &str, keep: bool) -> Self {
        Self {
            bytes: text.len(),
            text: keep.then(|| text[..floor(text, MAX_EXCERPT)].into()),
        }
    }
}

/// The interventions of a turn, in the order they were made.
#[derive(Clone, Debug)]
pub struct Ledger {
    mode: Mode,
    keep_excerpts: bool,
    attempt: u32,
    entries: Vec<Intervention>,
}

impl Ledger {
    /// An empty ledger. With `keep_excerpts` false only the lengths of texts are recorded.
    pub fn new(mode: Mode, keep_excerpts: bool) -> Self {
        Self {
            mode,
            keep_excerpts,
            attempt: 0,
            entries: Vec::new(),
        }
    }

    /// An empty ledger for a part of the turn, to be [taken in](Self::take_in) later.
    #[must_use]
    pub fn part(&self) -> Self {
        Self {
            entries: Vec::new(),
            ..*self
        }
    }

    /// A guard of the name `kind` changed `before` into `after`, or would have; either is none where
    /// there is nothing to show.
    pub fn record(&mut self, kind: &'static str, before: Option<&str>, after: Option<&str>) {
        let keep = self.keep_excerpts && self.entries.len() < MAX_EXCERPTS;
        self.entries.push(Intervention {
            kind,
            mode: self.mode,
            attempt: self.attempt,
            before: before.map(|text| Excerpt::of(text, keep)),
            after: after.map(|text| Excerpt::of(text, keep)),
        });
    }

    /// Another attempt begins: what is recorded from now on belongs to it.
    pub fn attempt_begins(&mut self) {
        self.attempt += 1;
    }

    /// Move what a part of the turn has recorded to the end of this ledger.
    pub fn take_in(&mut self, part: &mut Self) {
        self.entries.append(&mut part.entries);
    }

    /// Everything so far.
    pub fn entries(&self) -> &[Intervention] {
        &self.entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_knows_its_attempt_its_mode_and_what_changed() {
        let mut turn = Ledger::new(Mode::Act, true);
        turn.record("planned", None, Some("a hint"));
        turn.attempt_begins();
        turn.attempt_begins();
        let mut part = turn.part();
        part.record("repaired", Some("{a"), Some("{}"));
        turn.take_in(&mut part);
        assert!(part.entries().is_empty());
        let shown = serde_json::to_value(turn.entries()).unwrap();
        let expected = serde_json::json!([
            {"kind": "planned", "mode": "act", "attempt": 0, "after": {"bytes": 6, "text": "a hint"}},
            {"kind": "repaired", "mode": "act", "attempt": 2,
             "before": {"bytes": 2, "text": "{a"}, "after": {"bytes": 2, "text": "{}"}},
        ]);
        assert_eq!(shown, expected);
    }

    #[test]
    fn excerpts_are_bounded_and_redactable() {
        let long = "é".repeat(10_000);
        let mut redacted = Ledger::new(Mode::Observe, false);
        redacted.record("x", Some(&long), None);
        assert_eq!(redacted.entries()[0].excerpt_bytes(), 0);
        assert_eq!(redacted.entries()[0].before.as_ref().unwrap().bytes, 20_000);
        let mut kept = Ledger::new(Mode::Act, true);
        for _ in 0..1000 {
            kept.record("x", Some(&long), Some(&long));
        }
        let bytes: usize = kept.entries().iter().map(Intervention::excerpt_bytes).sum();
        assert!(bytes <= MAX_EXCERPTS * 2 * MAX_EXCERPT, "{bytes}");
        assert_eq!(kept.entries().len(), 1000, "each is counted");
    }
}

//! Two artifacts, or two contestants of one, beside each other.
//!
//! The number of turns is fixed before they are made and looked at once, so that a test of fixed size is right here,
//! where production traffic needs one that may be looked at after every turn ([`crate::spec::sequential`]). Times and
//! speeds are compared as differences of logarithms, prompt by prompt where both had the same prompts (Student's
//! paired t), as two samples of unequal variance where not (Welch). Rates are compared by Fisher's exact test. α is
//! shared out over all contestants, workloads and metrics (Bonferroni), so that it is the chance of any wrong word in
//! the whole comparison.

mod sides;
mod text;

use std::fmt;

use serde::Serialize;

pub(super) use sides::Sides;

use super::artifact::{Artifact, Cell, StopReason, TurnResult, Workload};

/// Fewest pairs of turns, or turns of each side, that anything is said of.
pub const LEAST: u64 = 5;
/// Load for each hardware thread from which on other work disturbs a benchmark of one request at a time.
const BUSY: f64 = 0.75;

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Generated tokens a second.
    DecodeTps,
    /// Evaluated prompt tokens a second.
    PrefillTps,
    /// Time to the first content.
    Ttft,
    /// Tokens that a verified draft brings.
    AcceptLength,
    /// Part of the answers with a call that cannot be used.
    MalformedRate,
    /// Part of the turns that failed.
    ErrorRate,
}

impl Metric {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::DecodeTps,
        Self::PrefillTps,
        Self::Ttft,
        Self::AcceptLength,
        Self::MalformedRate,
        Self::ErrorRate,
    ];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DecodeTps => "decode_tps",
            Self::PrefillTps => "prefill_tps",
            Self::Ttft => "ttft",
            Self::AcceptLength => "accept_length",
            Self::MalformedRate => "malformed_rate",
            Self::ErrorRate => "error_rate",
        }
    }

    /// ln of it, of one turn; rates are of many.
    fn of(self, turn: &TurnResult) -> Option<f64> {
        let value = match self {
            Self::DecodeTps => turn.decode_tps(),
            Self::PrefillTps => turn.prefill_tps(),
            Self::Ttft => turn.ttft_ms,
            Self::AcceptLength => turn.drafts.accept_length(),
            Self::MalformedRate | Self::ErrorRate => None,
        };
        value
            .filter(|value| *value > 0.0 && turn.is_answered())
            .map(f64::ln)
    }

    /// Whether a turn is one of those that a rate counts.
    fn counts(self, turn: &TurnResult) -> Option<bool> {
        match self {
            Self::MalformedRate => Some(turn.malformed),
            Self::ErrorRate => Some(turn.stop == StopReason::Failed),
            _ => None,
        }
    }

    /// Whether less of it is better.
    const fn is_cost(self) -> bool {
        matches!(self, Self::Ttft | Self::MalformedRate | Self::ErrorRate)
    }
}

/// What is put up with, and how sure to be.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Chance of any wrong `better` or `worse` of the whole comparison.
    pub alpha: f64,
    /// Loss of decode speed that is no regression yet, as a part.
    pub decode: f64,
    /// Loss of prefill speed.
    pub prefill: f64,
    /// More time to the first content.
    pub ttft: f64,
    /// Loss of accept length.
    pub accept_length: f64,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            alpha: 0.05,
            decode: 0.03,
            prefill: 0.05,
            ttft: 0.05,
            accept_length: 0.1,
        }
    }
}

impl Terms {
    fn margin(&self, metric: Metric) -> f64 {
        match metric {
            Metric::DecodeTps => self.decode,
            Metric::PrefillTps => self.prefill,
            Metric::Ttft => self.ttft,
            Metric::AcceptLength => self.accept_length,
            Metric::MalformedRate | Metric::ErrorRate => 0.0,
        }
    }
}

/// What can be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is worse, by more than is put up with.
    Worse,
    /// Nothing, or nothing that matters.
    NoDifference,
    /// It is better.
    Better,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Worse => "worse",
            Self::NoDifference => "no difference",
            Self::Better => "better",
        })
    }
}

/// One metric of one contestant on one workload, in B compared with A.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// What.
    pub metric: Metric,
    /// A and B: geometric means, or rates.
    pub values: (f64, f64),
    /// Factor B / A less 1, and the interval it is in with [`Comparison::confidence`]; none for a rate.
    pub change: Option<(f64, f64, f64)>,
    /// p value of the difference of rates, before sharing α out; none for a quantity.
    pub p: Option<f64>,
    /// Pairs of turns, or turns of the smaller side.
    pub n: u64,
    /// What that means.
    pub verdict: Verdict,
}

/// One contestant on one workload.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CellChange {
    /// Which contestant.
    pub contestant: String,
    /// Which workload.
    pub workload: Workload,
    /// `worse` when any metric is, else that of decode speed.
    pub verdict: Verdict,
    /// Metric by metric.
    pub changes: Vec<Change>,
}

/// B compared with A.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// `id` of A and B.
    pub artifacts: (String, String),
    /// Whether turns were compared prompt by prompt.
    pub paired: bool,
    /// Confidence of all intervals together.
    pub confidence: f64,
    /// What to know before believing it.
    pub warnings: Vec<String>,
    /// Every cell that both have.
    pub cells: Vec<CellChange>,
}

impl Comparison {
    /// Whether anything is worse.
    pub fn has_regressed(&self) -> bool {
        self.cells.iter().any(|cell| cell.verdict == Verdict::Worse)
    }
}

/// Compares B with A.
///
/// # Errors
/// They have nothing in common that could be compared, in words.
pub fn compare(a: &Artifact, b: &Artifact, terms: &Terms) -> Result<Comparison, String> {
    let pairs: Vec<(&str, &Cell, &Cell)> = a
        .contestants
        .iter()
        .filter_map(|before| Some((before, b.contestant(&before.name)?)))
        .flat_map(|(before, now)| {
            let cells = before.cells.iter();
            cells.filter_map(|cell| Some((before.name.as_str(), cell, now.cell(cell.workload)?)))
        })
        .collect();
    if pairs.is_empty() {
        return Err("the artifacts have no contestant with a workload in common".to_owned());
    }
    other_model(a, b)?;
    let most = pairs
        .iter()
        .map(|(_, a, b)| a.turns.len().min(b.turns.len()));
    if most.max().unwrap_or(0) < LEAST as usize {
        return Err(format!(
            "fewer than {LEAST} turns of each contestant and workload tell nothing"
        ));
    }
    let paired = a.protocol.prompts_sha256 == b.protocol.prompts_sha256;
    let share = terms.alpha / (pairs.len() * Metric::ALL.len()) as f64;
    let cells = pairs
        .into_iter()
        .map(|(name, a, b)| cell(name, (a, b), paired, share, terms))
        .collect();
    Ok(Comparison {
        artifacts: (a.id.clone(), b.id.clone()),
        paired,
        confidence: 1.0 - terms.alpha,
        warnings: warnings(a, b, paired),
        cells,
    })
}

/// Another model is another measurement.
fn other_model(a: &Artifact, b: &Artifact) -> Result<(), String> {
    for before in &a.contestants {
        let Some(now) = b.contestant(&before.name) else {
            continue;
        };
        let hash = |c: &super::ContestantResult| c.model.as_ref().and_then(|m| m.sha256.clone());
        if let (Some(then), Some(now)) = (hash(before), hash(now))
            && then != now
        {
            return Err(format!("{}: the model files are not the same", before.name));
        }
    }
    Ok(())
}

fn warnings(a: &Artifact, b: &Artifact, paired: bool) -> Vec<String> {
    let mut warnings = Vec::new();
    if !a.lineage.hardware.is_like(&b.lineage.hardware) {
        warnings.push("the machines differ: a difference may be theirs".to_owned());
    }
    if !paired {
        warnings
            .push("the prompts differ: turns are compared as a whole, which sees less".to_owned());
    }
    let of = |p: &super::Protocol| (p.max_tokens, p.temperature.to_bits());
    if of(&a.protocol) != of(&b.protocol) {
        warnings.push("token limits or temperatures differ".to_owned());
    }
    for hardware in [&a.lineage.hardware, &b.lineage.hardware] {
        let busy = |load: &f64| *load > BUSY * hardware.threads as f64;
        if let Some(load) = hardware.load_1m.filter(busy) {
            warnings.push(format!(
                "other work ran on the machine (load {load:.1} at the beginning)"
            ));
        }
    }
    warnings
}

fn cell(
    contestant: &str,
    (a, b): (&Cell, &Cell),
    paired: bool,
    share: f64,
    terms: &Terms,
) -> CellChange {
    let sides = Sides {
        a: &a.turns,
        b: &b.turns,
        paired,
    };
    let changes: Vec<Change> = Metric::ALL
        .into_iter()
        .filter_map(|metric| match metric {
            Metric::MalformedRate | Metric::ErrorRate => Some(sides.rate(metric, share)),
            _ => sides.quantity(metric, share, terms.margin(metric)),
        })
        .collect();
    let worst = changes.iter().map(|change| change.verdict).min();
    let decode = changes
        .iter()
        .find(|change| change.metric == Metric::DecodeTps);
    CellChange {
        contestant: contestant.to_owned(),
        workload: a.workload,
        verdict: match worst {
            Some(Verdict::Worse) => Verdict::Worse,
            _ => decode.map_or(Verdict::NoDifference, |change| change.verdict),
        },
        changes,
    }
}

#[cfg(test)]
mod tests;

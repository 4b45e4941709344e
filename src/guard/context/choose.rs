//! How much of a conversation to leave out.

use super::measure::Measure;
use super::size::ratio;
use super::{MessageHash, pairs};
use crate::config::Context;
use crate::turn::Message;

/// Messages certain to stay, and fewer where that is too much.
const KEEP: [usize; 3] = [8, 4, 0];

/// Where pruning is critical, the target is so much lower.
const CRITICAL_TARGET: f64 = 0.8;

/// What a last resort may take of the window: some room is needed for an answer.
const LAST_RESORT: f64 = 0.97;

/// What a cut should bring a prompt down to, in weights.
#[derive(Clone, Copy, Debug)]
pub(super) struct Aim {
    target: u64,
    enough: u64,
    fits: u64,
    critical: bool,
}

impl Aim {
    /// For a prompt of this weight with `tokens`.
    pub(super) fn new(settings: &Context, tokens: u64, weight: u64, n_ctx: u64) -> Self {
        let ratio = ratio(tokens, weight);
        let share = |share: f64| (share * n_ctx as f64 / ratio) as u64;
        let critical = tokens as f64 >= settings.critical * n_ctx as f64;
        let target = settings.target * if critical { CRITICAL_TARGET } else { 1.0 };
        Self {
            target: share(target),
            enough: share(settings.threshold),
            fits: share(LAST_RESORT),
            critical,
        }
    }
}

/// Where the rest should begin: as early as the target allows, with the last messages in it, while
/// that is enough.
pub(super) fn choose(
    messages: &[Message],
    measure: &Measure,
    aim: Aim,
    hash: MessageHash,
) -> Option<usize> {
    let starts = pairs::starts(messages, measure.head_end?, hash);
    for keep in KEEP.into_iter().skip(usize::from(aim.critical)) {
        let latest = messages.len().saturating_sub(keep);
        let allowed = &starts[..starts.partition_point(|at| *at <= latest)];
        let first = allowed.partition_point(|at| measure.weight_from(*at) > aim.target);
        if let Some(at) = allowed.get(first).or(allowed.last())
            && measure.weight_from(*at) < aim.enough
        {
            return Some(*at);
        }
    }
    // Not much, but better than nothing if it fits at all.
    let last = *starts.last()?;
    (measure.weight_from(last) < aim.fits).then_some(last)
}

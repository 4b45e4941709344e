//! How many tokens a prompt has, as far as it is known.

/// Tokens of a byte before anything was counted, and their bounds. English, code and JSON have 0.2 to
/// 0.4; digits, base64 and scripts a tokenizer was not made for come to more.
const LIKELY: f64 = 0.33;
const LEAST: f64 = 0.15;
const MOST: f64 = 0.6;

/// How far off a measured ratio may be for other text of the same conversation.
const SPREAD: f64 = 1.35;

/// Tokens of a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    /// At least.
    pub(super) low: u64,
    /// Probably.
    pub(super) likely: u64,
    /// At most.
    pub(super) high: u64,
}

impl Size {
    /// Counted.
    pub(super) fn exact(tokens: u64) -> Self {
        Self {
            low: tokens,
            likely: tokens,
            high: tokens,
        }
    }

    /// Of a prompt of this weight, nothing being known.
    pub(super) fn guess(weight: u64) -> Self {
        Self {
            low: times(weight, LEAST),
            likely: times(weight, LIKELY),
            high: times(weight, MOST),
        }
    }

    /// Of a prompt of this weight, where one of weight `known` has `tokens`.
    pub(super) fn scaled(weight: u64, tokens: u64, known: u64) -> Self {
        let likely = weight as f64 * ratio(tokens, known);
        Self {
            low: (likely / SPREAD) as u64,
            likely: likely as u64,
            high: (likely * SPREAD) as u64,
        }
    }

    /// Of a prompt that goes on from one of weight `known` with `tokens`, by `more`.
    pub(super) fn grown(tokens: u64, known: u64, more: u64) -> Self {
        Self {
            low: tokens + times(more, LEAST),
            likely: tokens + times(more, ratio(tokens, known).max(LIKELY)),
            high: tokens + times(more, MOST),
        }
    }
}

/// Tokens of a byte, within reason.
pub(super) fn ratio(tokens: u64, weight: u64) -> f64 {
    (tokens as f64 / weight.max(1) as f64).clamp(0.02, 2.0)
}

fn times(weight: u64, factor: f64) -> u64 {
    (weight as f64 * factor) as u64
}

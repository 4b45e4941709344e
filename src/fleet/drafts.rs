//! What a server counts of its drafts in `/metrics` (llama-server b11434, `tools/server/server-task.cpp`). It is the only
//! place that tells acceptance by position. Counts are those since its start and include requests whose client left.

use serde::Serialize;

/// Positions that are read: the longest drafts have 64.
const MOST_POSITIONS: usize = 128;

/// See the module's documentation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DraftCounts {
    /// Generated tokens.
    pub generated: u64,
    /// Drafts that were verified.
    pub drafts: u64,
    /// Their tokens.
    pub drafted: u64,
    /// Those of them that were accepted.
    pub accepted: u64,
    /// The same by their position in the draft.
    pub at_position: Vec<u64>,
}

impl DraftCounts {
    /// Reads Prometheus text. None where it is no llama-server's, or one that counts no drafts.
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let mut counts = Self::default();
        let mut is_one = false;
        for line in String::from_utf8_lossy(body).lines() {
            let Some((name, value)) = line.strip_prefix("llamacpp:").and_then(sample) else {
                continue;
            };
            let (name, labels) = name.split_once('{').unwrap_or((name, ""));
            match name {
                "tokens_predicted_total" => counts.generated = value,
                "spec_decode_num_drafts_total" => (is_one, counts.drafts) = (true, value),
                "spec_decode_num_draft_tokens_total" => counts.drafted = value,
                "spec_decode_num_accepted_tokens_total" => counts.accepted = value,
                "spec_decode_num_accepted_tokens_per_pos_total" => {
                    counts.set(position(labels)?, value);
                }
                _ => {}
            }
        }
        is_one.then_some(counts)
    }

    fn set(&mut self, position: usize, value: u64) {
        if position < MOST_POSITIONS {
            let len = self.at_position.len().max(position + 1);
            self.at_position.resize(len, 0);
            self.at_position[position] = value;
        }
    }

    /// Part of the drafts that held up to each position.
    pub fn acceptance(&self) -> Vec<f64> {
        let part = |count: &u64| *count as f64 / self.drafts.max(1) as f64;
        self.at_position.iter().map(part).collect()
    }
}

/// Name with labels, and value.
fn sample(line: &str) -> Option<(&str, u64)> {
    let (name, value) = line.rsplit_once(' ')?;
    let value: f64 = value.parse().ok()?;
    (value.is_finite() && value >= 0.0).then_some((name, value as u64))
}

/// The value of `position="…"}`.
fn position(labels: &str) -> Option<usize> {
    let (_, rest) = labels.split_once("position=\"")?;
    rest.split('"').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP llamacpp:spec_decode_num_drafts_total Speculative\n\
        llamacpp:tokens_predicted_total 300\nllamacpp:spec_decode_num_drafts_total 16\n\
        llamacpp:spec_decode_num_draft_tokens_total 1024\n\
        llamacpp:spec_decode_num_accepted_tokens_total 29\n\
        llamacpp:spec_decode_num_accepted_tokens_per_pos_total{position=\"0\"} 15\n\
        llamacpp:spec_decode_num_accepted_tokens_per_pos_total{position=\"1\"} 14\n\
        llamacpp:predicted_tokens_seconds 53.3586\n";

    #[test]
    fn counts_are_read_from_what_the_server_writes() {
        let counts = DraftCounts::parse(TEXT.as_bytes()).unwrap();
        assert_eq!((counts.generated, counts.drafts), (300, 16));
        assert_eq!((counts.drafted, counts.accepted), (1024, 29));
        assert_eq!(counts.at_position, [15, 14]);
        assert_eq!(counts.acceptance(), [15.0 / 16.0, 14.0 / 16.0]);
    }

    #[test]
    fn other_texts_are_no_counts() {
        for text in [
            "",
            "{}",
            "llamacpp:tokens_predicted_total 3\n",
            "\u{0}\u{1} x",
        ] {
            assert_eq!(DraftCounts::parse(text.as_bytes()), None);
        }
        let far = TEXT.replace("\"1\"", "\"99999999999\"");
        assert_eq!(
            DraftCounts::parse(far.as_bytes()).unwrap().at_position,
            [15]
        );
        let odd = TEXT.replace("\"1\"", "\"-1\"").replace(" 1024", " NaN");
        assert_eq!(DraftCounts::parse(odd.as_bytes()), None, "unreadable");
    }
}

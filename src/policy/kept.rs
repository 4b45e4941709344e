//! Texts that are kept with decisions: secrets in them are shown to nobody.

use serde::{Serialize, Serializer};

use super::secret;
use crate::turn::floor;

/// Longest text kept, in bytes: a call that is larger cannot be judged again by its record.
const MAX_KEPT: usize = 64 << 10;

/// The beginning of a text. What looks like a credential is taken out when it is shown, not before:
/// most texts are never shown, and requests need not wait for the search.
#[derive(Clone, PartialEq, Eq)]
pub struct Kept {
    text: String,
    /// Bytes left out at its end.
    cut: usize,
}

impl Kept {
    /// The beginning of `text`.
    pub fn of(text: &str) -> Self {
        let end = floor(text, MAX_KEPT);
        Self {
            text: text[..end].to_owned(),
            cut: text.len() - end,
        }
    }

    /// Bytes of it.
    pub fn size(&self) -> usize {
        self.text.len()
    }

    /// At most `max` bytes of it, without secrets, and how many bytes are missing at the end.
    pub fn redacted(&self, max: usize) -> (String, usize) {
        // Searched as a whole: a secret that is cut in two has no known form any more.
        let mut text = secret::redact(&self.text);
        let end = floor(&text, max);
        let cut = self.cut + text.len() - end;
        text.truncate(end);
        (text, cut)
    }
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (text, cut) = self.redacted(200);
        write!(f, "{text:?} and {cut} bytes")
    }
}

impl Serialize for Kept {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.redacted(MAX_KEPT).0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_shown_to_nobody() {
        let kept = Kept::of("x password = \"hunter2hunter2\" y");
        let shown = [
            kept.redacted(1000).0,
            format!("{kept:?}"),
            serde_json::to_string(&kept).unwrap(),
        ];
        assert!(
            shown.iter().all(|text| !text.contains("hunter2")),
            "{shown:?}"
        );
        let (text, cut) = kept.redacted(4);
        assert_eq!((text.as_str(), cut), ("x [r", 10));
    }

    #[test]
    fn long_texts_are_cut_and_say_so() {
        let (text, cut) = Kept::of(&"é".repeat(MAX_KEPT)).redacted(5);
        assert_eq!((text.as_str(), cut), ("éé", 2 * MAX_KEPT - 4));
    }
}

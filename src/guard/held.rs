//! Holding back the end of a text that may still become something.

/// Length of the longest end of `text` that is a proper beginning of one of `markers`.
pub(super) fn longest_overlap<S: AsRef<str>>(text: &str, markers: &[S]) -> usize {
    markers
        .iter()
        .map(|marker| overlap(text, marker.as_ref()))
        .max()
        .unwrap_or(0)
}

fn overlap(text: &str, marker: &str) -> usize {
    let longest = text.len().min(marker.len().saturating_sub(1));
    (1..=longest)
        .rev()
        .find(|&length| {
            marker.is_char_boundary(length)
                && text.as_bytes().ends_with(&marker.as_bytes()[..length])
        })
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_beginning_counts() {
        assert_eq!(longest_overlap("go aa", &["aab", "a!"]), 2);
        assert_eq!(longest_overlap("aab", &["aab"]), 0);
        assert_eq!(longest_overlap("x\u{1f999}", &["\u{1f999}!"]), 4);
        assert_eq!(longest_overlap("", &["a"]), 0);
    }
}

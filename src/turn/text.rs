//! Cutting texts.

/// The last character boundary of `text` at or before `at`.
pub fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::floor;

    #[test]
    fn no_character_is_cut() {
        let found: Vec<usize> = (0..6).map(|at| floor("a\u{20ac}b", at)).collect();
        assert_eq!(found, [0, 1, 1, 1, 4, 5]);
        assert_eq!(floor("", 7), 0);
    }
}

//! Scripts of sed: whether one writes files or runs programs.

use super::word::Word;

/// Whether `sed …` may write a file, besides those it edits in place, or run a program. What cannot be
/// read counts as if it did.
pub(super) fn writes(words: &[Word]) -> bool {
    let mut scripts: Vec<&Word> = Vec::new();
    let mut glued: Vec<&str> = Vec::new();
    let mut first = None;
    let mut at = 1;
    while let Some(word) = words.get(at) {
        let text = word.text.as_str();
        let cluster = text.len() > 1 && text.starts_with('-') && !text.starts_with("--");
        if text == "--expression" || cluster && text.ends_with('e') {
            scripts.extend(words.get(at + 1));
            at += 1;
        } else if let Some(script) = text
            .strip_prefix("--expression=")
            .or_else(|| text.strip_prefix("-e"))
        {
            if !word.fixed {
                return true;
            }
            glued.push(script);
        } else if text.starts_with("--file") || cluster && text.contains('f') {
            return true;
        } else if !text.starts_with('-') {
            first = first.or(Some(word));
        }
        at += 1;
    }
    if scripts.is_empty() && glued.is_empty() {
        scripts.extend(first);
    }
    let unsafe_one = |script: &str| Reader(script.as_bytes()).writes().unwrap_or(true);
    scripts
        .iter()
        .any(|word| !word.fixed || unsafe_one(&word.text))
        || glued.into_iter().any(unsafe_one)
}

/// Reads commands one after the other.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn skip(&mut self, which: impl Fn(u8) -> bool) {
        let count = self.0.iter().take_while(|b| which(**b)).count();
        self.0 = &self.0[count..];
    }

    /// Past the next unescaped `end`.
    fn past(&mut self, end: u8) -> Option<()> {
        loop {
            match self.next()? {
                b'\\' => {
                    self.next()?;
                }
                byte if byte == end => return Some(()),
                _ => {}
            }
        }
    }

    /// None: it cannot be read.
    fn writes(&mut self) -> Option<bool> {
        loop {
            self.skip(|b| b.is_ascii_whitespace() || b";{}".contains(&b));
            if self.0.is_empty() {
                return Some(false);
            }
            self.addresses()?;
            match self.next()? {
                b's' => {
                    let end = self.next().filter(|b| !b.is_ascii_alphanumeric())?;
                    self.past(end)?;
                    self.past(end)?;
                    let flags: Vec<u8> = self
                        .0
                        .iter()
                        .copied()
                        .take_while(u8::is_ascii_alphanumeric)
                        .collect();
                    if flags.iter().any(|b| b"we".contains(b)) {
                        return Some(true);
                    }
                    self.0 = &self.0[flags.len()..];
                }
                b'y' => {
                    let end = self.next()?;
                    self.past(end)?;
                    self.past(end)?;
                }
                b'p' | b'P' | b'd' | b'D' | b'n' | b'N' | b'h' | b'H' | b'g' | b'G' | b'x'
                | b'q' | b'Q' | b'=' | b'l' | b'z' | b'F' => {
                    self.skip(|b| b.is_ascii_digit() || b == b' ')
                }
                b'b' | b't' | b'T' | b':' => self.skip(|b| b != b';' && b != b'\n'),
                b'a' | b'i' | b'c' | b'r' | b'R' | b'#' => self.skip(|b| b != b'\n'),
                b'w' | b'W' | b'e' => return Some(true),
                _ => return None,
            }
        }
    }

    /// `1`, `$`, `/re/`, two of them, `!`.
    fn addresses(&mut self) -> Option<()> {
        loop {
            match self.0.first() {
                Some(b'/') => {
                    self.next();
                    self.past(b'/')?;
                    self.skip(|b| b == b'I' || b == b'M');
                }
                Some(b'\\') => {
                    self.next();
                    let end = self.next()?;
                    self.past(end)?;
                }
                Some(b'0'..=b'9' | b'$' | b',' | b'~' | b'+' | b'!' | b' ') => {
                    self.next();
                }
                _ => return Some(()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::writes;

    #[rstest]
    #[case("sed -n 1,5p src/words.txt", false)]
    #[case("sed 's/new/word/g' word.txt", false)]
    #[case("sed -E '/w /d; s|a/b|c|' e", false)]
    #[case("sed -ne '$!N;s/\\n/ /;P;D'", false)]
    #[case("sed -e 1d -e 's/w/e/'", false)]
    #[case("sed -n '1w out' a", true)]
    #[case("sed wout a", true)]
    #[case("sed -e p -e '$w out' a", true)]
    #[case("sed s/a/b/gw\\ out a", true)]
    #[case("sed s/a/b/e a", true)]
    #[case("sed -n '/x/{w out' a", true)]
    #[case("sed -e'1e touch x' a", true)]
    #[case("sed '2,/end/W out' a", true)]
    #[case("sed -f script a", true)]
    #[case("sed \"$X\" a", true)]
    fn what_a_script_does_is_read(#[case] line: &str, #[case] expected: bool) {
        let script = super::super::parse(line);
        assert_eq!(writes(&script.commands[0].words), expected, "{line}");
    }
}

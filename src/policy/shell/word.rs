//! Words of a command line as the shell would pass them on.

use std::ops::Range;

/// One word after quotes and escapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// What it says, as far as that is known.
    pub text: String,
    /// Whether the text is all of it, and exactly it: no variable, substitution, glob or brace is left.
    pub fixed: bool,
    /// Where it stands in the line that was parsed; none inside quoted scripts.
    pub span: Option<Range<usize>>,
}

impl Word {
    /// A word that says `text`.
    pub fn fixed(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            fixed: true,
            span: None,
        }
    }

    /// A word nobody knows before it is run.
    pub fn unknown() -> Self {
        Self {
            text: String::new(),
            fixed: false,
            span: None,
        }
    }

    /// Its text, if that is all of it.
    pub fn known(&self) -> Option<&str> {
        self.fixed.then_some(self.text.as_str())
    }

    /// Whether it begins as an option does.
    pub fn is_option(&self) -> bool {
        self.text.len() > 1 && self.text.starts_with('-')
    }
}

/// The program a word names: its last component, lower-case, without `.exe`.
pub fn program(word: &str) -> String {
    let name = word.rsplit(['/', '\\']).next().unwrap_or(word);
    let name = name.to_ascii_lowercase();
    name.strip_suffix(".exe").unwrap_or(&name).to_owned()
}

/// A bare word: backslashes taken away. Globs, braces and a leading `~` leave it unknown.
pub(super) fn bare(raw: &str) -> (String, bool) {
    let mut text = String::with_capacity(raw.len());
    let mut fixed = !raw.starts_with('~');
    let mut chars = raw.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('\n') | None => {}
                Some(c) => text.push(c),
            },
            '*' | '?' | '[' | '{' | '}' => {
                // `{}` is what find and xargs fill in; the rest may become anything.
                fixed = false;
                text.push(c);
            }
            '$' | '`' => {
                fixed = false;
                text.push(c);
            }
            c => text.push(c),
        }
    }
    // `[` alone is a program, `{}` and `?` alone are not.
    (text, fixed || raw == "[")
}

/// The content of a double-quoted string: only `\$`, `` \` ``, `\"`, `\\` and a line's end are escapes.
pub(super) fn double(raw: &str) -> String {
    let mut text = String::with_capacity(raw.len());
    let mut chars = raw.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('\\', Some('$' | '`' | '"' | '\\')) => text.extend(chars.next()),
            ('\\', Some('\n')) => {
                chars.next();
            }
            (c, _) => text.push(c),
        }
    }
    text
}

/// The content of `$'…'`; none when an escape is not known here.
pub(super) fn ansi(raw: &str) -> Option<String> {
    let mut text = String::with_capacity(raw.len());
    let mut chars = raw.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '\\' {
            text.push(c);
            continue;
        }
        let c = match chars.next()? {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'a' => '\x07',
            'b' => '\x08',
            'e' | 'E' => '\x1b',
            'f' => '\x0c',
            'v' => '\x0b',
            c @ ('\\' | '\'' | '"' | '?') => c,
            'x' => number(&mut chars, 16, 2)?,
            'u' => number(&mut chars, 16, 4)?,
            'U' => number(&mut chars, 16, 8)?,
            c @ '0'..='7' => {
                let first = c.to_digit(8)?;
                let rest = digits(&mut chars, 8, 2).unwrap_or((0, 0));
                char::from_u32(first * 8u32.pow(rest.1) + rest.0)?
            }
            _ => return None,
        };
        text.push(c);
    }
    Some(text)
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

fn number(chars: &mut Chars<'_>, radix: u32, most: u32) -> Option<char> {
    char::from_u32(digits(chars, radix, most)?.0)
}

/// The number that up to `most` digits make, and how many there are.
fn digits(chars: &mut Chars<'_>, radix: u32, most: u32) -> Option<(u32, u32)> {
    let (mut value, mut count) = (0, 0);
    while count < most {
        let Some(digit) = chars.peek().and_then(|c| c.to_digit(radix)) else {
            break;
        };
        value = value * radix + digit;
        count += 1;
        chars.next();
    }
    (count > 0).then_some((value, count))
}

/// `text` so that a shell reads it as one word that says just that.
pub fn quote(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=@%+,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_taken_away() {
        assert_eq!(bare(r"g\it"), ("git".into(), true));
        assert!(!bare("gi?").1 && !bare("~/x").1 && !bare("{a,b}").1);
        assert_eq!(double(r#"a\"b\n"#), r#"a"b\n"#);
        assert_eq!(ansi(r"\x67\151\u0074").as_deref(), Some("git"));
        assert_eq!(ansi(r"\q"), None);
        assert_eq!(quote("it's"), r"'it'\''s'");
    }
}

//! Python's keyword arguments and literals as JSON.

use super::typed::push_string;

/// Deepest nesting of lists and dicts.
const MAX_DEPTH: usize = 64;

/// `k="v", n=1` as a JSON object; none when it is not keyword arguments of literals.
pub(super) fn keywords(source: &str) -> Option<String> {
    let mut reader = Reader { rest: source };
    let mut out = String::from("{");
    reader.space();
    while !reader.rest.is_empty() {
        if out.len() > 1 {
            out.push_str(", ");
        }
        let length = reader.rest.find(|c: char| !c.is_alphanumeric() && c != '_');
        let (key, rest) = reader.rest.split_at(length.filter(|length| *length > 0)?);
        push_string(key, &mut out);
        reader.rest = rest;
        reader.space();
        reader.expect('=')?;
        out.push_str(": ");
        reader.value(&mut out, MAX_DEPTH)?;
        reader.space();
        if !reader.rest.is_empty() {
            reader.expect(',')?;
            reader.space();
        }
    }
    out.push('}');
    Some(out)
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn expect(&mut self, wanted: char) -> Option<()> {
        self.rest = self.rest.strip_prefix(wanted)?;
        Some(())
    }

    fn value(&mut self, out: &mut String, depth: usize) -> Option<()> {
        self.space();
        match self.rest.chars().next()? {
            '"' | '\'' => self.string(out),
            '[' => self.sequence(out, ('[', ']'), false, depth.checked_sub(1)?),
            '{' => self.sequence(out, ('{', '}'), true, depth.checked_sub(1)?),
            _ => self.word(out),
        }
    }

    fn word(&mut self, out: &mut String) -> Option<()> {
        let end = |c: char| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '-' | '+' | '_');
        let length = self.rest.find(end).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(length);
        out.push_str(match word {
            "True" | "true" => "true",
            "False" | "false" => "false",
            "None" | "null" => "null",
            _ => {
                serde_json::from_str::<serde_json::Number>(word).ok()?;
                word
            }
        });
        self.rest = rest;
        Some(())
    }

    fn sequence(
        &mut self,
        out: &mut String,
        (open, close): (char, char),
        keyed: bool,
        depth: usize,
    ) -> Option<()> {
        self.expect(open)?;
        out.push(open);
        let mut first = true;
        loop {
            self.space();
            if let Some(rest) = self.rest.strip_prefix(close) {
                self.rest = rest;
                out.push(close);
                return Some(());
            }
            if !std::mem::take(&mut first) {
                self.expect(',')?;
                self.space();
                if self.rest.starts_with(close) {
                    continue;
                }
                out.push_str(", ");
            }
            if keyed {
                self.space();
                self.string(out)?;
                self.space();
                self.expect(':')?;
                out.push_str(": ");
            }
            self.value(out, depth)?;
        }
    }

    /// A string literal without prefix (Python 3 language reference, 2.4.1).
    fn string(&mut self, out: &mut String) -> Option<()> {
        let quote = self
            .rest
            .chars()
            .next()
            .filter(|c| matches!(c, '"' | '\''))?;
        let triple = match quote {
            '"' => "\"\"\"",
            _ => "'''",
        };
        let end = if self.rest.starts_with(triple) {
            triple
        } else {
            &triple[..1]
        };
        let mut rest = &self.rest[end.len()..];
        let mut text = String::new();
        loop {
            if let Some(after) = rest.strip_prefix(end) {
                self.rest = after;
                push_string(&text, out);
                return Some(());
            }
            let mut chars = rest.chars();
            match chars.next()? {
                '\\' => {
                    rest = chars.as_str();
                    rest = escape(rest, &mut text)?;
                }
                c => {
                    text.push(c);
                    rest = chars.as_str();
                }
            }
        }
    }
}

/// Append what the escape after a backslash stands for; unknown ones keep their backslash.
fn escape<'a>(rest: &'a str, text: &mut String) -> Option<&'a str> {
    let mut chars = rest.chars();
    let c = chars.next()?;
    let digits = match c {
        'x' => 2,
        'u' => 4,
        'U' => 8,
        _ => 0,
    };
    if digits > 0 {
        let code = u32::from_str_radix(rest.get(1..=digits)?, 16).ok()?;
        text.push(char::from_u32(code)?);
        return rest.get(1 + digits..);
    }
    match c {
        'n' => text.push('\n'),
        't' => text.push('\t'),
        'r' => text.push('\r'),
        'b' => text.push('\u{8}'),
        'f' => text.push('\u{c}'),
        'v' => text.push('\u{b}'),
        'a' => text.push('\u{7}'),
        '0' => text.push('\0'),
        '\n' => {}
        '\\' | '\'' | '"' => text.push(c),
        _ => text.extend(['\\', c]),
    }
    Some(chars.as_str())
}

#[cfg(test)]
mod tests {
    use super::keywords;

    #[test]
    fn keyword_arguments_become_an_object() {
        for (source, json) in [
            ("", Some("{}")),
            (r#"a="x, y=1", b = 2"#, Some(r#"{"a": "x, y=1", "b": 2}"#)),
            (r"a='it\'s', b=None,", Some(r#"{"a": "it's", "b": null}"#)),
            (
                r"a=[1, -2.5, True,], b={'k': {'l': []}}",
                Some(r#"{"a": [1, -2.5, true], "b": {"k": {"l": []}}}"#),
            ),
            ("a='''q'w\n'''", Some(r#"{"a": "q'w\n"}"#)),
            (r"a='\d\x41\u00e9\\n'", Some(r#"{"a": "\\dAé\\n"}"#)),
            ("'positional'", None),
            ("a=b", None),
            ("a=1+1", None),
            ("a='x' 'y'", None),
            ("a=", None),
        ] {
            assert_eq!(keywords(source).as_deref(), json, "{source}");
        }
    }
}

//! Where in a Markdown text we are: a tool call shown in code is not a call.
//!
//! Follows CommonMark (0.31) as far as a stream allows: fences with their lengths, code spans that
//! end with their paragraph at the latest, lines indented by four columns. Block quotes and table
//! rows count as samples too.

/// The state after the text so far.
#[derive(Clone, Debug)]
pub(super) struct Markdown {
    line: Line,
    /// The open code fence: its byte and length.
    fence: Option<(u8, u32)>,
    /// Length of the run of backticks that opened the current code span; 0 outside one.
    span: u32,
    /// Backticks just seen inside a line.
    run: u32,
    /// Something other than white space or a call is on this line.
    prose: bool,
    /// The line is indented code, a quotation or a table row.
    sample: bool,
    /// Nothing but white space so far in the whole answer.
    pristine: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// Only white space, of this many columns.
    Start(u8),
    /// Perhaps a list marker: digits, or one of `-*+` when `false`.
    Bullet(bool),
    /// A run of backticks or tildes at the start.
    Fence(u8, u32),
    /// What follows such a run: whether only white space does.
    Info(u8, u32, bool),
    Inside,
}

impl Markdown {
    pub(super) fn new() -> Self {
        Self {
            line: Line::Start(0),
            fence: None,
            span: 0,
            run: 0,
            prose: false,
            sample: false,
            pristine: true,
        }
    }

    /// Whether what comes now is inside code or another kind of sample.
    pub(super) fn is_code(&self) -> bool {
        if self.fence.is_some() || self.sample {
            return true;
        }
        let run = match self.line {
            Line::Start(columns) => return columns >= 4 || self.span != 0,
            Line::Info(..) => return true,
            Line::Fence(_, length) if length >= 3 => return true,
            Line::Fence(b'`', length) => length,
            _ => self.run,
        };
        match (self.span, run) {
            (span, 0) => span != 0,
            (0, _) => true,
            (span, run) => span != run,
        }
    }

    /// Whether nothing but white space came yet.
    pub(super) fn is_pristine(&self) -> bool {
        self.pristine
    }

    /// Whether only white space came on this line, not enough of it for indented code.
    pub(super) fn at_line_start(&self) -> bool {
        matches!(self.line, Line::Start(0..=3))
    }

    /// Whether prose came on this line.
    pub(super) fn has_prose(&self) -> bool {
        self.prose
    }

    /// How many bytes at the start of `text` change nothing here and begin no marker.
    pub(super) fn skip(&self, text: &[u8]) -> usize {
        if self.line != Line::Inside || self.run != 0 || !self.prose {
            return 0;
        }
        let stop = if self.fence.is_some() {
            memchr::memchr(b'\n', text)
        } else {
            text.iter().position(|&byte| INTERESTING[byte as usize])
        };
        stop.unwrap_or(text.len())
    }

    /// Take in one byte; `previous` is the one before it.
    pub(super) fn byte(&mut self, byte: u8, previous: u8) {
        if byte == b'\n' {
            return self.newline();
        }
        let blank = matches!(byte, b' ' | b'\t' | b'\r');
        self.pristine &= blank;
        match self.line {
            Line::Start(columns) => self.start(byte, columns),
            Line::Bullet(digits) => match byte {
                b'0'..=b'9' if digits => {}
                b'.' | b')' if digits => self.line = Line::Bullet(false),
                b' ' | b'\t' => self.line = Line::Start(0),
                _ => self.inside(byte, previous),
            },
            Line::Fence(fence, length) if byte == fence => {
                self.line = Line::Fence(fence, length + 1);
            }
            Line::Fence(fence, length) if length >= 3 => {
                self.line = Line::Info(fence, length, blank);
            }
            Line::Fence(fence, length) => {
                if fence == b'`' {
                    self.run = length;
                }
                self.inside(byte, previous);
            }
            Line::Info(b'`', length, _) if byte == b'`' && self.fence.is_none() => {
                // A backtick in what should be the info string: a code span on one line.
                self.span = length;
                self.inside(byte, previous);
            }
            Line::Info(fence, length, only_blank) => {
                self.line = Line::Info(fence, length, only_blank && blank);
            }
            Line::Inside => self.inside(byte, previous),
        }
    }

    /// A call ended here, with `raw` as its source.
    pub(super) fn after_call(&mut self, raw: &str) {
        let at_start = raw.ends_with('\n');
        self.line = if at_start {
            Line::Start(0)
        } else {
            Line::Inside
        };
        self.span = 0;
        self.run = 0;
        self.prose = false;
        self.sample = false;
        self.pristine = false;
    }

    fn start(&mut self, byte: u8, columns: u8) {
        match byte {
            b' ' => self.line = Line::Start(columns.saturating_add(1)),
            b'\t' => self.line = Line::Start(columns.saturating_add(4)),
            b'\r' => {}
            b'`' | b'~' => self.line = Line::Fence(byte, 1),
            b'-' | b'*' | b'+' if self.fence.is_none() && columns < 4 => {
                self.line = Line::Bullet(false);
            }
            b'0'..=b'9' if self.fence.is_none() && columns < 4 => self.line = Line::Bullet(true),
            _ => {
                self.sample = columns >= 4 || matches!(byte, b'>' | b'|');
                self.prose = true;
                self.line = Line::Inside;
            }
        }
    }

    fn inside(&mut self, byte: u8, previous: u8) {
        self.line = Line::Inside;
        if byte == b'`' && (self.span > 0 || self.run > 0 || previous != b'\\') {
            self.run += 1;
        } else {
            self.end_run();
            self.prose |= !byte.is_ascii_whitespace();
        }
    }

    fn end_run(&mut self) {
        let run = std::mem::take(&mut self.run);
        if run == 0 || self.fence.is_some() {
            return;
        }
        self.prose = true;
        if self.span == 0 {
            self.span = run;
        } else if self.span == run {
            self.span = 0;
        }
    }

    fn newline(&mut self) {
        match self.line {
            Line::Start(_) => self.span = 0,
            Line::Fence(byte, length) if length >= 3 => self.fence_line(byte, length, true),
            Line::Info(byte, length, only_blank) => self.fence_line(byte, length, only_blank),
            Line::Fence(b'`', length) => {
                self.run = length;
                self.end_run();
            }
            _ => self.end_run(),
        }
        self.line = Line::Start(0);
        self.prose = false;
        self.sample = false;
    }

    fn fence_line(&mut self, byte: u8, length: u32, only_blank: bool) {
        match self.fence {
            None => {
                self.fence = Some((byte, length));
                self.span = 0;
            }
            Some((open, least)) if open == byte && length >= least && only_blank => {
                self.fence = None;
            }
            Some(_) => {}
        }
    }
}

const INTERESTING: [bool; 256] = {
    let mut table = [false; 256];
    table[b'\n' as usize] = true;
    table[b'`' as usize] = true;
    table[b'<' as usize] = true;
    table[b'[' as usize] = true;
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    /// The text with every `@` replaced by `#` where it is in code.
    fn mark(text: &str) -> String {
        let mut markdown = Markdown::new();
        let mut previous = b' ';
        let mut marked = String::new();
        for byte in text.bytes() {
            let shown = match byte {
                b'@' if markdown.is_code() => b'#',
                _ => byte,
            };
            marked.push(shown as char);
            markdown.byte(byte, previous);
            previous = byte;
        }
        marked
    }

    #[test]
    fn fences_spans_and_indents_are_code() {
        for (text, expected) in [
            ("a @ b\n@", "a @ b\n@"),
            ("`@` @ ``@ ` @`` @", "`#` @ ``# ` #`` @"),
            ("```\n@\n```\n@", "```\n#\n```\n@"),
            (
                "```` md\n```\n@\n```\n@\n````\n@",
                "```` md\n```\n#\n```\n#\n````\n@",
            ),
            ("```sh\n@\n```py\n@\n```\n@", "```sh\n#\n```py\n#\n```\n@"),
            ("~~~\n```\n@\n~~~  \n@", "~~~\n```\n#\n~~~  \n@"),
            ("    @\n   @", "    #\n   @"),
            ("\t@ @\n", "\t# #\n"),
            ("> @\n| @ |\n@", "> #\n| # |\n@"),
            ("- ```\n  @\n  ```\n  @", "- ```\n  #\n  ```\n  @"),
            ("1. @\n2) `@", "1. @\n2) `#"),
            ("a ` b\n@\n\n@", "a ` b\n#\n\n@"),
            ("a \\` @", "a \\` @"),
            ("```x``` @", "```x``` @"),
            ("`a\n@` @", "`a\n#` @"),
            ("**b** @", "**b** @"),
            ("``` @", "``` #"),
        ] {
            assert_eq!(mark(text), expected, "{text}");
        }
    }
}

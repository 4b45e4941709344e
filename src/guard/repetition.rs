//! Degenerate repetition: a model that says the same again and again until its tokens run out.
//!
//! Only exact repetition counts: the end of the text is periodic. A period is looked for now and
//! then; once there is one, every further byte is compared with the one a period before, so the cost
//! stays linear and the length of the repetition is not bounded by what is kept. How long it may get
//! depends on what is repeated: prose hardly repeats itself, tables, rules, data and code do.

/// Text kept to look for periods in, in bytes; a period may be a third of it.
const WINDOW: usize = 3072;

/// New text between two looks, in bytes.
const EVERY: usize = 256;

/// Length of the end that must have come before, for a look to be worth more.
const PROBE: usize = 48;

/// Least length of a periodic end that is followed up, in bytes.
const MIN_SPAN: usize = 3 * PROBE;

/// Prose may repeat this many bytes, and [`PROSE_TIMES`].
const PROSE: usize = 800;

/// A longer unit of prose may come this often.
const PROSE_TIMES: usize = 5;

/// Tables, rules, lists of data, single words: what has the marks of structure, or no words.
const STRUCTURED: usize = 4 << 10;

/// Code blocks: they quote logs, dumps and generated files.
const CODE: usize = 16 << 10;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repetition {
    /// What is repeated.
    pub unit: String,
    /// Bytes at the end of the text that only repeat it: all but its first occurrence.
    pub excess: usize,
}

/// Watches one text as it comes.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    tail: Vec<u8>,
    /// New bytes since the last look.
    unseen: usize,
    run: Option<Run>,
    fence: Fence,
    scratch: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    period: usize,
    /// Bytes of the periodic end.
    span: usize,
    limit: usize,
}

impl Watch {
    /// Take in more text. Once something was found, the text should end.
    pub fn push(&mut self, text: &str) -> Option<Repetition> {
        self.fence.push(text);
        let from = self.tail.len();
        self.tail.extend_from_slice(text.as_bytes());
        let mut found = self.follow(from);
        if self.run.is_none() {
            self.unseen += text.len();
            if self.unseen >= EVERY {
                self.unseen = 0;
                found = found.or_else(|| self.look());
            }
        }
        if self.tail.len() >= 2 * WINDOW {
            self.tail.drain(..self.tail.len() - WINDOW);
        }
        found
    }

    /// Whether the bytes from `from` on go on with the period.
    fn follow(&mut self, from: usize) -> Option<Repetition> {
        let mut run = self.run.take()?;
        for at in from..self.tail.len() {
            if self.tail[at] != self.tail[at - run.period] {
                return None;
            }
            run.span += 1;
            if run.span >= run.limit {
                return Some(self.found(run, at + 1));
            }
        }
        self.run = Some(run);
        None
    }

    /// Look for a period at the end of the text.
    fn look(&mut self) -> Option<Repetition> {
        let start = self.tail.len().saturating_sub(WINDOW);
        let window = &self.tail[start..];
        let probe = window.len().checked_sub(PROBE)?;
        let before = &window[..window.len() - 1];
        memchr::memmem::find(before, &window[probe..])?;
        let (period, span) = period(window, &mut self.scratch)?;
        let end = self.tail.len();
        let limit = match self.fence.is_open() {
            true => CODE,
            false => limit(&self.unit(period, end).0, period),
        };
        let run = Run {
            period,
            span,
            limit,
        };
        if span >= limit {
            return Some(self.found(run, end));
        }
        self.run = Some(run);
        None
    }

    /// A repetition that ends at `end`. The first time is kept, to the end of its sentence.
    fn found(&self, run: Run, end: usize) -> Repetition {
        let (unit, start) = self.unit(run.period, end);
        let repeated = run.span - run.period;
        let rest = (start + repeated) % run.period;
        Repetition {
            unit,
            excess: repeated - rest.min(repeated) + (self.tail.len() - end),
        }
    }

    /// What is repeated before `end`, and where in the last `period` bytes that begins: with a line, a
    /// sentence, or at least a word.
    fn unit(&self, period: usize, end: usize) -> (String, usize) {
        let unit = &self.tail[end - period..end];
        let line = memchr::memchr(b'\n', unit);
        let sentence = || {
            let ends = |pair: &[u8]| matches!(pair, [b'.' | b'!' | b'?', b' ']);
            unit.windows(2).position(ends).map(|at| at + 1)
        };
        let word = || unit.iter().position(u8::is_ascii_whitespace);
        let start = line.or_else(sentence).or_else(word);
        // At least with a whole character.
        let character = || unit.iter().position(|byte| byte & 0xc0 != 0x80);
        let start = match start {
            Some(before) => before + 1,
            None => character().unwrap_or_default(),
        };
        let turned = [&unit[start..], &unit[..start]].concat();
        (String::from_utf8_lossy(&turned).into_owned(), start)
    }
}

/// The smallest period of which the end of `window` holds at least three, and how long that end is.
///
/// The Z-function of the reversed window: `z[p]` is how far the text matches itself `p` bytes earlier.
fn period(window: &[u8], z: &mut Vec<u32>) -> Option<(usize, usize)> {
    let length = window.len();
    let reversed = |at: usize| window[length - 1 - at];
    z.clear();
    z.resize(length, 0);
    let (mut left, mut right) = (0, 0);
    for at in 1..length {
        let mut same = 0;
        if at < right {
            same = (z[at - left] as usize).min(right - at);
        }
        while at + same < length && reversed(same) == reversed(at + same) {
            same += 1;
        }
        z[at] = same as u32;
        if at + same > right {
            (left, right) = (at, at + same);
        }
        let span = same + at;
        if span >= MIN_SPAN && span >= 3 * at {
            return Some((at, span));
        }
    }
    None
}

/// How long a text may go on repeating `unit`, in bytes.
fn limit(unit: &str, period: usize) -> usize {
    let structure = |byte: &u8| b"{}[]<>|=;\\\"".contains(byte);
    let foreign = unit.bytes().filter(|byte| *byte >= 0x80).count();
    let is_word = |word: &&str| word.bytes().filter(u8::is_ascii_alphabetic).count() >= 2;
    let words = unit.split_ascii_whitespace().filter(is_word).count();
    let prose = !unit.bytes().any(|byte| structure(&byte)) && (words >= 2 || foreign >= 12);
    if prose {
        PROSE.max(PROSE_TIMES * period)
    } else {
        STRUCTURED.max(PROSE_TIMES * period)
    }
}

/// Whether a Markdown code fence is open. Nesting and lengths do not matter here.
#[derive(Clone, Debug, Default)]
struct Fence {
    open: bool,
    /// The first bytes of the line that are not blank.
    line: [u8; 3],
    known: usize,
}

impl Fence {
    fn is_open(&self) -> bool {
        self.open
    }

    fn push(&mut self, text: &str) {
        let mut rest = text.as_bytes();
        loop {
            if self.known < self.line.len() {
                self.begin(rest);
            }
            let Some(end) = memchr::memchr(b'\n', rest) else {
                return;
            };
            rest = &rest[end + 1..];
            self.known = 0;
        }
    }

    /// Collect the first bytes of the line; `rest` begins where the last call ended.
    fn begin(&mut self, rest: &[u8]) {
        for &byte in rest {
            match byte {
                b'\n' => return,
                b' ' | b'\t' if self.known == 0 => {}
                _ => {
                    self.line[self.known] = byte;
                    self.known += 1;
                }
            }
            if self.known == self.line.len() {
                self.open ^= matches!(&self.line, b"```" | b"~~~");
                return;
            }
        }
    }
}

#[cfg(test)]
#[path = "repetition_tests.rs"]
mod tests;

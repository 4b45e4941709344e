//! The hash of a tool's result, without what differs from run to run though nothing has changed.
//!
//! Left out: times of day and dates, durations, process ids, memory addresses, UUIDs, epoch seconds and
//! names in temporary directories. Plain numbers stay: "3 failed" and "2 failed" are not the same.

use xxhash_rust::xxh3::Xxh3;

/// Stands for what is left out.
const MASK: &[u8] = &[0xff];

/// Directories whose entries are named at random.
const TEMPORARY: &[&str] = &["/tmp/", "/var/folders/", "/var/tmp/"];

/// Units of durations that may follow a number directly.
const UNITS: &[&str] = &[
    "ns", "us", "\u{b5}s", "ms", "secs", "sec", "s", "mins", "min", "m", "hrs", "hr", "h",
];

/// Units that may follow after a space.
const WORDS: &[&str] = &[
    "milliseconds",
    "millisecond",
    "seconds",
    "second",
    "secs",
    "sec",
    "minutes",
    "minute",
    "mins",
    "hours",
    "hour",
    "ms",
];

/// Bytes that something volatile may begin with, or be told by: `-`, `/` and the digits; `.` only
/// because it lies between them.
const BEGINS: std::ops::RangeInclusive<u8> = b'-'..=b'9';

/// Feed `text` to `hasher`.
pub(super) fn feed(hasher: &mut Xxh3, text: &str) {
    let bytes = text.as_bytes();
    let mut from = 0;
    let mut at = 0;
    while at < bytes.len() {
        let Some((start, end)) = volatile(bytes, from, &mut at) else {
            continue;
        };
        hasher.update(&bytes[from..start]);
        hasher.update(MASK);
        (from, at) = (end, end);
    }
    hasher.update(&bytes[from..]);
}

/// Look at the byte at `at`, or at the number that begins there, and step over it. What is volatile
/// begins at `from` or later.
fn volatile(bytes: &[u8], from: usize, at: &mut usize) -> Option<(usize, usize)> {
    let here = *at;
    match bytes[here] {
        b'0'..=b'9' => {
            let digits = digits(bytes, here);
            *at = here + digits;
            if here > 0 && is_word(bytes[here - 1]) {
                return None;
            }
            number(bytes, here, digits).map(|end| (here, end))
        }
        b'/' => {
            *at = here + 1;
            temporary(bytes, here)
        }
        b'-' => {
            *at = here + 1;
            let start = here.checked_sub(8).filter(|start| *start >= from)?;
            is_uuid(bytes.get(start..start + 36)?).then_some((start, start + 36))
        }
        _ => {
            *at = here + 1 + plain(&bytes[here + 1..]);
            None
        }
    }
}

/// How many bytes nothing volatile can begin with. Most of a transcript is that: eight bytes are looked
/// at together, in the manner of "Bit Twiddling Hacks", "Determine if a word has a byte between m and n".
fn plain(bytes: &[u8]) -> usize {
    const EACH: u64 = 0x0101_0101_0101_0101;
    const TOP: u64 = EACH << 7;
    // Added to a byte below 0x80, these set its top bit from the first and from behind the last on.
    const FROM: u64 = EACH * (0x80 - *BEGINS.start() as u64);
    const BEHIND: u64 = EACH * (0x7f - *BEGINS.end() as u64);
    let (words, rest) = bytes.as_chunks::<8>();
    for (n, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let low = word & !TOP;
        let found = (low + FROM) & !(low + BEHIND) & !word & TOP;
        if found != 0 {
            return n * 8 + found.trailing_zeros() as usize / 8;
        }
    }
    let at = rest.iter().position(|b| BEGINS.contains(b));
    words.len() * 8 + at.unwrap_or(rest.len())
}

fn is_word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_'
}

fn digits(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    rest.iter().take_while(|b| b.is_ascii_digit()).count()
}

fn byte(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(0)
}

/// The end of the volatile thing that begins with `length` digits at `at`, if it is one.
fn number(bytes: &[u8], at: usize, length: usize) -> Option<usize> {
    let end = at + length;
    if let Some(end) = date(bytes, at, length).or_else(|| time(bytes, at, length)) {
        return Some(end);
    }
    if length == 1 && bytes[at] == b'0' && byte(bytes, end) == b'x' {
        let rest = &bytes[end + 1..];
        let hex = rest.iter().take_while(|b| b.is_ascii_hexdigit()).count();
        return (hex >= 6).then_some(end + 1 + hex);
    }
    let whole = if byte(bytes, end) == b'.' {
        end + 1 + digits(bytes, end + 1)
    } else {
        end
    };
    if let Some(end) = unit(bytes, whole) {
        return Some(end);
    }
    let is_epoch = matches!(length, 10 | 13) && bytes[at] == b'1';
    (is_epoch || names_process(&bytes[..at])).then_some(end)
}

/// `2026-11-23`, `2026/11/23`, and the time after it.
fn date(bytes: &[u8], at: usize, length: usize) -> Option<usize> {
    let separator = byte(bytes, at + 4);
    let is_date = length == 4
        && matches!(separator, b'-' | b'/')
        && digits(bytes, at + 5) == 2
        && byte(bytes, at + 7) == separator
        && digits(bytes, at + 8) == 2;
    if !is_date {
        return None;
    }
    let end = at + 10;
    let joined = matches!(byte(bytes, end), b'T' | b' ');
    let clock = joined.then(|| time(bytes, end + 1, digits(bytes, end + 1)));
    let Some(end) = clock.flatten() else {
        return Some(end);
    };
    Some(match byte(bytes, end) {
        b'Z' => end + 1,
        b'+' | b'-' if digits(bytes, end + 1) == 2 && byte(bytes, end + 3) == b':' => end + 6,
        b'+' | b'-' if digits(bytes, end + 1) == 4 => end + 5,
        _ => end,
    })
    .map(|end| end.min(bytes.len()))
}

/// `18:20:05`, with a fraction. Without seconds it may be a place in a file.
fn time(bytes: &[u8], at: usize, length: usize) -> Option<usize> {
    let is_time = (1..=2).contains(&length)
        && byte(bytes, at + length) == b':'
        && digits(bytes, at + length + 1) == 2
        && byte(bytes, at + length + 3) == b':'
        && digits(bytes, at + length + 4) == 2;
    if !is_time {
        return None;
    }
    let end = at + length + 6;
    Some(match byte(bytes, end) {
        b'.' | b',' => end + 1 + digits(bytes, end + 1),
        _ => end,
    })
}

/// The end of the unit of a duration at `at`.
fn unit(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = bytes.get(at..)?;
    let (rest, at, units) = match rest.strip_prefix(b" ") {
        Some(rest) => (rest, at + 1, WORDS),
        None => (rest, at, UNITS),
    };
    // What most numbers are followed by begins no unit.
    if !matches!(rest.first()?, b'n' | b'u' | 0xc2 | b'm' | b's' | b'h') {
        return None;
    }
    let micro = if rest[0] == 0xc2 {
        2.min(rest.len())
    } else {
        0
    };
    let letters = rest[micro..].iter();
    let letters = letters.take_while(|b| b.is_ascii_alphabetic() || **b == b'_');
    let letters = micro + letters.count();
    let unit = units
        .iter()
        .find(|unit| unit.as_bytes() == &rest[..letters])?;
    let end = at + unit.len();
    // `1m30s`
    match digits(bytes, end) {
        0 => Some(end),
        more => unit_again(bytes, end, more),
    }
}

fn unit_again(bytes: &[u8], end: usize, more: usize) -> Option<usize> {
    let whole = match byte(bytes, end + more) {
        b'.' => end + more + 1 + digits(bytes, end + more + 1),
        _ => end + more,
    };
    unit(bytes, whole).or(Some(end))
}

/// Whether `before` ends with the name of a process id: `pid 7`, `PID: 7`, `process=7`.
fn names_process(before: &[u8]) -> bool {
    let glue = before
        .iter()
        .rev()
        .take(3)
        .take_while(|b| matches!(b, b' ' | b'=' | b':' | b'#' | b'('))
        .count();
    let before = &before[..before.len() - glue];
    glue > 0
        && matches!(before.last(), Some(b'd' | b'D' | b's' | b'S'))
        && ["pid", "process"].iter().any(|word| {
            before.len() >= word.len()
                && before[before.len() - word.len()..].eq_ignore_ascii_case(word.as_bytes())
        })
}

/// A name made up for a temporary file: it has a digit, or letters of both cases.
fn temporary(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let directory = TEMPORARY
        .iter()
        .find(|directory| bytes[at..].starts_with(directory.as_bytes()))?;
    let start = at + directory.len();
    let name = bytes[start..]
        .iter()
        .take_while(|b| is_word(**b) || matches!(b, b'.' | b'-' | b'+'));
    let name = &bytes[start..start + name.count()];
    let upper = name.iter().any(u8::is_ascii_uppercase);
    let lower = name.iter().any(u8::is_ascii_lowercase);
    let random = name.iter().any(u8::is_ascii_digit) || (upper && lower);
    random.then_some((start, start + name.len()))
}

fn is_uuid(text: &[u8]) -> bool {
    text.iter().enumerate().all(|(at, b)| match at {
        8 | 13 | 18 | 23 => *b == b'-',
        _ => b.is_ascii_hexdigit(),
    })
}

#[cfg(test)]
mod tests;

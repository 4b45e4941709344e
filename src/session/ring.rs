//! What has happened lately in all sessions together: too large to be kept with each of them.

use std::collections::VecDeque;

use super::key::SessionId;

/// Most entries shown of one session.
pub(super) const MAX_SHOWN: usize = 100;

/// What a ring keeps.
pub(super) trait Kept {
    /// Memory of its texts, in bytes.
    fn texts(&self) -> usize;
}

/// The latest entries, bounded by memory; the oldest go first.
#[derive(Debug)]
pub(super) struct Ring<T> {
    entries: VecDeque<(SessionId, T)>,
    bytes: usize,
    most: usize,
}

impl<T: Kept> Ring<T> {
    /// One of at most `most` bytes.
    pub(super) fn new(most: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            bytes: 0,
            most,
        }
    }

    fn bytes(entry: &T) -> usize {
        size_of::<(SessionId, T)>() + entry.texts()
    }

    pub(super) fn push(&mut self, session: SessionId, entry: T) {
        self.bytes += Self::bytes(&entry);
        self.entries.push_back((session, entry));
        while self.bytes > self.most {
            let Some((_, oldest)) = self.entries.pop_front() else {
                return;
            };
            self.bytes -= Self::bytes(&oldest);
        }
    }

    /// The latest of one session, the last one first. Reads the whole ring: people ask, not requests.
    pub(super) fn of(&self, session: SessionId) -> impl Iterator<Item = &T> {
        let newest = self.entries.iter().rev();
        let own = newest.filter(move |(of, _)| *of == session);
        own.take(MAX_SHOWN).map(|(_, entry)| entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Kept for String {
        fn texts(&self) -> usize {
            self.len()
        }
    }

    #[test]
    fn memory_is_bounded_and_the_newest_stay() {
        let id = |n: usize| format!("{n:020x}").parse().unwrap();
        let mut ring = Ring::new(100_000);
        for number in 0..100_000 {
            let width = number % 500 + 10;
            ring.push(id(number % 2), format!("{number:0>width$}"));
            assert!(ring.bytes <= 100_000);
        }
        let sum: usize = ring.entries.iter().map(|(_, one)| Ring::bytes(one)).sum();
        assert_eq!(ring.bytes, sum);
        let shown: Vec<_> = ring.of(id(1)).collect();
        assert_eq!(shown.len(), MAX_SHOWN);
        assert!(shown[0].ends_with("99999"));
        assert!(shown[1].ends_with("99997"), "its own only");
    }
}

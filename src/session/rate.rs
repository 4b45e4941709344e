//! How often something happened lately, in constant memory.

/// Seconds a bucket spans.
const BUCKET: u64 = 5;
/// Buckets that make up the window.
const BUCKETS: usize = 12;

/// Events of the last 60 s, to within 5 s.
#[derive(Clone, Debug, Default)]
pub(super) struct Rate {
    counts: [u16; BUCKETS],
    /// Number of the bucket written last.
    last: u64,
}

impl Rate {
    /// Count an event at `second`; the number of events in the window that ends there. Events that
    /// come late count as of now.
    pub(super) fn hit(&mut self, second: u64) -> u32 {
        self.advance(second);
        let count = &mut self.counts[(self.last % BUCKETS as u64) as usize];
        *count = count.saturating_add(1);
        self.sum()
    }

    /// Events in the window that ends at `second`.
    pub(super) fn count(&self, second: u64) -> u32 {
        let mut now = self.clone();
        now.advance(second);
        now.sum()
    }

    fn advance(&mut self, second: u64) {
        let bucket = second / BUCKET;
        let passed = bucket.saturating_sub(self.last).min(BUCKETS as u64);
        for step in 1..=passed {
            self.counts[((self.last + step) % BUCKETS as u64) as usize] = 0;
        }
        if passed == BUCKETS as u64 {
            self.counts = [0; BUCKETS];
        }
        self.last = self.last.max(bucket);
    }

    fn sum(&self) -> u32 {
        self.counts.iter().map(|count| u32::from(*count)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_minute_counts() {
        let mut rate = Rate::default();
        let counts: Vec<u32> = [0, 0, 4, 30, 59].map(|second| rate.hit(second)).to_vec();
        assert_eq!(counts, [1, 2, 3, 4, 5]);
        assert_eq!(rate.hit(60), 3, "those of the first five seconds are out");
        assert_eq!(rate.count(94), 2);
        assert_eq!(rate.count(1_000_000), 0);
        assert_eq!(rate.hit(1_000_000), 1);
        assert_eq!(rate.hit(999_999), 2, "a clock that goes back loses nothing");
    }

    #[test]
    fn it_agrees_with_a_list_of_times() {
        let mut rate = Rate::default();
        let mut times = Vec::new();
        let mut second = 0;
        for n in 0_u64..500 {
            second += n * 7 % 23;
            times.push(second);
            let oldest = (second / BUCKET + 1).saturating_sub(BUCKETS as u64) * BUCKET;
            let expected = times.iter().filter(|t| **t >= oldest).count();
            assert_eq!(rate.hit(second) as usize, expected);
        }
    }
}

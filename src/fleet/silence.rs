//! Checks that get no answer: since when nobody can have heard anything of a backend. No clock, no socket.

use std::collections::VecDeque;
use std::num::NonZeroU32;

use tokio::time::Instant;

/// When the last checks began, as many as take a backend down, if none of them was answered.
#[derive(Debug, Default)]
pub(super) struct Silence(VecDeque<Instant>);

impl Silence {
    /// A check that began then was not answered. Since when it is silent, once that is true of `enough` in a row.
    pub(super) fn unanswered(&mut self, began: Instant, enough: NonZeroU32) -> Option<Instant> {
        let enough = enough.get() as usize;
        self.0.push_back(began);
        while self.0.len() > enough {
            self.0.pop_front();
        }
        self.0.front().copied().filter(|_| self.0.len() == enough)
    }

    /// It says something.
    pub(super) fn ends(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_as_many_checks_as_take_it_down_are_silence_and_the_last_ones_count() {
        let (mut silence, start) = (Silence::default(), Instant::now());
        let two = NonZeroU32::MIN.saturating_add(1);
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(silence.unanswered(at(0), two), None);
        assert_eq!(silence.unanswered(at(4), two), Some(at(0)));
        assert_eq!(silence.unanswered(at(8), two), Some(at(4)));
        silence.ends();
        assert_eq!(silence.unanswered(at(12), two), None);
        assert_eq!(silence.unanswered(at(16), NonZeroU32::MIN), Some(at(16)));
    }
}

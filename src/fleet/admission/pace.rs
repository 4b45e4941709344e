//! How fast a backend is.

use std::time::Duration;

use super::drain::Mean;

/// Shorter prompts say more about the network than about the reading of prompts, in tokens.
const LEAST_PROMPT: u64 = 64;
/// Tokens of a prompt read per second before anything was measured: a middling GPU.
const USUAL_READING: f64 = 1000.0;

/// How fast a backend is, from what it did lately.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::fleet) struct Pace {
    /// Seconds a request takes.
    service: Mean,
    /// Tokens of prompts read per second.
    reading: Mean,
}

impl Pace {
    /// A request took so long.
    pub(in crate::fleet) fn served(&mut self, time: Duration) {
        self.service.add(time.as_secs_f64());
    }

    /// It has read so many tokens of a prompt in so long.
    pub(in crate::fleet) fn read(&mut self, tokens: u64, time: Duration) {
        if tokens >= LEAST_PROMPT && !time.is_zero() {
            self.reading.add(tokens as f64 / time.as_secs_f64());
        }
    }

    /// Tokens of prompts read per second, where that was measured.
    pub(in crate::fleet) fn rate(&self) -> Option<f64> {
        self.reading.get()
    }

    /// Seconds that reading `tokens` takes; at `usual` tokens a second where nothing was measured.
    pub(in crate::fleet) fn reading(&self, tokens: u64, usual: f64) -> f64 {
        tokens as f64 / self.reading.get().unwrap_or(usual).max(1.0)
    }

    /// Longest sensible wait for one of its `slots` where it saves the reading of `tokens`, `before` others
    /// being first: as long as that reading takes, at most `longest`, and none where no slot is expected to be free by then.
    pub(in crate::fleet) fn worth_waiting(
        &self,
        tokens: u64,
        before: usize,
        slots: u32,
        longest: Duration,
    ) -> Duration {
        let reading = self.reading(tokens, USUAL_READING);
        let wait =
            self.service.get().unwrap_or(0.0) * (before + 1) as f64 / f64::from(slots.max(1));
        let worth = reading.min(longest.as_secs_f64());
        match wait <= worth {
            true => Duration::from_secs_f64(worth),
            false => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn a_wait_is_weighed_against_reading_anew() {
        let mut pace = Pace::default();
        let wait = |pace: &Pace, tokens: u64, before| {
            pace.worth_waiting(2 * tokens, before, 2, secs(30.0))
        };
        assert_eq!(wait(&pace, 4000, 5), secs(8.0), "nothing is known yet");
        pace.read(2000, secs(1.0));
        pace.read(63, secs(10.0));
        assert_eq!(wait(&pace, 8000, 0), secs(8.0));
        pace.served(secs(12.0));
        assert_eq!(wait(&pace, 8000, 0), secs(8.0), "a slot in 6 s");
        assert_eq!(wait(&pace, 8000, 1), Duration::ZERO, "a slot in 12 s");
        assert_eq!(wait(&pace, 0, 0), Duration::ZERO);
    }

    /// A wait that is cut short before a slot is expected is lost: the prompt is read elsewhere all the same.
    #[test]
    fn there_is_no_wait_that_ends_too_early() {
        let mut pace = Pace::default();
        pace.read(2000, secs(1.0));
        pace.served(secs(12.0));
        let wait = |longest| pace.worth_waiting(160_000, 0, 2, secs(longest));
        assert_eq!((wait(6.0), wait(5.9)), (secs(6.0), Duration::ZERO));
    }
}

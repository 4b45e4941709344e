//! How long answers are and how many tokens a prompt has, learnt from the turns of a pool. No clock, no socket.

use crate::config::RequestClass;

use super::Footprint;

/// Of answers of one kind as many are at most as long as what is reserved: 19 of 20. Several run at once, and
/// those that are longer take what others leave.
const ENOUGH: f64 = 0.95;
/// Turns of a kind from which on they tell something.
const TELLING: f64 = 16.0;
/// What an answer takes before that: few turns of agents generate more.
const PRIOR: u64 = 2048;
/// Tokens of a byte of a prompt before any was seen: those of code and JSON, and a little more.
const PRIOR_RATIO: f64 = 0.4;
/// Observations of which each newer one counts as much as any before; all count half after as many more.
const MEMORY: f64 = 256.0;
/// Buckets for each doubling: a bucket's bound is at most a fifth above what is in it.
const FINENESS: f64 = 4.0;
/// Up to 2²⁴ tokens.
const BUCKETS: usize = 24 * FINENESS as usize;
/// Ratios are kept in tokens for so many bytes.
const PER: f64 = 4096.0;

/// What a turn's request tells of its size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Bytes of its prompt that reach the model.
    pub bytes: u64,
    /// Tokens of its prompt, where it goes on from one that was counted.
    pub tokens: Option<u64>,
    /// Most tokens its client wants.
    pub max_tokens: Option<u64>,
    /// Answers it wants.
    pub answers: u32,
}

/// See the module's documentation.
#[derive(Clone, Debug, Default)]
pub(in crate::fleet) struct Lengths {
    /// Tokens generated, by kind of turn; requests without one are a kind, too.
    answers: [Recent; RequestClass::ALL.len() + 1],
    /// Tokens for [`PER`] bytes of a prompt.
    ratio: Recent,
}

impl Lengths {
    /// What a turn of this kind and size will take.
    pub(in crate::fleet) fn expect(&self, class: Option<RequestClass>, size: Size) -> Footprint {
        let by_bytes = || {
            let ratio = self.ratio.quantile(ENOUGH);
            let ratio = ratio.map_or(PRIOR_RATIO, |tokens| tokens as f64 / PER);
            (size.bytes as f64 * ratio).ceil() as u64
        };
        let answer = self.answers[place(class)].quantile(ENOUGH);
        let answer = answer.unwrap_or(PRIOR);
        let answer = size.max_tokens.map_or(answer, |most| answer.min(most));
        Footprint {
            prompt: size.tokens.unwrap_or_else(by_bytes),
            output: answer.saturating_mul(u64::from(size.answers.max(1))),
        }
    }

    /// A turn was answered in full.
    pub(in crate::fleet) fn learn(
        &mut self,
        class: Option<RequestClass>,
        size: Size,
        prompt: u64,
        generated: u64,
    ) {
        if size.bytes > 0 && prompt > 0 {
            let ratio = prompt as f64 * PER / size.bytes as f64;
            self.ratio.add(ratio.ceil() as u64);
        }
        let each = generated.div_ceil(u64::from(size.answers.max(1)));
        self.answers[place(class)].add(each);
    }
}

fn place(class: Option<RequestClass>) -> usize {
    let at = |class| RequestClass::ALL.iter().position(|known| *known == class);
    class.and_then(at).unwrap_or(RequestClass::ALL.len())
}

/// How numbers seen lately are distributed: a histogram with buckets of equal ratio that forgets.
#[derive(Clone, Debug)]
struct Recent {
    buckets: [f32; BUCKETS],
    sum: f64,
}

impl Default for Recent {
    fn default() -> Self {
        Self {
            buckets: [0.0; BUCKETS],
            sum: 0.0,
        }
    }
}

impl Recent {
    fn add(&mut self, value: u64) {
        if self.sum >= 2.0 * MEMORY {
            self.buckets.iter_mut().for_each(|count| *count /= 2.0);
            self.sum /= 2.0;
        }
        let bucket = ((value as f64 + 1.0).log2() * FINENESS).floor() as usize;
        self.buckets[bucket.min(BUCKETS - 1)] += 1.0;
        self.sum += 1.0;
    }

    /// What `part` of them are at most; none while too few were seen.
    fn quantile(&self, part: f64) -> Option<u64> {
        if self.sum < TELLING {
            return None;
        }
        let mut below = 0.0;
        let reached = |count: &f32| {
            below += f64::from(*count);
            below >= part * self.sum - 1e-3
        };
        let bucket = self.buckets.iter().position(reached).unwrap_or(BUCKETS - 1);
        Some(((bucket + 1) as f64 / FINENESS).exp2().ceil() as u64 - 1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn size(bytes: u64, max_tokens: Option<u64>) -> Size {
        Size {
            bytes,
            max_tokens,
            answers: 1,
            ..Size::default()
        }
    }

    #[test]
    fn before_anything_was_seen_the_client_and_a_guess_decide() {
        let lengths = Lengths::default();
        let turn = lengths.expect(None, size(10_000, None));
        assert_eq!((turn.prompt, turn.output), (4000, PRIOR));
        assert_eq!(lengths.expect(None, size(0, Some(100))).output, 100);
        assert_eq!(lengths.expect(None, size(0, Some(32_000))).output, PRIOR);
        let counted = Size {
            tokens: Some(123),
            answers: 3,
            ..size(10_000, Some(10))
        };
        let turn = lengths.expect(None, counted);
        assert_eq!((turn.prompt, turn.output), (123, 30));
    }

    #[test]
    fn each_kind_has_its_own_length() {
        let mut lengths = Lengths::default();
        let (tools, prose) = (Some(RequestClass::ToolLoop), Some(RequestClass::Prose));
        for n in 0..200 {
            lengths.learn(tools, size(4000, None), 1000, 50 + n % 50);
            lengths.learn(prose, size(4000, None), 1000, 900);
        }
        let output = |class, most| lengths.expect(class, size(4000, most)).output;
        assert!((94..=120).contains(&output(tools, Some(32_000))));
        assert!((900..=1100).contains(&output(prose, None)));
        assert_eq!(output(prose, Some(64)), 64);
        let code = Some(RequestClass::Code);
        assert_eq!(output(code, None), PRIOR, "of these none was seen");
        let prompt = lengths.expect(tools, size(8000, None)).prompt;
        assert!((2000..=2400).contains(&prompt), "{prompt}");
    }

    #[test]
    fn one_endless_answer_among_many_changes_nothing_and_a_new_habit_is_followed() {
        let mut lengths = Lengths::default();
        let turn = size(0, None);
        (0..100).for_each(|_| lengths.learn(None, turn, 0, 80));
        lengths.learn(None, turn, 0, 30_000);
        assert!(lengths.expect(None, turn).output < 100);
        (0..1500).for_each(|_| lengths.learn(None, turn, 0, 2000));
        assert!(lengths.expect(None, turn).output >= 2000);
        (0..3000).for_each(|_| lengths.learn(None, turn, 0, 80));
        assert!(lengths.expect(None, turn).output < 100);
    }

    proptest! {
        #[test]
        fn what_is_reserved_is_enough_for_nineteen_of_twenty(
            seen in prop::collection::vec(0u64..100_000, 20..400)
        ) {
            let mut recent = Recent::default();
            seen.iter().for_each(|value| recent.add(*value));
            let enough = recent.quantile(ENOUGH).unwrap();
            let within = seen.iter().filter(|value| **value <= enough).count();
            prop_assert!(within as f64 >= ENOUGH * seen.len() as f64 - 1.0);
        }
    }
}

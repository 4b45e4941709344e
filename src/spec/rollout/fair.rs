//! What is taken away from a difference of speeds because it may be the hardware's.
//!
//! Two servers may differ by more than what runs on them. A recorded benchmark of both tells by how much, with its
//! uncertainty; a crossover needs no such knowledge, because what favours one server helps both sides in turn.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::config::RequestClass;
use crate::spec::sequential::{Interval, Sample, crossed, difference};
use crate::spec::{Aggregate, Stratum};

/// A quantity that depends on the hardware. What is counted, and lengths of drafts, do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speed {
    Decode,
    Prefill,
    Ttft,
}

impl Speed {
    pub(super) fn of(self, all: &Aggregate) -> &Sample {
        match self {
            Self::Decode => &all.decode,
            Self::Prefill => &all.prefill,
            Self::Ttft => &all.ttft,
        }
    }
}

/// By how much the candidate's servers differ from the control's with the same profile on them: ln of the ratio.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ratios {
    /// Of generated tokens a second.
    pub decode: Interval,
    /// Of evaluated prompt tokens a second.
    pub prefill: Interval,
    /// Of the time to the first content.
    pub ttft: Interval,
}

impl Ratios {
    fn of(self, speed: Speed) -> Interval {
        match speed {
            Speed::Decode => self.decode,
            Speed::Prefill => self.prefill,
            Speed::Ttft => self.ttft,
        }
    }

    /// Whatever is in either of them: one of several servers, or one of several classes.
    #[must_use]
    pub fn hull(self, other: Self) -> Self {
        Self {
            decode: self.decode.hull(other.decode),
            prefill: self.prefill.hull(other.prefill),
            ttft: self.ttft.hull(other.ttft),
        }
    }
}

/// What recorded benchmarks tell of the servers, by class of request; empty: nothing. The benchmark keeps one slot
/// busy.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Hardware(pub BTreeMap<RequestClass, Ratios>);

impl Hardware {
    /// What is known of one stratum. Where it was not measured, all that was measured is possible.
    fn of(&self, stratum: Stratum) -> Option<Ratios> {
        let any = || self.0.values().copied().reduce(Ratios::hull);
        self.0
            .get(&stratum.class)
            .copied()
            .filter(|_| self.is_measured(stratum))
            .or_else(any)
    }

    fn is_measured(&self, stratum: Stratum) -> bool {
        self.0.contains_key(&stratum.class) && stratum.busy == Stratum::new(stratum.class, 1).busy
    }
}

/// How a difference in one stratum is made fair.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fair<'a> {
    /// It is.
    Equal,
    /// By what was recorded; whether that was in this very stratum.
    Recorded(Ratios, bool),
    /// By the first half of a crossover: what came of candidate and control while they were where the other is now.
    Crossed(&'a Aggregate, &'a Aggregate),
    /// Not yet: the crossover is to come.
    Unknown,
}

impl<'a> Fair<'a> {
    pub(super) fn recorded(hardware: &Hardware, stratum: Stratum) -> Self {
        match hardware.of(stratum) {
            Some(ratios) => Self::Recorded(ratios, hardware.is_measured(stratum)),
            None => Self::Equal,
        }
    }

    /// Whether something may be said to be better because of it.
    pub(super) fn promotes(&self) -> bool {
        !matches!(self, Self::Recorded(_, false) | Self::Unknown)
    }

    /// Where the candidate's difference from the control is, of what is not the hardware's.
    pub(super) fn apart(&self, speed: Speed, now: &Sample, than: &Sample, alpha: f64) -> Interval {
        match self {
            Self::Equal => difference(now, than, alpha),
            Self::Recorded(ratios, _) => difference(now, than, alpha).less(ratios.of(speed)),
            Self::Crossed(first, than_first) => {
                let first = (speed.of(first), speed.of(than_first));
                crossed(first, (now, than), alpha)
            }
            Self::Unknown => Interval::ANY,
        }
    }

    /// The best guess at it.
    pub(super) fn guess(&self, speed: Speed, now: &Sample, than: &Sample) -> f64 {
        let apart = now.mean() - than.mean();
        match self {
            Self::Equal | Self::Unknown => apart,
            Self::Recorded(ratios, _) => {
                let Interval { low, high } = ratios.of(speed);
                let middle = (low + high) / 2.0;
                if middle.is_finite() {
                    apart - middle
                } else {
                    apart
                }
            }
            Self::Crossed(first, than_first) => {
                let (first, than) = (speed.of(first), speed.of(than_first));
                match first.n().min(than.n()) {
                    0 => apart,
                    _ => (apart + first.mean() - than.mean()) / 2.0,
                }
            }
        }
    }

    /// The first half of a crossover, where there was one.
    pub(super) fn first(&self) -> Option<(&'a Aggregate, &'a Aggregate)> {
        match self {
            Self::Crossed(now, than) => Some((now, than)),
            _ => None,
        }
    }
}

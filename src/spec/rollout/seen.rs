//! What a step is judged by.

use super::fair::Hardware;
use super::side::{Drift, Side};
use crate::spec::sequential::Count;
use crate::spec::{Aggregate, Stratum};

/// What came of a step, and what is known besides.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// What came of the candidate's turns; of a crossover, in its second half if that has begun.
    pub candidate: &'a Side,
    /// The same of the control.
    pub control: &'a Side,
    /// Both in the first half of a crossover, once that is over.
    pub first: Option<(&'a Side, &'a Side)>,
    /// Accept length of the candidate over all steps.
    pub drift: &'a Drift,
    /// What the servers differ by, as far as it was recorded.
    pub hardware: &'a Hardware,
}

impl<'a> Seen<'a> {
    /// What both sides have.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (Stratum, &'a Aggregate, &'a Aggregate)> {
        let control = self.control;
        let all = self.candidate.strata.iter();
        all.filter_map(move |(stratum, now)| Some((*stratum, now, control.strata.get(stratum)?)))
    }

    /// Failed turns of both sides, of whatever class.
    pub fn errors(&self) -> (Count, Count) {
        let (now, than) = (self.candidate.errors(), self.control.errors());
        match self.first {
            Some((first, before)) => (now.merged(first.errors()), than.merged(before.errors())),
            None => (now, than),
        }
    }
}

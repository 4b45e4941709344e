//! What is certain in one class at one load.

use super::fair::{Fair, Speed};
use super::judge::{Harm, Trigger};
use super::side::Since;
use crate::config::{NeverWorse, Points, Relative, RollbackSignature};
use crate::spec::sequential::{Count, Interval, Sample, difference};
use crate::spec::{Aggregate, Limits, Stratum, of_block};

/// One stratum.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    pub(super) stratum: Stratum,
    pub(super) alpha: f64,
    pub(super) fair: Fair<'a>,
}

pub(super) fn never_worse<'a>(
    never: &'a NeverWorse,
    at: &'a At<'a>,
    now: &'a Aggregate,
    than: &'a Aggregate,
) -> impl Iterator<Item = Harm> {
    let rates = [
        (
            Trigger::ErrorRate,
            never.error_rate,
            at.count(now, than, Aggregate::errors),
        ),
        (
            Trigger::MalformedRate,
            never.malformed_rate,
            at.count(now, than, Aggregate::malformed),
        ),
        (
            Trigger::LoopRate,
            never.loop_rate,
            at.count(now, than, Aggregate::looping),
        ),
    ];
    let rates = rates
        .into_iter()
        .filter_map(move |(trigger, margin, (now, than))| {
            Some(at.harm(trigger, at.rises(now, than, margin?)?))
        });
    let decode = never
        .decode_tps
        .and_then(|most| at.falls(Speed::Decode, &now.decode, &than.decode, most));
    let ttft = never
        .ttft
        .and_then(|most| at.slower(&now.ttft, &than.ttft, most));
    let decode = decode.map(|evidence| at.harm(Trigger::DecodeTps, evidence));
    let ttft = ttft.map(|evidence| at.harm(Trigger::Ttft, evidence));
    decode.into_iter().chain(ttft).chain(rates)
}

impl At<'_> {
    pub(super) fn harm(&self, trigger: Trigger, evidence: String) -> Harm {
        let (class, busy) = (self.stratum.class.as_str(), self.stratum.busy);
        Harm {
            trigger,
            stratum: Some(self.stratum),
            evidence: format!("{class}, {busy} busy: {evidence}"),
        }
    }

    pub(super) fn falls(
        &self,
        speed: Speed,
        now: &Sample,
        than: &Sample,
        most: Relative,
    ) -> Option<String> {
        let interval = self.fair.apart(speed, now, than, self.alpha);
        let found = interval.is_below(most.ln());
        found.then(|| self.factor("tokens/s", now, than, interval))
    }

    pub(super) fn slower(&self, now: &Sample, than: &Sample, most: Relative) -> Option<String> {
        let interval = self.fair.apart(Speed::Ttft, now, than, self.alpha);
        let found = interval.is_above(most.ln());
        found.then(|| self.factor("s to the first token", now, than, interval))
    }

    fn factor(&self, what: &str, now: &Sample, than: &Sample, interval: Interval) -> String {
        let taken = match self.fair {
            Fair::Recorded(..) => ", less what the servers differ by",
            Fair::Crossed(..) => ", with the servers exchanged",
            Fair::Equal | Fair::Unknown => "",
        };
        factor(what, now, than, interval) + taken
    }

    /// Counts of both sides; of both halves of a crossover, where the hardware makes no difference.
    fn count(
        &self,
        now: &Aggregate,
        than: &Aggregate,
        of: impl Fn(&Aggregate) -> Count,
    ) -> (Count, Count) {
        match self.fair.first() {
            Some((first, before)) => (of(now).merged(of(first)), of(than).merged(of(before))),
            None => (of(now), of(than)),
        }
    }

    fn rises(&self, now: Count, than: Count, Points(margin): Points) -> Option<String> {
        // The bound of the control's rate is above its rate, and takes a search: most often this is enough.
        let possible = now.evidence(than.rate() + margin) >= 2.0 / self.alpha;
        let found = possible && now.is_higher(than, margin, self.alpha);
        found.then(|| {
            format!(
                "{} of {} turns, {} of {} on the control",
                now.happened, now.of, than.happened, than.of
            )
        })
    }

    /// The latest turns against the first ones.
    pub(super) fn collapse(&self, since: &Since) -> Option<String> {
        let alpha = of_block(self.alpha, since.blocks);
        let interval = difference(&since.latest, &since.first, alpha);
        let most = Relative(-Limits::default().accept_length);
        let found = interval.is_below(most.ln());
        found.then(|| {
            factor(
                "tokens of a verified draft",
                &since.latest,
                &since.first,
                interval,
            )
        })
    }

    pub(super) fn signature(
        &self,
        signature: RollbackSignature,
        now: &Aggregate,
        than: &Aggregate,
    ) -> Option<String> {
        let limits = Limits::default();
        let acceptance = now.drafts.acceptance();
        match signature {
            RollbackSignature::PrefillRegression => self.falls(
                Speed::Prefill,
                &now.prefill,
                &than.prefill,
                Relative(-limits.prefill),
            ),
            RollbackSignature::CacheReprefill => {
                let interval = difference(&now.cache_found, &than.cache_found, self.alpha);
                let found = interval.is_below(-limits.cache);
                found.then(|| {
                    part(
                        "of the expected cache found",
                        &now.cache_found,
                        &than.cache_found,
                    )
                })
            }
            RollbackSignature::RollbackSpike => {
                let interval = difference(&now.rollback, &than.rollback, self.alpha);
                let few = acceptance.is_some_and(|accepted| accepted <= 0.35);
                let found = few && interval.is_above(limits.rollback);
                found.then(|| part("rolled back for each token", &now.rollback, &than.rollback))
            }
            RollbackSignature::GarbledOutput => {
                let odd = acceptance.is_some_and(|accepted| !(0.1..=0.95).contains(&accepted));
                let margin = Points(limits.malformed);
                let (now, than) = self.count(now, than, Aggregate::malformed);
                self.rises(now, than, margin).filter(|_| odd)
            }
            // Told by the first turns, or by who looks at the backends.
            RollbackSignature::AcceptanceCollapse
            | RollbackSignature::LogSignature
            | RollbackSignature::SpecSilentlyOff
            | RollbackSignature::SlotWedged => None,
        }
    }
}

fn part(what: &str, now: &Sample, than: &Sample) -> String {
    format!(
        "{:.2} {what}, not {:.2} ({} and {} turns)",
        now.mean(),
        than.mean(),
        now.n(),
        than.n()
    )
}

fn factor(what: &str, now: &Sample, than: &Sample, Interval { low, high }: Interval) -> String {
    let percent = |ln: f64| ln.exp_m1() * 100.0;
    format!(
        "{:.3} {what}, not {:.3}: a difference of {:+.1} % to {:+.1} % ({} and {} turns)",
        now.mean().exp(),
        than.mean().exp(),
        percent(low),
        percent(high),
        now.n(),
        than.n(),
    )
}

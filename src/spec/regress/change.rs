//! How a metric has changed, in one stratum or in all of them.

use serde::Serialize;

use super::{Comparison, Limits, Metric};
use crate::spec::aggregate::Aggregate;
use crate::spec::observe::Stratum;
use crate::spec::sequential::{Interval, Sample, difference, pooled};
use crate::spec::signature::Signature;

/// One metric in one stratum or in all of them, now against before.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// Which turns; none: all that both sides have strata of, each compared within its own.
    pub stratum: Option<Stratum>,
    /// Of what.
    pub metric: Metric,
    /// Only the latest turns are what is now.
    pub latest: bool,
    /// Where the difference of the means is.
    pub interval: Interval,
    /// Mean before, and of how many.
    pub before: (f64, u64),
    /// Mean now, and of how many.
    pub now: (f64, u64),
}

/// Every metric in every stratum that both have.
pub fn compare(pair: Comparison<'_>, limits: &Limits) -> Vec<Change> {
    let both = pair.now.1.iter().filter_map(|(stratum, now)| {
        let before = pair.before.1.get(stratum)?;
        Some((*stratum, now, before))
    });
    let both: Vec<(Stratum, &Aggregate, &Aggregate)> = both.collect();
    let in_each = both.iter().flat_map(|(stratum, now, before)| {
        Metric::ALL.map(|metric| {
            let (now, before) = (metric.of(now), metric.of(before));
            Change {
                stratum: Some(*stratum),
                metric,
                latest: false,
                interval: difference(now, before, limits.share()),
                before: (before.mean(), before.n()),
                now: (now.mean(), now.n()),
            }
        })
    });
    // What has turned bad after many good turns. The first block is all there is, and has been asked.
    let grown = both.iter().filter(|(_, now, _)| now.latest.blocks > 0);
    let of_latest = grown.flat_map(|(stratum, now, before)| {
        Metric::LATEST.map(|metric| {
            let alpha = now.latest.share(limits.share());
            let (now, before) = (metric.of(&now.latest.measured), metric.of(before));
            Change {
                stratum: Some(*stratum),
                metric,
                latest: true,
                interval: difference(now, before, alpha),
                before: (before.mean(), before.n()),
                now: (now.mean(), now.n()),
            }
        })
    });
    // Of one stratum it is the same test again.
    let in_all = Metric::ALL.into_iter().filter(|_| both.len() > 1);
    let in_all = in_all.map(|metric| in_all_strata(&both, metric, limits));
    in_each.chain(of_latest).chain(in_all).collect()
}

/// All strata together. Means are of all turns, whatever their mix; the interval is of the change within strata.
fn in_all_strata(
    both: &[(Stratum, &Aggregate, &Aggregate)],
    metric: Metric,
    limits: &Limits,
) -> Change {
    let pairs = || {
        both.iter()
            .map(|(_, now, before)| (metric.of(now), metric.of(before)))
    };
    let all = |samples: &mut dyn Iterator<Item = &Sample>| {
        samples.fold(Sample::default(), |all, one| all.merged(one))
    };
    let now = all(&mut pairs().map(|(now, _)| now));
    let before = all(&mut pairs().map(|(_, before)| before));
    Change {
        stratum: None,
        metric,
        latest: false,
        interval: pooled(pairs(), limits.share_of_all()),
        before: (before.mean(), before.n()),
        now: (now.mean(), now.n()),
    }
}

impl Change {
    pub(super) fn signature(&self, limits: &Limits, rebuilt: bool) -> Option<Signature> {
        let lost = |part: f64| self.interval.is_below((1.0 - part).ln());
        match self.metric {
            Metric::AcceptLength if lost(limits.accept_length) => {
                Some(Signature::AcceptanceCollapse)
            }
            Metric::DecodeRate if rebuilt && lost(limits.decode) => {
                Some(Signature::ThroughputCollapseAfterBuildChange)
            }
            Metric::PrefillRate if lost(limits.prefill) => Some(Signature::PrefillRegression),
            Metric::CacheFound if self.interval.is_below(-limits.cache) => {
                Some(Signature::CacheReprefill)
            }
            Metric::Rollback if self.interval.is_above(limits.rollback) => {
                Some(Signature::RollbackSpike)
            }
            _ => None,
        }
    }

    pub(super) fn evidence(&self) -> String {
        let place = match self.stratum {
            Some(Stratum { class, busy }) => format!("{}, {busy} busy", class.as_str()),
            None => "all classes and loads, each within its own".to_owned(),
        };
        let Interval { low, high } = self.interval;
        let (before, now) = (self.before, self.now);
        let latest = if self.latest { "the latest " } else { "" };
        let of = format!("{} turns before, {latest}{} now", before.1, now.1);
        if !self.metric.is_factor() {
            return format!(
                "{place}: {:.2} now, {:.2} before, a change of {low:+.2} to {high:+.2} ({of})",
                now.0, before.0
            );
        }
        let percent = |ln: f64| (ln.exp() - 1.0) * 100.0;
        format!(
            "{place}: {:.1} now, {:.1} before, a change of {:+.1} % to {:+.1} % ({of})",
            now.0.exp(),
            before.0.exp(),
            percent(low),
            percent(high),
        )
    }
}

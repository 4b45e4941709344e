//! Recorded benchmarks of backends, for work that a backend has no past in.

use std::collections::HashMap;
use std::sync::Arc;

use super::book::Strata;
use super::observe::Place;

/// What a benchmark has recorded of one profile on one build.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The profile.
    pub profile: Arc<str>,
    /// The build.
    pub build: Arc<str>,
    /// What came of its turns.
    pub strata: Strata,
}

/// What is recorded, by the name of the backend.
#[derive(Debug, Default)]
pub(super) struct Records(HashMap<Arc<str>, Vec<Recorded>>);

impl Records {
    pub(super) fn new(all: Vec<(Arc<str>, Vec<Recorded>)>) -> Self {
        Self(all.into_iter().collect())
    }

    /// What is recorded of the profile of `place` on its backend, without the strata that `known` has: those are
    /// compared with what was seen. What a benchmark does not tell of a place is taken to be as now.
    pub(super) fn before(&self, place: &Place, known: Option<&Strata>) -> Option<(Place, Strata)> {
        let recorded = self.0.get(&place.backend)?;
        let found = recorded.iter().find(|r| r.profile == place.profile)?;
        let is_new = |stratum| known.is_none_or(|known| !known.contains_key(stratum));
        let strata = found.strata.iter().filter(|(stratum, _)| is_new(stratum));
        let strata: Strata = strata
            .map(|(stratum, all)| (*stratum, all.clone()))
            .collect();
        let then = Place {
            build: Arc::clone(&found.build),
            ..place.clone()
        };
        (!strata.is_empty()).then_some((then, strata))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Limits;
    use super::super::ledger::Ledger;
    use super::super::observe::Stratum;
    use super::super::observe::tests::{PROSE, answer, place};
    use super::super::signature::Signature;
    use super::*;
    use crate::config::RequestClass;

    /// So many turns of about so many tokens/s.
    fn turns(place: &Place, stratum: Stratum, tps: f64) -> Vec<crate::spec::Observation> {
        let wobble = |n: u32| 1.0 + f64::from(n % 7) * 0.01;
        (0..60)
            .map(|n| answer(place, stratum, 100, tps * wobble(n)))
            .collect()
    }

    fn recorded(build: &str, tps: f64) -> Recorded {
        let mut strata = Strata::new();
        for seen in turns(&place("bench", "m", build), PROSE, tps) {
            strata.entry(seen.stratum).or_default().push(&seen);
        }
        Recorded {
            profile: "m".into(),
            build: build.into(),
            strata,
        }
    }

    /// A gateway that has never seen the build before finds it by the benchmark, and blames the build.
    #[test]
    fn a_backend_without_a_past_is_compared_with_its_benchmark() {
        let ledger = Ledger::default();
        let now = place("b", "m", "b2");
        let push = |all: Vec<_>| all.iter().for_each(|seen| ledger.push(seen));
        push(turns(&now, PROSE, 20.0));
        assert!(
            ledger.findings(&Limits::default()).is_empty(),
            "nothing to compare with"
        );
        ledger.record(vec![("c".into(), vec![recorded("b1", 40.0)])]);
        assert!(
            ledger.findings(&Limits::default()).is_empty(),
            "another backend's"
        );
        ledger.record(vec![("b".into(), vec![recorded("b1", 20.0)])]);
        assert!(ledger.findings(&Limits::default()).is_empty(), "as it was");
        ledger.record(vec![("b".into(), vec![recorded("b1", 40.0)])]);
        let found = ledger.findings(&Limits::default());
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(
            found[0].signature,
            Signature::ThroughputCollapseAfterBuildChange
        );
        assert_eq!(
            found[0].before.as_ref().map(|place| &*place.build),
            Some("b1")
        );
        assert_eq!(found[0].blamed().as_deref(), Some("build b2"));
    }

    /// What was seen goes before what was recorded; classes that were not seen are compared all the same.
    #[test]
    fn only_what_has_no_past_is_compared_with_it() {
        let ledger = Ledger::default();
        let (old, now) = (place("b", "m", "b1"), place("b", "m", "b2"));
        let push = |all: Vec<_>| all.iter().for_each(|seen| ledger.push(seen));
        ledger.record(vec![("b".into(), vec![recorded("b0", 40.0)])]);
        push(turns(&old, PROSE, 20.0));
        push(turns(&now, PROSE, 20.0));
        assert!(
            ledger.findings(&Limits::default()).is_empty(),
            "seen to be as it was"
        );
        let edits = Stratum::new(RequestClass::Edit, 1);
        let ledger = Ledger::default();
        let push = |all: Vec<_>| all.iter().for_each(|seen| ledger.push(seen));
        ledger.record(vec![("b".into(), vec![recorded("b0", 40.0)])]);
        push(turns(&old, edits, 20.0));
        push(turns(&now, edits, 20.0));
        push(turns(&now, PROSE, 20.0));
        let found = ledger.findings(&Limits::default());
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].evidence.starts_with("prose"),
            "{}",
            found[0].evidence
        );
    }
}

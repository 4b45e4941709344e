//! What the fleet says about a rollout.

use std::sync::Arc;

use serde::Serialize;

use crate::config::{Rollout, Subject};
use crate::fleet::{Backend, Fleet};
use crate::spec::rollout::{Capacity, Fairness, Routing, State};

/// See the module's documentation.
#[derive(Clone, Debug, Serialize)]
pub struct Around {
    /// Ready slots.
    pub capacity: Capacity,
    /// Whether a difference can be the hardware's.
    pub fairness: Fairness,
    /// Backends that run the candidate.
    pub candidates: Vec<String>,
    /// Those that are configured to, and do not.
    pub silent: Vec<String>,
}

impl Around {
    pub(super) fn of(fleet: &Fleet, plan: &Rollout) -> Self {
        let routing = State::new(plan).routing(plan);
        let all = backends(fleet, plan);
        let is_candidate = |b: &&Arc<Backend>| b.at_site(|site| routing.is_candidate(site));
        let candidates: Vec<_> = all.iter().filter(is_candidate).collect();
        let ready = |of: &[&Arc<Backend>]| {
            let ready = of.iter().filter(|b| b.available());
            ready.map(|b| b.slots().unwrap_or(1)).sum()
        };
        let name = |b: &Arc<Backend>| b.id().to_string();
        Self {
            capacity: Capacity {
                candidate: ready(&candidates),
                all: ready(&all.iter().collect::<Vec<_>>()),
            },
            fairness: fairness(plan, &all, &candidates),
            candidates: candidates.iter().copied().map(name).collect(),
            silent: all
                .iter()
                .filter(|b| is_silent(b, plan))
                .map(name)
                .collect(),
        }
    }
}

/// The pool's backends.
pub(super) fn backends(fleet: &Fleet, plan: &Rollout) -> Vec<Arc<Backend>> {
    let pool = fleet.pool(&plan.pool);
    let all = pool
        .map(|pool| pool.backends().to_vec())
        .unwrap_or_default();
    all.into_iter().filter(|b| !b.leaving()).collect()
}

/// Configured to run the candidate's profile, and it does not speculate.
fn is_silent(backend: &Backend, plan: &Rollout) -> bool {
    let Subject::Profile(wanted) = &plan.candidate else {
        return false;
    };
    let configured = backend.profile();
    configured.is_some_and(|name| *name == **wanted)
        && backend.facts().speculative == Some(false)
        && wanted != crate::spec::NONE
}

fn fairness(plan: &Rollout, all: &[Arc<Backend>], candidates: &[&Arc<Backend>]) -> Fairness {
    if plan.hardware_equal {
        return Fairness::Equal("`hardware_equal` says so".to_owned());
    }
    let control = all.iter().find(|b| b.id().as_str() == plan.control);
    let address = control.map(|b| b.address());
    let on_it = |b: &&&Arc<Backend>| Some(b.address()) == address;
    match candidates.iter().find(|b| !on_it(b)) {
        None if !candidates.is_empty() && address.is_some() => {
            Fairness::Equal("candidate and control are presets of one server".to_owned())
        }
        other => Fairness::Unequal(format!(
            "the difference may be the hardware's: {} and the control {} are different servers; \
             `hardware_equal: true` says that they are alike",
            other.map_or("the candidate", |b| b.id().as_str()),
            plan.control
        )),
    }
}

/// What makes it impossible to go on. A backend that is not up yet, or has not said what it is, is no trouble.
pub(super) fn trouble(
    fleet: &Fleet,
    plan: &Rollout,
    state: &State,
    routing: &Routing,
) -> Option<String> {
    if fleet.pool(&plan.pool).is_none() {
        return Some(format!("there is no pool `{}`", plan.pool));
    }
    if !state.needs_control(plan) {
        return None;
    }
    let all = backends(fleet, plan);
    let Some(control) = all.iter().find(|b| b.id().as_str() == plan.control) else {
        // A pool that is discovered may have lost it for a moment.
        let is_fixed = state.phase().is_active() && !all.is_empty();
        return is_fixed.then(|| format!("the pool has no backend `{}`", plan.control));
    };
    let known = match &plan.baseline {
        Subject::Profile(_) => control.runs().is_known(),
        Subject::Build(_) => control.facts().build.is_some(),
        Subject::Backend(_) => true,
    };
    let is_baseline = control.at_site(|site| routing.is_baseline(site));
    (known && !is_baseline).then(|| {
        format!(
            "the control {} runs {} of build {}, which is not the baseline ({})",
            plan.control,
            control.runs().name(),
            control.facts().build.as_deref().unwrap_or("unknown"),
            plan.baseline
        )
    })
}

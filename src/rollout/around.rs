//! What the fleet says about a rollout.

use std::sync::Arc;

use serde::Serialize;

use super::recorded::Recorded;
use crate::config::{Rollout, Subject};
use crate::fleet::{Backend, Fleet};
use crate::spec::rollout::{Capacity, Fairness, Hardware, Routing, State};

/// See the module's documentation.
#[derive(Clone, Debug, Serialize)]
pub struct Around {
    /// Ready slots.
    pub capacity: Capacity,
    /// Whether a difference can be the hardware's.
    pub fairness: Fairness,
    /// What the servers differ by, as far as it is recorded.
    #[serde(skip)]
    pub hardware: Hardware,
    /// Backends that run the candidate.
    pub candidates: Vec<String>,
    /// Those that are up, and those that are up and run the baseline.
    #[serde(skip)]
    pub up: (Vec<String>, Vec<String>),
    /// Those that are configured to, and do not.
    pub silent: Vec<String>,
}

impl Around {
    pub(super) fn of(fleet: &Fleet, plan: &Rollout, recorded: &Recorded) -> Self {
        let routing = State::new(plan).routing(plan);
        let all = backends(fleet, plan);
        let is_candidate = |b: &&Arc<Backend>| b.at_site(|site| routing.is_candidate(site));
        let candidates: Vec<_> = all.iter().filter(is_candidate).collect();
        let ready = |of: &[&Arc<Backend>]| {
            let ready = of.iter().filter(|b| b.available());
            ready.map(|b| b.slots().unwrap_or(1)).sum()
        };
        let name = |b: &Arc<Backend>| b.id().to_string();
        let up = |is: &dyn Fn(&Backend) -> bool| -> Vec<String> {
            let up = all.iter().filter(|b| b.available() && is(b));
            up.map(name).collect()
        };
        let up = (
            up(&|b| b.at_site(|site| routing.is_candidate(site))),
            up(&|b| b.at_site(|site| routing.is_baseline(site))),
        );
        let (fairness, hardware) = fairness(plan, &all, &candidates, recorded);
        Self {
            capacity: Capacity {
                candidate: ready(&candidates),
                all: ready(&all.iter().collect::<Vec<_>>()),
            },
            fairness,
            hardware,
            up,
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

fn fairness(
    plan: &Rollout,
    all: &[Arc<Backend>],
    candidates: &[&Arc<Backend>],
    recorded: &Recorded,
) -> (Fairness, Hardware) {
    let equal = |why: &str| (Fairness::Equal(why.to_owned()), Hardware::default());
    if plan.hardware_equal {
        return equal("`hardware_equal` says so");
    }
    if plan.crossover {
        return equal("each profile runs on both backends: a crossover half-way of every step");
    }
    let control = all.iter().find(|b| b.id().as_str() == plan.control);
    let address = control.map(|b| b.address());
    let on_it = |b: &&&Arc<Backend>| Some(b.address()) == address;
    let other = candidates.iter().find(|b| !on_it(b));
    if other.is_none() && !candidates.is_empty() && address.is_some() {
        return equal("candidate and control are presets of one server");
    }
    let names: Vec<String> = candidates.iter().map(|b| b.id().to_string()).collect();
    let unequal = |more: &str| {
        let why = format!(
            "the difference may be the hardware's: {} and the control {} are different servers; {more}",
            other.map_or("the candidate", |b| b.id().as_str()),
            plan.control
        );
        (Fairness::Unequal(why), Hardware::default())
    };
    match recorded.hardware(plan, &plan.control, &names) {
        Some(Ok((hardware, told))) => (Fairness::Equal(told), hardware),
        Some(Err(why)) => unequal(&why),
        None => unequal(
            "`spec.recorded` with a benchmark of both, `crossover: true`, or `hardware_equal: true` where they are \
             alike make it fair",
        ),
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
    // Who exchanges profiles is the one and the other in between.
    if !state.needs_control(plan) || state.is_crossing() {
        return None;
    }
    let name = state.control(plan);
    let all = backends(fleet, plan);
    let Some(control) = all.iter().find(|b| b.id().as_str() == name) else {
        // A pool that is discovered may have lost it for a moment.
        let is_fixed = state.phase().is_active() && !all.is_empty();
        return is_fixed.then(|| format!("the pool has no backend `{name}`"));
    };
    let known = match &plan.baseline {
        Subject::Profile(_) => control.runs().is_known(),
        Subject::Build(_) => control.facts().build.is_some(),
        Subject::Backend(_) => true,
    };
    let is_baseline = control.at_site(|site| routing.is_baseline(site));
    (known && !is_baseline).then(|| {
        format!(
            "the control {name} runs {} of build {}, which is not the baseline ({})",
            control.runs().name(),
            control.facts().build.as_deref().unwrap_or("unknown"),
            plan.baseline
        )
    })
}

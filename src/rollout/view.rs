//! What the admin API tells of a rollout.

use serde::Serialize;
use serde_json::json;

use super::around::Around;
use crate::config::Rollout;
use crate::spec::rollout::{Estimate, Event, Judge, Judged, Phase, Shares, State, What};
use crate::telemetry::feed::Feed;
use crate::telemetry::metrics::RolloutSample;

/// One rollout in `/api/rollouts/{name}`. Fields are only ever added.
#[derive(Clone, Debug, Serialize)]
pub struct View {
    /// The short form.
    #[serde(flatten)]
    pub overview: Overview,
    /// What is known of the differences in this step.
    pub estimates: Vec<Estimate>,
    /// What steps came to, the latest last.
    pub verdicts: Vec<Judged>,
    /// What happened, the latest last.
    pub events: Vec<Event>,
    /// What the fleet has for it.
    #[serde(flatten)]
    pub around: Around,
    /// Its configuration.
    pub config: Rollout,
}

/// One rollout in `/api/rollouts`.
#[derive(Clone, Debug, Serialize)]
pub struct Overview {
    /// Its name.
    pub name: String,
    /// Its pool.
    pub pool: String,
    /// Where it is.
    pub state: Phase,
    /// Why, where there is a reason.
    pub reason: Option<String>,
    /// Since when, in milliseconds since 1970; 0: nothing has happened yet.
    pub since_ms: u64,
    /// How often it was started.
    pub run: u32,
    /// The step it is at, from 0.
    pub step: usize,
    /// Of so many.
    pub steps: usize,
    /// How long the step has run, in seconds.
    pub step_seconds: u64,
    /// Shares of the sessions.
    pub shares: Shares,
    /// The backend that is the control: another one after a crossover.
    pub control_backend: String,
    /// What came of the candidate's sessions in this step.
    pub candidate: SideView,
    /// The same of the control.
    pub control: SideView,
}

/// One side.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct SideView {
    /// Sessions, up to the most that are told apart.
    pub sessions: usize,
    /// Turns.
    pub turns: u64,
    /// Those that failed.
    pub failed: u64,
}

impl View {
    pub(super) fn of(plan: &Rollout, state: &State, around: &Around, now_ms: u64) -> Self {
        let (turns, sessions) = (state.turns(), state.sessions());
        let failed = state.seen(&around.hardware).errors();
        let side = |sessions, turns, failed: crate::spec::sequential::Count| SideView {
            sessions,
            turns,
            failed: failed.happened,
        };
        Self {
            overview: Overview {
                name: plan.name.clone(),
                pool: plan.pool.clone(),
                state: state.phase(),
                reason: state.reason().map(str::to_owned),
                since_ms: state.changed_ms(),
                run: state.run(),
                step: state.step(),
                steps: plan.steps.len(),
                step_seconds: state.elapsed(now_ms).as_secs(),
                shares: state.shares(),
                control_backend: state.control(plan).to_owned(),
                candidate: side(sessions.0, turns.0, failed.0),
                control: side(sessions.1, turns.1, failed.1),
            },
            estimates: Judge::new(plan).estimates(&state.seen(&around.hardware)),
            verdicts: state.verdicts().cloned().collect(),
            events: state.events().cloned().collect(),
            around: around.clone(),
            config: plan.clone(),
        }
    }

    pub(super) fn sample(&self) -> RolloutSample<'_> {
        RolloutSample {
            name: &self.overview.name,
            phase: self.overview.state,
            shares: self.overview.shares,
            estimates: &self.estimates,
        }
    }
}

/// To the log and to those who watch.
pub(super) fn tell(rollout: &str, event: &Event) {
    let told = serde_json::to_value(event).unwrap_or_default();
    match &event.what {
        What::RolledBack { reason } => {
            tracing::warn!(rollout, reason, "ROLLOUT: rolled back");
        }
        What::Verdict(judged) => tracing::info!(
            rollout,
            step = judged.step,
            verdict = judged.verdict.as_str(),
            reason = judged.reason,
            "ROLLOUT: verdict"
        ),
        _ => tracing::info!(rollout, event = %told, "ROLLOUT"),
    }
    Feed::global().tell("rollout", || json!({ "rollout": rollout, "event": told }));
}

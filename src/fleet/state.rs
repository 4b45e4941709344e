//! The health of one backend as a state machine, without clock or socket: what checks say. What requests
//! say besides is in [`super::breaker`].

use std::fmt;
use std::num::NonZeroU32;

use serde::Serialize;

use crate::config::Health;

/// Whether a backend can serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum BackendState {
    /// Not checked yet.
    Unknown,
    /// It answers, but still loads its model (llama-server: 503 on every path).
    Loading,
    /// It serves.
    Ready,
    /// It serves, and every slot is taken. Shown to people only ([`super::Backend::shown_state`]).
    Busy,
    /// It answers its checks, and its slots get nowhere.
    Wedged,
    /// It does not answer, or not as it should.
    Down,
}

impl BackendState {
    /// Every state, for metrics that show one series a state.
    pub const ALL: [Self; 6] = [
        Self::Unknown,
        Self::Loading,
        Self::Ready,
        Self::Busy,
        Self::Wedged,
        Self::Down,
    ];

    /// The metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Loading => "loading",
            Self::Ready => "ready",
            Self::Busy => "busy",
            Self::Wedged => "wedged",
            Self::Down => "down",
        }
    }
}

impl fmt::Display for BackendState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A change of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The state before.
    pub from: BackendState,
    /// The state after.
    pub to: BackendState,
}

/// What one observation of a backend said, a check or a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Observation {
    /// A check found it well.
    Well,
    /// It said that it is loading.
    Loading,
    /// A check failed.
    Failed,
    /// A request could not connect to it.
    Unreachable,
    /// A request was answered.
    Served,
    /// The watchdog takes it out.
    Wedged,
    /// The watchdog found its slots getting on again.
    Unwedged,
}

/// The state with the counts that lead out of it.
///
/// * A first check decides alone: there is nothing to weigh it against.
/// * `unhealthy_after` failures in a row take a backend down; being refused a connection does so at
///   once, until the next good check.
/// * `healthy_after` good checks in a row bring it back.
/// * What a backend says about loading is believed at once.
/// * A wedged one stays so whatever good its checks say, until the watchdog says otherwise.
#[derive(Clone, Debug)]
pub(super) struct HealthState {
    state: BackendState,
    failures: u32,
    successes: u32,
    thresholds: Thresholds,
}

/// How many checks in a row it takes, as configured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Thresholds {
    pub(super) unhealthy_after: NonZeroU32,
    pub(super) healthy_after: NonZeroU32,
}

impl Thresholds {
    pub(super) fn of(health: &Health) -> Self {
        Self {
            unhealthy_after: health.unhealthy_after,
            healthy_after: health.healthy_after,
        }
    }
}

impl HealthState {
    pub(super) fn new(thresholds: Thresholds) -> Self {
        Self {
            state: BackendState::Unknown,
            failures: 0,
            successes: 0,
            thresholds,
        }
    }

    /// From now on these count.
    pub(super) fn set_thresholds(&mut self, thresholds: Thresholds) {
        self.thresholds = thresholds;
    }

    pub(super) fn state(&self) -> BackendState {
        self.state
    }

    /// Takes an observation in; tells what changed.
    pub(super) fn observe(&mut self, observation: Observation) -> Option<Transition> {
        use BackendState::{Down, Loading, Ready, Unknown, Wedged};
        let from = self.state;
        match observation {
            Observation::Well => {
                self.failures = 0;
                self.successes = self.successes.saturating_add(1);
                let back = from != Down || self.successes >= self.thresholds.healthy_after.get();
                if from != Wedged && back {
                    self.state = Ready;
                }
            }
            Observation::Loading => {
                self.failures = 0;
                self.successes = 0;
                self.state = Loading;
            }
            Observation::Failed => {
                self.successes = 0;
                self.failures = self.failures.saturating_add(1);
                if from == Unknown || self.failures >= self.thresholds.unhealthy_after.get() {
                    self.state = Down;
                }
            }
            Observation::Unreachable => {
                self.failures = self.failures.saturating_add(1);
                // A request's word against the checks': one good check settles it.
                if from != Down {
                    self.successes = self.thresholds.healthy_after.get() - 1;
                    self.state = Down;
                }
            }
            Observation::Wedged => {
                if from == Ready {
                    self.state = Wedged;
                }
            }
            Observation::Unwedged => {
                if from == Wedged {
                    self.state = Ready;
                }
            }
            // Proof that it works, but not that it takes new work: only checks bring a backend back.
            Observation::Served => {
                if from != Down {
                    self.failures = 0;
                }
            }
        }
        (self.state != from).then_some(Transition {
            from,
            to: self.state,
        })
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::BackendState::{Down, Loading, Ready, Unknown, Wedged};
    use super::Observation::{
        Failed, Loading as IsLoading, Served, Unreachable, Unwedged, Wedged as IsWedged, Well,
    };
    use super::*;

    fn after(unhealthy: u32, healthy: u32, observations: &[Observation]) -> BackendState {
        let count = |n| NonZeroU32::new(n).unwrap();
        let mut health = HealthState::new(Thresholds {
            unhealthy_after: count(unhealthy),
            healthy_after: count(healthy),
        });
        for observation in observations {
            let before = health.state();
            let change = health.observe(*observation);
            assert_eq!(change.is_some(), before != health.state());
        }
        health.state()
    }

    #[rstest]
    #[case(&[], Unknown)]
    #[case(&[Well], Ready)]
    #[case(&[Failed], Down)]
    #[case(&[IsLoading], Loading)]
    #[case(&[IsLoading, Well], Ready)]
    #[case(&[IsLoading, Failed], Loading)]
    #[case(&[IsLoading, Failed, Failed], Down)]
    #[case(&[Well, Failed], Ready)]
    #[case(&[Well, Failed, Failed], Down)]
    #[case(&[Well, Failed, Well, Failed], Ready)]
    #[case(&[Well, Failed, Served, Failed], Ready)]
    #[case(&[Well, IsLoading], Loading)]
    #[case(&[Failed, IsLoading], Loading)]
    #[case(&[Failed, Served], Down)]
    #[case(&[Failed, Well], Down)]
    #[case(&[Failed, Well, Well], Ready)]
    #[case(&[Failed, Well, Failed, Well], Down)]
    #[case(&[Well, Unreachable], Down)]
    #[case(&[Well, Unreachable, Well], Ready)]
    #[case(&[Well, Unreachable, Failed, Well], Down)]
    #[case(&[Failed, Well, Unreachable, Well], Ready)]
    #[case(&[Unreachable], Down)]
    #[case(&[Well, IsWedged], Wedged)]
    #[case(&[Well, IsWedged, Well, Served, Well], Wedged)]
    #[case(&[Well, IsWedged, Unwedged], Ready)]
    #[case(&[Well, IsWedged, IsLoading, Unwedged, Well], Ready)]
    #[case(&[Well, IsWedged, Failed, Failed, Unwedged], Down)]
    #[case(&[Well, IsWedged, Failed, Failed, Well, Well], Ready)]
    #[case(&[Failed, IsWedged], Down)]
    #[case(&[Well, Unwedged], Ready)]
    fn two_failures_take_down_and_two_good_checks_bring_back(
        #[case] observations: &[Observation],
        #[case] state: BackendState,
    ) {
        assert_eq!(after(2, 2, observations), state);
    }

    #[test]
    fn thresholds_of_one_follow_every_check() {
        assert_eq!(after(1, 1, &[Well, Failed]), Down);
        assert_eq!(after(1, 1, &[Well, Failed, Well]), Ready);
    }
}

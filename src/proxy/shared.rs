//! State that requests, health checks and the admin API share.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::audit::Audit;
use crate::config::Config;
use crate::exchange::{Leases, PingoraConnector};
use crate::fleet::Fleet;
use crate::rollout::Rollouts;
use crate::server::drain::{Inflight, Phase};
use crate::session::Sessions;
use crate::spec::Ledger;
use crate::store::Store;
use crate::telemetry::Recent;
use crate::telemetry::trace::Tracer;

/// See the module's documentation.
pub struct Shared {
    /// As it is now.
    pub config: Arc<ArcSwap<Config>>,
    /// The backends.
    pub fleet: Arc<Fleet>,
    /// Requests being served.
    pub inflight: Arc<Inflight>,
    /// Connections of the exchange lane.
    pub connector: PingoraConnector,
    /// What is remembered between requests.
    pub sessions: Arc<Sessions>,
    /// Where decisions of policy are recorded; none where they are not.
    pub audit: Option<Arc<Audit>>,
    /// The last requests.
    pub requests: Arc<Recent>,
    /// What came of turns, by what their backends ran.
    pub spec: Arc<Ledger>,
    /// What outlives requests.
    pub store: Arc<dyn Store>,
    /// Who is at work on what.
    pub leases: Leases,
    /// Which side of a rollout sessions are on.
    pub rollouts: Arc<Rollouts>,
    /// Takes turns that are traced; none where they are not.
    pub tracer: Option<Arc<Tracer>>,
}

impl Shared {
    /// The configuration in force. A request takes it once and keeps it.
    pub fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    /// Whether the process is finishing what was begun.
    pub fn is_draining(&self) -> bool {
        self.inflight.phase() == Phase::Draining
    }
}

//! Every metric series, declared once, in a file a subject.
//!
//! Names follow the contract of the architecture: prefix `drover_`, base units, bounded labels. What
//! is declared is also what `docs/metrics.md` lists.

mod attempts;
mod audit;
mod declare;
mod discovery;
mod docs;
mod exemplars;
mod gen_ai;
mod generation;
mod guards;
mod health;
mod openmetrics;
mod process;
mod queue;
mod requests;
mod rollouts;
mod spec;

use std::cell::RefCell;
use std::collections::HashSet;

use once_cell::sync::Lazy;
use parking_lot::Mutex;
use prometheus::{Encoder, Registry, TextEncoder};

use super::fleet_gauges::{self, FleetGauges, FleetSample};
use attempts::Attempts;
use audit::Audit;
use declare::{Declare, Description};
use discovery::Discovery;
use exemplars::Exemplars;
use gen_ai::GenAi;
use generation::Generation;
use guards::Guards;
use health::Health;
use process::Process;
use queue::Queue;
use requests::Requests;
use rollouts::Rollouts;
use spec::Spec;

pub use docs::markdown;
pub use gen_ai::{Gaps, GenAiRequest};
pub use openmetrics::{OPENMETRICS_FORMAT, is_wanted as wants_openmetrics};
pub use rollouts::RolloutSample;

/// Content type of the Prometheus text exposition format, version 0.0.4.
pub const TEXT_FORMAT: &str = prometheus::TEXT_FORMAT;

/// All series of the process, in a registry of their own.
pub struct Metrics {
    registry: Registry,
    fleet: FleetGauges,
    requests: Requests,
    attempts: Attempts,
    health: Health,
    discovery: Discovery,
    queue: Queue,
    generation: Generation,
    spec: Spec,
    rollouts: Rollouts,
    /// Label values of their gauges.
    rolling: Mutex<rollouts::Shown>,
    /// Builds that have series.
    builds: Mutex<HashSet<String>>,
    guards: Guards,
    audit: Audit,
    audit_now: audit::Source,
    process: Process,
    gen_ai: GenAi,
    exemplars: Exemplars,
    sessions: process::Sessions,
    described: Vec<Description>,
}

#[expect(
    clippy::expect_used,
    reason = "names and labels are constants of this room; the tests build every series"
)]
static GLOBAL: Lazy<Metrics> = Lazy::new(|| Metrics::new().expect("declaring the metrics"));

impl Metrics {
    /// The process-wide metrics.
    #[must_use]
    pub fn global() -> &'static Self {
        &GLOBAL
    }

    /// A separate set of series, for tests that count.
    ///
    /// # Errors
    /// When two series share a name or a name is not valid: a mistake in this room.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let described = RefCell::default();
        let to = Declare {
            registry: &registry,
            described: &described,
            chapter: "Backends",
        };
        let requests = Requests::declare(&to)?;
        let attempts = Attempts::declare(&to)?;
        let fleet = to.add(FleetGauges::new()?, "gauge", &[])?;
        let health = Health::declare(&to)?;
        let discovery = Discovery::declare(&to)?;
        let queue = Queue::declare(&to)?;
        let generation = Generation::declare(&to)?;
        let spec = Spec::declare(&to)?;
        let rollouts = Rollouts::declare(&to)?;
        let guards = Guards::declare(&to)?;
        let audit = Audit::declare(&to)?;
        let audit_now = audit::gauges(&to)?;
        let process = Process::declare(&to)?;
        // From 0 on, so that the first of them is an increase.
        guards.start_at_zero();
        process.start_at_zero();
        queue.start_at_zero();
        spec.start_at_zero();
        let sessions = process::sessions(&to)?;
        process::build_info(&to)?;
        let gen_ai = GenAi::declare(&to)?;
        process::of_system(&registry)?;
        Ok(Self {
            fleet,
            requests,
            attempts,
            health,
            discovery,
            queue,
            generation,
            spec,
            rollouts,
            rolling: Mutex::default(),
            builds: Mutex::default(),
            guards,
            audit,
            audit_now,
            process,
            gen_ai,
            exemplars: Exemplars::default(),
            sessions,
            described: described.into_inner(),
            registry,
        })
    }

    /// Sets the source of the gauges of the fleet, asked at every scrape. The last call wins.
    pub fn watch_fleet(&self, snapshot: impl Fn() -> FleetSample + Send + Sync + 'static) {
        self.fleet.watch(Box::new(snapshot));
    }

    /// The fleet as the gauges show it now.
    pub fn fleet_sample(&self) -> FleetSample {
        self.fleet.sample()
    }

    /// All series in the Prometheus text format ([`TEXT_FORMAT`]).
    ///
    /// # Errors
    /// When a collected family is inconsistent.
    pub fn encode(&self) -> prometheus::Result<Vec<u8>> {
        let mut text = Vec::with_capacity(32 * 1024);
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }

    /// All series in the text format of OpenMetrics ([`OPENMETRICS_FORMAT`]), with exemplars.
    pub fn encode_openmetrics(&self) -> String {
        openmetrics::encode(&self.registry.gather(), &self.exemplars)
    }

    /// One backend's load under the names that endpoint pickers read from a model server. `None` when
    /// there is no such backend.
    ///
    /// # Errors
    /// When a collected family is inconsistent.
    pub fn encode_backend(&self, backend: &str) -> prometheus::Result<Option<Vec<u8>>> {
        let sample = self.fleet.sample();
        let Some(backend) = sample.backends.iter().find(|b| &*b.backend == backend) else {
            return Ok(None);
        };
        let mut text = Vec::new();
        let mut families = fleet_gauges::aliases(backend)?;
        families.extend(self.generation.aliases(backend)?);
        TextEncoder::new().encode(&families, &mut text)?;
        Ok(Some(text))
    }
}

#[cfg(test)]
mod tests;

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
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::fleet::DraftCounts;
    use crate::spec::Signature;
    use crate::telemetry::labels::{AbortCause, Configured, Dialect, Why};
    use crate::telemetry::{BackendSample, FoundSample, QueueSample};
    use crate::turn::Timings;

    pub(super) fn text(metrics: &Metrics) -> String {
        String::from_utf8(metrics.encode().unwrap()).unwrap()
    }

    fn fleet() -> FleetSample {
        FleetSample {
            backends: vec![BackendSample {
                backend: "gpu0".into(),
                pool: "p".into(),
                state: "ready",
                states: &["ready", "down"],
                is_draining: true,
                is_ejected: true,
                inflight: 3,
                slots: Some(4),
                busy_slots: Some(1),
                other_slots: 1,
                kv_used: Some(0.25),
                n_ctx: Some(8192),
                build: "b1-abc".into(),
                model: "coder".into(),
                profile: "ngram-mod".into(),
                drafts: Some(Arc::new(DraftCounts {
                    drafts: 9,
                    drafted: 27,
                    accepted: 13,
                    at_position: vec![8, 5],
                    ..DraftCounts::default()
                })),
            }],
            queues: vec![QueueSample {
                pool: "p".into(),
                class: "batch",
                waiting: 4,
            }],
            found: vec![FoundSample {
                signature: Signature::AcceptanceCollapse,
                pool: "p".into(),
                backend: "gpu0".into(),
                profile: "ngram-mod".into(),
                build: "b1-abc".into(),
                explained_by: "build b1-abc".to_owned(),
            }],
        }
    }

    #[test]
    fn backend_gauges_follow_the_snapshot() {
        let metrics = Metrics::new().unwrap();
        assert!(!text(&metrics).contains("drover_backend_state{"));
        metrics.watch_fleet(fleet);
        let now = text(&metrics);
        for line in [
            r#"drover_backend_state{backend="gpu0",state="ready"} 1"#,
            r#"drover_backend_state{backend="gpu0",state="down"} 0"#,
            r#"drover_backend_draining{backend="gpu0"} 1"#,
            r#"drover_backend_ejected{backend="gpu0"} 1"#,
            r#"drover_inflight{backend="gpu0"} 3"#,
            r#"drover_queue_depth{class="batch",pool="p"} 4"#,
            r#"drover_backend_slots{backend="gpu0"} 4"#,
            r#"drover_backend_busy_slots{backend="gpu0"} 1"#,
            r#"drover_backend_other_slots{backend="gpu0"} 1"#,
            r#"drover_backend_kv_cache_ratio{backend="gpu0"} 0.25"#,
            r#"drover_backend_spec_drafts{backend="gpu0"} 9"#,
            r#"drover_backend_spec_accepted_at_position{backend="gpu0",position="1"} 5"#,
            r#"drover_spec_finding{backend="gpu0",build="b1-abc",explained_by="build b1-abc",pool="p","#,
            r#"drover_backend_info{backend="gpu0",build="b1-abc",model="coder",pool="p",profile="ngram-mod"} 1"#,
        ] {
            assert!(now.contains(line), "{line} in {now}");
        }
        metrics.watch_fleet(FleetSample::default);
        assert!(!text(&metrics).contains("gpu0"), "nothing stale is left");
    }

    #[test]
    fn endpoint_pickers_find_their_names() {
        let metrics = Metrics::new().unwrap();
        metrics.watch_fleet(fleet);
        assert_eq!(metrics.encode_backend("gpu1").unwrap(), None);
        let text = metrics.encode_backend("gpu0").unwrap().unwrap();
        let text = String::from_utf8(text).unwrap();
        for line in [
            r#"vllm:num_requests_running{model_name="coder"} 3"#,
            r#"vllm:num_requests_waiting{model_name="coder"} 0"#,
            r#"vllm:kv_cache_usage_perc{model_name="coder"} 0.25"#,
            // As it counts itself.
            r#"vllm:spec_decode_num_drafts_total{model_name="coder"} 9"#,
            r#"vllm:spec_decode_num_draft_tokens_total{model_name="coder"} 27"#,
            r#"vllm:spec_decode_num_accepted_tokens_total{model_name="coder"} 13"#,
            r#"vllm:spec_decode_num_accepted_tokens_per_pos_total{model_name="coder",position="0"} 8"#,
            r#"vllm:spec_decode_num_accepted_tokens_per_pos_total{model_name="coder",position="1"} 5"#,
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }

    /// A server that shows no counts of its own is told by what this gateway has seen of it.
    #[test]
    fn drafts_are_told_of_servers_that_count_none() {
        let metrics = Metrics::new().unwrap();
        metrics.watch_fleet(|| {
            let mut fleet = fleet();
            fleet.backends[0].drafts = None;
            fleet
        });
        let timings = Timings {
            draft_n: Some(30),
            draft_n_accepted: Some(20),
            ..Timings::default()
        };
        let (pool, backend) = (Configured::name("p"), Configured::name("gpu0"));
        metrics.generated(pool, backend, &timings, Some(10));
        let text = metrics.encode_backend("gpu0").unwrap().unwrap();
        let text = String::from_utf8(text).unwrap();
        for line in [
            r#"vllm:spec_decode_num_drafts_total{model_name="coder"} 10"#,
            r#"vllm:spec_decode_num_draft_tokens_total{model_name="coder"} 30"#,
            r#"vllm:spec_decode_num_accepted_tokens_total{model_name="coder"} 20"#,
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        assert!(!text.contains("per_pos"), "{text}");
    }

    #[test]
    fn every_name_has_a_prefix_and_every_counter_its_suffix() {
        let metrics = Metrics::new().unwrap();
        metrics.attempt(Why::First);
        metrics.upstream_abort(AbortCause::Timeout);
        metrics.upstream_connection(true);
        metrics.client_disconnect();
        metrics.inter_token(Configured::name("p")).observe(0.01);
        let pool = Configured::name("p");
        metrics.ttft(Dialect::OpenAi, pool, Duration::from_secs(1));
        for line in text(&metrics).lines().filter(|l| l.starts_with("# TYPE ")) {
            let mut words = line.split(' ').skip(2);
            let (name, kind) = (words.next().unwrap(), words.next().unwrap());
            let prefixes = ["drover_", "process_", "gen_ai_"];
            assert!(prefixes.iter().any(|p| name.starts_with(p)), "{name}");
            assert_eq!(
                kind == "counter",
                name.ends_with("_total"),
                "{name} is a {kind}"
            );
        }
    }

    /// 64 backends; a scrape must not be felt by those who are served meanwhile.
    #[test]
    fn a_large_fleet_is_scraped_quickly() {
        let metrics = Metrics::new().unwrap();
        metrics.watch_fleet(|| {
            let of = |n: usize| BackendSample {
                backend: format!("gpu{n}").into(),
                ..fleet().backends.swap_remove(0)
            };
            FleetSample {
                backends: (0..64).map(of).collect(),
                queues: Vec::new(),
                found: Vec::new(),
            }
        });
        for n in 0..16 {
            let pool = format!("pool{n}");
            metrics.inter_token(Configured::name(&pool)).observe(0.01);
            for dialect in Dialect::ALL {
                metrics.ttft(*dialect, Configured::name(&pool), Duration::from_secs(1));
            }
        }
        let begun = tokio::time::Instant::now();
        assert!(text(&metrics).contains("gpu63"));
        // 50 ms is the goal of an optimised build; this is neither that nor a quiet machine.
        let took = begun.elapsed();
        assert!(took < Duration::from_millis(500), "{took:?}");
    }
}

//! Gauges of the backends, taken from the fleet at scrape time.
//!
//! Collecting instead of pushing means that a backend removed from the configuration leaves no
//! stale series behind, and that serving requests pays nothing for gauges.

mod sample;

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, Opts};

pub use sample::{BackendSample, FleetSample, FoundSample, QueueSample};

/// Takes the values of a gauge: labels and number.
type Set<'a> = dyn FnMut(&[&str], f64) + 'a;

/// A gauge and where it comes from.
struct Source<T> {
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    read: fn(&T, &mut Set<'_>),
}

/// Every gauge of the fleet: a further one is one more entry.
const GAUGES: &[Source<FleetSample>] = &[
    Source {
        name: "drover_backend_state",
        help: "1 for the state the backend is in, 0 for the others.",
        labels: &["backend", "state"],
        read: |fleet, set| {
            for b in &fleet.backends {
                for state in b.states {
                    set(&[&b.backend, state], number(*state == b.state));
                }
            }
        },
    },
    Source {
        name: "drover_backend_draining",
        help: "1 while an operator has taken the backend out.",
        labels: &["backend"],
        read: |fleet, set| each(fleet, set, |b| Some(number(b.is_draining))),
    },
    Source {
        name: "drover_backend_ejected",
        help: "1 while the backend gets no requests because its requests failed, whatever its state, and \
               until one on trial is answered.",
        labels: &["backend"],
        read: |fleet, set| each(fleet, set, |b| Some(number(b.is_ejected))),
    },
    Source {
        name: "drover_inflight",
        help: "Requests now in flight to the backend through this gateway.",
        labels: &["backend"],
        read: |fleet, set| each(fleet, set, |b| Some(b.inflight as f64)),
    },
    Source {
        name: "drover_queue_depth",
        help: "Requests that wait for a free slot, by pool and priority class.",
        labels: &["pool", "class"],
        read: |fleet, set| {
            for q in &fleet.queues {
                set(&[&q.pool, q.class], q.waiting as f64);
            }
        },
    },
    Source {
        name: "drover_backend_slots",
        help: "Slots of the backend, as configured or reported.",
        labels: &["backend"],
        read: |fleet, set| each(fleet, set, |b| b.slots.map(f64::from)),
    },
    Source {
        name: "drover_backend_busy_slots",
        help: "Slots at work when they were last read (fleet.health.slots_every), whoever uses them.",
        labels: &["backend"],
        read: |fleet, set| each(fleet, set, |b| b.busy_slots.map(f64::from)),
    },
    Source {
        name: "drover_backend_other_slots",
        help: "Slots that others than this gateway hold, as the last two looks at them agree: this gateway sends no more \
               requests than the others leave it.",
        labels: &["backend"],
        read: |fleet, set| each(fleet, set, |b| Some(b.other_slots as f64)),
    },
    Source {
        name: "drover_backend_kv_cache_ratio",
        help: "Share of the KV cache that held tokens when the slots were last read, from 0 to 1. Idle \
               slots keep theirs: full is warm, not overloaded.",
        labels: &["backend"],
        read: |fleet, set| each(fleet, set, |b| b.kv_used),
    },
    Source {
        name: "drover_backend_context_tokens",
        help: "Context of one slot of the backend.",
        labels: &["backend"],
        read: |fleet, set| each(fleet, set, |b| b.n_ctx.map(|n| n as f64)),
    },
    Source {
        name: "drover_backend_info",
        help: "1, with what the backend reports and is configured as: to join other series with.",
        labels: &["backend", "pool", "build", "model", "profile"],
        read: |fleet, set| {
            for b in &fleet.backends {
                set(&[&b.backend, &b.pool, &b.build, &b.model, &b.profile], 1.0);
            }
        },
    },
    Source {
        name: "drover_backend_spec_drafts",
        help: "Drafts that the backend has verified since its start, by its own count.",
        labels: &["backend"],
        read: |fleet, set| each(fleet, set, |b| Some(b.drafts.as_ref()?.drafts as f64)),
    },
    Source {
        name: "drover_backend_spec_accepted_at_position",
        help: "Those of drover_backend_spec_drafts that held up to this position.",
        labels: &["backend", "position"],
        read: |fleet, set| {
            for b in &fleet.backends {
                for (position, count) in at_positions(b) {
                    set(&[&b.backend, position], count as f64);
                }
            }
        },
    },
    Source {
        name: "drover_spec_finding",
        help: "1 for what is wrong with speculative decoding now: `/api/spec/findings` tells evidence, cause and remedy.",
        labels: &[
            "signature",
            "pool",
            "backend",
            "profile",
            "build",
            "explained_by",
        ],
        read: |fleet, set| {
            for f in &fleet.found {
                let signature = f.signature.as_str();
                let labels = [
                    signature,
                    &f.pool,
                    &f.backend,
                    &f.profile,
                    &f.build,
                    &f.explained_by,
                ];
                set(&labels, 1.0);
            }
        },
    },
];

/// Positions of a draft that have series.
const POSITIONS: [&str; 20] = [
    "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "23",
    "31", "47", "63",
];

/// The counts of a backend's drafts at [`POSITIONS`].
fn at_positions(backend: &BackendSample) -> impl Iterator<Item = (&'static str, u64)> {
    let counts = backend.drafts.as_ref().map(|drafts| &drafts.at_position);
    POSITIONS.iter().filter_map(move |name| {
        let at: usize = name.parse().ok()?;
        Some((*name, *counts?.get(at)?))
    })
}

/// One backend as an endpoint picker of Kubernetes' Gateway API inference extension expects a model
/// server to show itself, under the names of vLLM, which all of them know
/// (<https://github.com/kubernetes-sigs/gateway-api-inference-extension>, model server protocol).
const ALIASES: &[Source<BackendSample>] = &[
    Source {
        name: "vllm:num_requests_running",
        help: "Requests at work on the backend.",
        labels: &["model_name"],
        read: |b, set| set(&[&b.model], running(b)),
    },
    Source {
        name: "vllm:num_requests_waiting",
        help: "Requests of this gateway beyond the backend's slots.",
        labels: &["model_name"],
        read: |b, set| set(&[&b.model], (b.inflight as f64 - running(b)).max(0.0)),
    },
    Source {
        name: "vllm:kv_cache_usage_perc",
        help: "Share of the KV cache that holds tokens, from 0 to 1.",
        labels: &["model_name"],
        read: |b, set| set(&[&b.model], b.kv_used.unwrap_or(0.0)),
    },
];

/// The last look at the slots may be old; what is in flight is known.
fn running(backend: &BackendSample) -> f64 {
    let busy = backend.busy_slots.map_or(0.0, f64::from);
    let slots = backend.slots.map_or(f64::INFINITY, f64::from);
    busy.max((backend.inflight as f64).min(slots))
}

fn number(holds: bool) -> f64 {
    if holds { 1.0 } else { 0.0 }
}

fn each(fleet: &FleetSample, set: &mut Set<'_>, value: fn(&BackendSample) -> Option<f64>) {
    for backend in &fleet.backends {
        if let Some(value) = value(backend) {
            set(&[&backend.backend], value);
        }
    }
}

impl<T> Source<T> {
    fn declare(&self) -> prometheus::Result<GaugeVec> {
        GaugeVec::new(Opts::new(self.name, self.help), self.labels)
    }

    fn fill(&self, gauge: &GaugeVec, from: &T) {
        gauge.reset();
        (self.read)(from, &mut |labels, value| {
            gauge.with_label_values(labels).set(value);
        });
    }
}

/// One backend under the names of [`ALIASES`].
pub(super) fn aliases(backend: &BackendSample) -> prometheus::Result<Vec<MetricFamily>> {
    let mut families = Vec::new();
    for alias in ALIASES {
        let gauge = alias.declare()?;
        alias.fill(&gauge, backend);
        families.extend(gauge.collect());
    }
    Ok(families)
}

type Snapshot = Box<dyn Fn() -> FleetSample + Send + Sync>;

/// A collector whose source can be set after registration.
#[derive(Clone)]
pub(super) struct FleetGauges(Arc<Inner>);

struct Inner {
    snapshot: ArcSwapOption<Snapshot>,
    // One scrape at a time resets and fills the gauges, which are those of [`GAUGES`].
    gauges: Mutex<Vec<GaugeVec>>,
    descriptions: Vec<Desc>,
}

impl FleetGauges {
    pub(super) fn new() -> prometheus::Result<Self> {
        let gauges: Vec<GaugeVec> = GAUGES
            .iter()
            .map(Source::declare)
            .collect::<prometheus::Result<_>>()?;
        let descriptions = gauges.iter().flat_map(|gauge| gauge.desc());
        Ok(Self(Arc::new(Inner {
            snapshot: ArcSwapOption::empty(),
            descriptions: descriptions.cloned().collect(),
            gauges: Mutex::new(gauges),
        })))
    }

    pub(super) fn watch(&self, snapshot: Snapshot) {
        self.0.snapshot.store(Some(Arc::new(snapshot)));
    }

    /// The fleet now.
    pub(super) fn sample(&self) -> FleetSample {
        match self.0.snapshot.load().as_deref() {
            Some(snapshot) => snapshot(),
            None => FleetSample::default(),
        }
    }
}

impl Collector for FleetGauges {
    fn desc(&self) -> Vec<&Desc> {
        self.0.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let fleet = self.sample();
        let gauges = self.0.gauges.lock();
        let filled = GAUGES.iter().zip(&*gauges).flat_map(|(source, gauge)| {
            source.fill(gauge, &fleet);
            gauge.collect()
        });
        filled.collect()
    }
}

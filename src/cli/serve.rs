//! `drover serve`: put the rooms together and run.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use arc_swap::ArcSwap;
use clap::Args;
use pingora_core::prelude::background_service;
use pingora_core::services::ServiceWithDependents;
use thiserror::Error;

use super::{EXIT_INTERNAL, EXIT_USAGE, check, fail};
use crate::admin::{self, Admin};
use crate::audit::{self, Audit};
use crate::config::{self, Config, Priority};
use crate::exchange::{Leases, PingoraConnector};
use crate::fleet::{
    Backend, BackendState, Fleet, FleetError, HealthService, Pool, hear_health_events,
};
use crate::proxy::{Gateway, Leavers, Shared};
use crate::rollout::{self, Controller, Rollouts};
use crate::server::drain::Inflight;
use crate::server::findings::{Findings, Found};
use crate::server::reload::{Reloader, Source};
use crate::server::{self, Parts, ServeError, Sockets};
use crate::session::{Sessions, Sweeper};
use crate::spec::Ledger;
use crate::store::{self, Store, StoreError};
use crate::telemetry::labels::Configured;
use crate::telemetry::trace::Tracer;
use crate::telemetry::{self, BackendSample, FleetSample, Metrics, QueueSample, Recent};

/// Arguments of `drover serve`.
#[derive(Args, Clone, Debug)]
pub struct ServeArgs {
    /// Configuration file; without it the defaults and the environment
    #[arg(long, short, value_name = "FILE", env = "DROVER_CONFIG")]
    pub config: Option<PathBuf>,
    /// Take over from the process that listens on the addresses, if there is one (docs/operations.md)
    #[arg(long)]
    pub upgrade: bool,
}

/// Runs the gateway until a signal ends it.
#[must_use]
pub fn run(args: &ServeArgs) -> ExitCode {
    let source = Source::new(args.config.clone(), check::environment());
    let config = match source.load() {
        Ok(config) => config,
        Err(errors) => {
            return fail(
                "serve",
                EXIT_USAGE,
                format_args!("invalid configuration\n{errors}"),
            );
        }
    };
    if let Err(error) = telemetry::log::init(config.telemetry.log, &config.telemetry.level) {
        return fail("serve", EXIT_USAGE, error);
    }
    let upgrade = match (args.upgrade, &config.pingora.upgrade_sock) {
        (false, _) => None,
        (true, Some(path)) => Some(path.as_path()),
        (true, None) => {
            let error = "--upgrade needs `pingora.upgrade_sock` in the configuration";
            return fail("serve", EXIT_USAGE, error);
        }
    };
    let started = Fleet::new(&config)
        .map_err(StartError::from)
        .and_then(|fleet| {
            let sockets = match upgrade {
                None => Sockets::bind(&config)?,
                Some(path) => Sockets::bind_or_take_over(&config, path)?,
            };
            serve(&config, sockets, fleet, Some(source), Vec::new())
        });
    match started {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail("serve", EXIT_INTERNAL, error),
    }
}

/// Why the gateway did not start.
#[derive(Debug, Error)]
pub(super) enum StartError {
    #[error(transparent)]
    Fleet(#[from] FleetError),
    #[error(transparent)]
    Server(#[from] ServeError),
    #[error(transparent)]
    Admin(#[from] admin::OpenToAll),
    #[error(transparent)]
    Audit(#[from] audit::OpenError),
    #[error("telemetry.otlp.endpoint: {0}")]
    Traces(#[from] url::ParseError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the rollouts cannot be read: {0}")]
    Rollouts(#[from] std::io::Error),
}

/// Serves `config` on `sockets`, with `extra` services beside the gateway's own. Where there is a
/// `source`, the configuration can be loaded anew from it.
pub(super) fn serve(
    config: &Config,
    sockets: Sockets,
    fleet: Arc<Fleet>,
    source: Option<Source>,
    extra: Vec<Box<dyn ServiceWithDependents>>,
) -> Result<(), StartError> {
    let addresses: Vec<_> = sockets.clients().map(|addr| addr.to_string()).collect();
    let admin_addr = sockets.admin();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        listen = addresses.join(" "),
        admin = %admin_addr,
        backends = fleet.backends().len(),
        "starting"
    );
    let watched = Arc::clone(&fleet);
    let found = Arc::new(Found::default());
    let wrong = Arc::clone(&found);
    Metrics::global().watch_fleet(move || FleetSample {
        backends: samples(&watched),
        queues: queues(&watched),
        found: wrong.load().to_vec(),
    });
    hear_health_events(|backend, event| {
        Metrics::global().health_event(Configured::name(backend.as_str()), event);
    });
    let sessions = Sessions::new(&config.limits);
    let watched = Arc::clone(&sessions);
    Metrics::global().watch_sessions(move || watched.len());
    let requests = Recent::new(config.telemetry.recent_requests);

    let audit = config.audit.as_ref().map(Audit::open).transpose()?;
    if let Some(audit) = &audit {
        audit::watch(audit);
    }

    let last = audit.clone();
    let result = server::run(config, sockets, |conf| {
        let inflight = Inflight::new();
        let current = Arc::new(ArcSwap::from_pointee(config.clone()));
        let spec = Arc::new(Ledger::default());
        let traces = config.telemetry.otlp.as_ref();
        let traces = traces
            .map(|otlp| Tracer::new(otlp, Metrics::global()))
            .transpose()?;
        let (tracer, exporter) = traces.unzip();
        let store = store::open(&config.store)?;
        let leases = Leases::new(Arc::clone(&store), store::wall_clock());
        let rollouts = restored(config, &store, &fleet, &spec)?;
        let shared = Arc::new(Shared {
            config: Arc::clone(&current),
            fleet: Arc::clone(&fleet),
            inflight: Arc::clone(&inflight),
            connector: PingoraConnector::new(conf),
            sessions: Arc::clone(&sessions),
            requests: Arc::clone(&requests),
            spec: Arc::clone(&spec),
            store: Arc::clone(&store),
            leases,
            rollouts: Arc::clone(&rollouts),
            audit: audit.clone(),
            tracer,
        });
        let reloader = source.map(|source| {
            let (config, fleet) = (Arc::clone(&current), Arc::clone(&fleet));
            Reloader::new(source, config, fleet, Metrics::global())
        });
        let (reloader, reload) = reloader.unzip();
        let state = admin::State {
            config: Arc::clone(&current),
            reload,
            fleet: Arc::clone(&fleet) as _,
            sessions: Arc::clone(&sessions),
            requests,
            spec: Arc::clone(&spec),
            rollouts: Arc::clone(&rollouts),
            inflight: Arc::clone(&inflight),
            audit: audit.clone(),
            metrics: Metrics::global(),
        };
        let token = config.admin.token().map(config::Secret::expose);
        let findings = Findings::new(spec, Arc::clone(&fleet), store, Metrics::global(), found);
        let findings = background_service("findings", findings);
        let controller = Controller::new(rollouts, Arc::clone(&current));
        let controller = background_service("rollouts", controller);
        let health = background_service("health", HealthService::new(fleet));
        let leavers = Leavers::new(Arc::clone(&sessions), shared.leases.clone());
        let leavers = background_service("leases", leavers);
        let sweeper = Sweeper::new(sessions, config.limits.session_ttl);
        let sweeper = background_service("sessions", sweeper);
        let mut background: Vec<Box<dyn ServiceWithDependents>> = vec![
            Box::new(health),
            Box::new(sweeper),
            Box::new(leavers),
            Box::new(findings),
            Box::new(controller),
        ];
        if let Some(exporter) = exporter {
            background.push(Box::new(background_service("traces", exporter)));
        }
        if let Some(reloader) = reloader {
            background.push(Box::new(background_service("reload", reloader)));
        }
        background.extend(extra);
        Ok(Parts {
            gateway: Gateway::new(shared),
            admin: Admin::new(admin_addr.ip(), token, state)?,
            background,
            config: current,
            inflight,
            last: Box::new(move || {
                if let Some(audit) = &audit {
                    audit.flush();
                }
            }),
        })
    });
    // An impatient signal ends it without a drain.
    if let Some(audit) = last {
        audit.flush();
    }
    result
}

/// The rollouts as they were written down, before anybody is served: a rollback outlives the process.
fn restored(
    config: &Config,
    store: &Arc<dyn Store>,
    fleet: &Arc<Fleet>,
    spec: &Arc<Ledger>,
) -> Result<Arc<Rollouts>, StartError> {
    let (store, fleet, spec) = (Arc::clone(store), Arc::clone(fleet), Arc::clone(spec));
    let rollouts = Rollouts::new(store, fleet, spec, Metrics::global());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(rollouts.load(config, rollout::now_ms()))?;
    Ok(rollouts)
}

/// What waits, as the metrics show it.
fn queues(fleet: &Fleet) -> Vec<QueueSample> {
    let of = |pool: &Arc<Pool>| {
        Priority::ALL.map(|class| QueueSample {
            pool: pool.name().into(),
            class: class.as_str(),
            waiting: pool.queue().waiting(class) as u64,
        })
    };
    fleet.pools().iter().flat_map(of).collect()
}

/// The backends as the metrics show them.
fn samples(fleet: &Fleet) -> Vec<BackendSample> {
    const STATES: &[&str] = &{
        let mut names = [""; BackendState::ALL.len()];
        let mut n = 0;
        while n < names.len() {
            names[n] = BackendState::ALL[n].as_str();
            n += 1;
        }
        names
    };
    // One that leaves may have a successor of its name; its requests are still requests to that name.
    let leaving = fleet.leaving();
    let inflight = |backend: &Arc<Backend>| {
        let namesakes = leaving.iter().filter(|b| b.id() == backend.id());
        let count: usize = namesakes.map(|b| b.inflight()).sum();
        (backend.inflight() + count) as u64
    };
    let text = |text: Option<&str>| text.unwrap_or_default().into();
    let sample = |backend: &Arc<Backend>| {
        let name = backend.id().as_str();
        let facts = backend.facts();
        BackendSample {
            backend: name.into(),
            pool: backend.pool().into(),
            state: backend.shown_state().as_str(),
            states: STATES,
            is_draining: backend.draining(),
            is_ejected: backend.is_suspect(),
            inflight: inflight(backend),
            slots: backend.slots(),
            busy_slots: facts.busy_slots(),
            other_slots: backend.others(),
            kv_used: backend.kv_used(),
            n_ctx: facts.n_ctx,
            build: text(facts.build.as_deref()),
            model: text(facts.model_alias.as_deref()),
            profile: text(backend.profile().as_deref()),
            drafts: facts.drafts.clone(),
        }
    };
    fleet.backends().iter().map(sample).collect()
}

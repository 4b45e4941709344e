//! `drover serve`: put the rooms together and run.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use pingora_core::prelude::background_service;
use pingora_core::services::ServiceWithDependents;
use thiserror::Error;

use super::{EXIT_INTERNAL, EXIT_USAGE, check, fail};
use crate::admin::{self, Admin};
use crate::config::{self, Config};
use crate::exchange::PingoraConnector;
use crate::fleet::{BackendState, Fleet, FleetError, HealthService};
use crate::proxy::{Gateway, Shared};
use crate::server::drain::Inflight;
use crate::server::{self, Parts, ServeError, Sockets};
use crate::session::{Sessions, Sweeper};
use crate::telemetry::{self, BackendSample, Metrics};

/// Arguments of `drover serve`.
#[derive(Args, Clone, Debug)]
pub struct ServeArgs {
    /// Configuration file; without it the defaults and the environment
    #[arg(long, short, value_name = "FILE", env = "DROVER_CONFIG")]
    pub config: Option<PathBuf>,
}

/// Runs the gateway until a signal ends it.
#[must_use]
pub fn run(args: &ServeArgs) -> ExitCode {
    let config = match config::load(args.config.as_deref(), check::environment()) {
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
    let started = Fleet::new(&config)
        .map_err(StartError::from)
        .and_then(|fleet| {
            let sockets = Sockets::bind(&config)?;
            serve(&config, sockets, fleet, Vec::new())
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
}

/// Serves `config` on `sockets`, with `extra` services beside the gateway's own.
pub(super) fn serve(
    config: &Config,
    sockets: Sockets,
    fleet: Arc<Fleet>,
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
    Metrics::global().watch_backends(move || samples(&watched));
    let sessions = Sessions::new(&config.limits);
    let watched = Arc::clone(&sessions);
    Metrics::global().watch_sessions(move || watched.len());

    server::run(config, sockets, |conf| {
        let inflight = Inflight::new();
        let shared = Shared::new(
            config.clone(),
            Arc::clone(&fleet),
            Arc::clone(&inflight),
            PingoraConnector::new(conf),
            Arc::clone(&sessions),
        );
        let configured = Arc::clone(&shared);
        let state = admin::State {
            config: Box::new(move || configured.config()),
            fleet: Arc::clone(&fleet) as _,
            sessions: Arc::clone(&sessions),
            inflight: Arc::clone(&inflight),
            metrics: Metrics::global(),
        };
        let token = config.admin.token().map(config::Secret::expose);
        let health = background_service("health", HealthService::new(fleet, config));
        let sweeper = Sweeper::new(sessions, config.limits.session_ttl);
        let sweeper = background_service("sessions", sweeper);
        let mut background: Vec<Box<dyn ServiceWithDependents>> =
            vec![Box::new(health), Box::new(sweeper)];
        background.extend(extra);
        Ok(Parts {
            gateway: Gateway::new(shared),
            admin: Admin::new(admin_addr.ip(), token, state)?,
            background,
            inflight,
        })
    })
}

/// The fleet as the metrics show it.
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
    let sample = |backend: &Arc<crate::fleet::Backend>| BackendSample {
        backend: backend.id().as_str().into(),
        state: backend.state().as_str(),
        states: STATES,
        inflight: backend.inflight() as u64,
    };
    fleet.backends().iter().map(sample).collect()
}

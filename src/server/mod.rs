//! From a configuration to a running Pingora server.
//!
//! [`Sockets::bind`] takes every address first, so that nothing has started when one is not to be
//! had; [`run`] then serves until a signal ends the process.

mod bind;
pub mod drain;
pub mod findings;
pub mod head;
mod kept;
mod log_tail;
mod negotiate;
pub mod reload;
mod signals;
mod sockets;
#[cfg(feature = "tls")]
mod tls;
mod upgrade;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use pingora_core::apps::{HttpServerOptions, ServerApp};
use pingora_core::prelude::background_service;
use pingora_core::server::configuration::ServerConf;
use pingora_core::server::{RunArgs, Server};
use pingora_core::services::ServiceWithDependents;
use pingora_core::services::listening::Service;
use pingora_proxy::{ProxyHttp, http_proxy};
use thiserror::Error;

use crate::config::Config;

use bind::{OnDrain, Prebound};
use drain::{Drain, Inflight};
use negotiate::Negotiate;
use upgrade::{Announce, Handover};

pub use bind::BindError;
pub use sockets::Sockets;
pub use upgrade::UpgradeError;

/// What keeps the server from starting.
#[derive(Debug, Error)]
pub enum ServeError {
    /// An address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The sockets of the process before are not to be had.
    #[error(transparent)]
    Upgrade(#[from] UpgradeError),
    /// A certificate or key cannot be used.
    #[cfg(feature = "tls")]
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    /// A listener asks for TLS, which this build does not have.
    #[cfg(not(feature = "tls"))]
    #[error("{0} is to use TLS, but this drover was built without it (cargo feature `tls`)")]
    NoTls(String),
}

/// What the server is made of besides its sockets.
pub struct Parts<P, A> {
    /// Serves the client addresses.
    pub gateway: P,
    /// Serves the admin address.
    pub admin: A,
    /// Runs beside them: health checks, DNS refresh. Each gets one thread.
    pub background: Vec<Box<dyn ServiceWithDependents>>,
    /// The configuration in effect, for what may change while it runs.
    pub config: Arc<ArcSwap<Config>>,
    /// Counts the requests the gateway serves; a drain waits for them.
    pub inflight: Arc<Inflight>,
    /// Done before the process ends, once nothing is served any more.
    pub last: Box<dyn Fn() + Send + Sync>,
}

/// Serves until SIGINT, which ends at once, or SIGTERM (SIGQUIT), which drains and then exits the
/// process with code 0.
///
/// `build` makes the parts from Pingora's settings, which the gateway needs for its connectors.
///
/// # Errors
/// Those of `build`; then nothing was started.
pub fn run<P, A, E>(
    config: &Config,
    sockets: Sockets,
    build: impl FnOnce(&ServerConf) -> Result<Parts<P, A>, E>,
) -> Result<(), E>
where
    P: ProxyHttp + Send + Sync + 'static,
    P::CTX: Send + Sync,
    A: ServerApp + Send + Sync + 'static,
{
    let mut server = Server::new_with_opt_and_conf(None, pingora_conf(config));
    let parts = build(&server.configuration)?;
    server.bootstrap();

    let mut proxy = http_proxy(&server.configuration, parts.gateway);
    proxy.server_options = Some(server_options());
    let mut gateway = Service::new(
        "gateway".to_owned(),
        Negotiate::new(proxy, parts.config, Arc::clone(&parts.inflight)),
    );
    let mut bound = Vec::with_capacity(sockets.clients.len());
    for (endpoint, socket) in sockets.clients {
        gateway.add_listener(endpoint);
        bound.push(socket);
    }
    let table = Arc::new(OnceLock::new());
    let prebound = |inflight: &Arc<Inflight>| (Arc::clone(inflight), Arc::clone(&table));
    let count = bound.len() + 1;
    let (inflight, fds) = prebound(&parts.inflight);
    let gateway = Prebound::new(gateway, bound, OnDrain::Close, inflight, fds);
    let gateway = server.add_service(gateway);

    let mut admin = Service::new("admin".to_owned(), parts.admin);
    admin.add_tcp(&sockets.admin.local().to_string());
    admin.threads = Some(1);
    let (inflight, fds) = prebound(&parts.inflight);
    let sockets_of_admin = vec![sockets.admin];
    server.add_service(Prebound::new(
        admin,
        sockets_of_admin,
        OnDrain::Stay,
        inflight,
        fds,
    ));

    for service in parts.background {
        let service = server.add_boxed_service(service);
        // The process before serves until this one can.
        if sockets.predecessor.is_some() {
            gateway.add_dependency(&service);
        }
    }
    if let Some(path) = sockets.predecessor {
        let announce = server.add_service(background_service("announce", Announce(path)));
        announce.add_dependency(&gateway);
    }
    if let Some(path) = config.pingora.upgrade_sock.clone() {
        let handover = Handover {
            path,
            fds: table,
            sockets: count,
            inflight: Arc::clone(&parts.inflight),
        };
        server.add_service(background_service("handover", handover));
    }
    let drain = Drain::new(
        Arc::clone(&parts.inflight),
        config.timeouts.drain,
        parts.last,
    );
    server.add_service(background_service("drain", drain));

    server.run(RunArgs {
        shutdown_signal: Box::new(signals::Signals(parts.inflight)),
    });
    crate::telemetry::log::flush();
    Ok(())
}

fn server_options() -> HttpServerOptions {
    let mut options = HttpServerOptions::default();
    options.h2c = true;
    options.h2_idle_timeout = Some(Duration::from_secs(300));
    options
}

/// Pingora's settings. They must be complete before the server is made: it keeps copies.
fn pingora_conf(config: &Config) -> ServerConf {
    // [`Drain`] leaves before this; it is only the net below it.
    let grace = config.timeouts.drain + Duration::from_secs(5);
    ServerConf {
        threads: config.pingora.threads,
        work_stealing: config.pingora.work_stealing,
        listener_tasks_per_fd: config.pingora.listener_tasks_per_fd,
        upstream_keepalive_pool_size: config.pingora.upstream_keepalive_pool_size,
        grace_period_seconds: Some(grace.as_secs()),
        graceful_shutdown_timeout_seconds: Some(1),
        ..ServerConf::default()
    }
}

#[cfg(test)]
mod tests {
    use super::bind::Bound;
    use super::*;
    use crate::config::Listener;

    fn config(listen: &[&str], admin: &str) -> Config {
        let listener = |addr: &&str| Listener {
            addr: (*addr).to_owned(),
            tls: None,
        };
        let mut config = Config {
            listen: listen.iter().map(listener).collect(),
            ..Config::default()
        };
        config.admin.addr = admin.to_owned();
        config
    }

    #[test]
    fn every_address_is_bound_before_anything_runs() {
        let config = config(&["127.0.0.1:0", "localhost:0"], "127.0.0.1:0");
        let sockets = Sockets::bind(&config).unwrap();
        let ports: Vec<u16> = sockets.clients().map(|a| a.port()).collect();
        assert_eq!(ports.len(), 2);
        assert!(!ports.contains(&0) && sockets.admin().port() != 0);
    }

    #[test]
    fn one_busy_address_leaves_nothing_bound() {
        let taken = Bound::new("127.0.0.1:0", "test").unwrap();
        let free = Bound::new("127.0.0.1:0", "test").unwrap();
        let free_addr = free.local().to_string();
        drop(free);
        let config = config(&[&free_addr], &taken.local().to_string());
        let error = Sockets::bind(&config).err().unwrap().to_string();
        assert!(error.contains("admin.addr"), "{error}");
        Bound::new(&free_addr, "test").unwrap();
    }

    #[test]
    fn the_grace_period_outlasts_the_drain() {
        let conf = pingora_conf(&Config::default());
        assert!(conf.grace_period_seconds.unwrap() > Config::default().timeouts.drain.as_secs());
    }

    #[cfg(feature = "tls")]
    #[test]
    fn an_unusable_certificate_is_an_error_with_its_path() {
        let mut config = config(&["127.0.0.1:0"], "127.0.0.1:0");
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        std::fs::write(&cert, "no certificate").unwrap();
        std::fs::write(&key, "no key").unwrap();
        config.listen[0].tls = Some(crate::config::Tls {
            cert: cert.clone(),
            key,
        });
        let error = Sockets::bind(&config).err().unwrap().to_string();
        assert!(error.contains(cert.to_str().unwrap()), "{error}");
    }
}

//! From a configuration to a running Pingora server.
//!
//! [`Sockets::bind`] takes every address first, so that nothing has started when one is not to be
//! had; [`run`] then serves until a signal ends the process.

mod bind;
pub mod drain;
pub mod head;
mod negotiate;
pub mod reload;
mod signals;
#[cfg(feature = "tls")]
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use pingora_core::apps::{HttpServerOptions, ServerApp};
use pingora_core::listeners::tls::TlsSettings;
use pingora_core::listeners::{ListenerConfig, TcpSocketOptions};
use pingora_core::prelude::background_service;
use pingora_core::protocols::TcpKeepalive;
use pingora_core::server::configuration::ServerConf;
use pingora_core::server::{RunArgs, Server};
use pingora_core::services::ServiceWithDependents;
use pingora_core::services::listening::Service;
use pingora_proxy::{ProxyHttp, http_proxy};
use thiserror::Error;

use crate::config::{Config, Listener};

use bind::{Bound, OnDrain, Prebound};
use drain::{Drain, Inflight};
use negotiate::Negotiate;

pub use bind::BindError;

/// What keeps the server from starting.
#[derive(Debug, Error)]
pub enum ServeError {
    /// An address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A certificate or key cannot be used.
    #[cfg(feature = "tls")]
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    /// A listener asks for TLS, which this build does not have.
    #[cfg(not(feature = "tls"))]
    #[error("{0} is to use TLS, but this drover was built without it (cargo feature `tls`)")]
    NoTls(String),
}

/// Every listening socket of the process. Connections wait in them until [`run`] serves.
pub struct Sockets {
    clients: Vec<(ListenerConfig, Bound)>,
    admin: Bound,
}

impl Sockets {
    /// Checks the certificates, then binds all addresses of `config`.
    ///
    /// # Errors
    /// At the first that cannot be used; nothing stays bound.
    pub fn bind(config: &Config) -> Result<Self, ServeError> {
        let tls = config
            .listen
            .iter()
            .map(tls_settings)
            .collect::<Result<Vec<_>, _>>()?;
        let mut clients = Vec::with_capacity(config.listen.len());
        for (n, (listener, tls)) in config.listen.iter().zip(tls).enumerate() {
            let bound = Bound::new(&listener.addr, &format!("listen[{n}]"))?;
            let mut endpoint =
                ListenerConfig::tcp(bound.local().to_string()).tcp_socket_options(socket_options());
            if let Some(tls) = tls {
                endpoint = endpoint.tls(tls);
            }
            clients.push((endpoint, bound));
        }
        let admin = Bound::new(&config.admin.addr, "admin.addr")?;
        Ok(Self { clients, admin })
    }

    /// The addresses clients connect to, in the order of `listen`.
    pub fn clients(&self) -> impl Iterator<Item = SocketAddr> {
        self.clients.iter().map(|(_, bound)| bound.local())
    }

    /// The admin address.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        self.admin.local()
    }
}

#[cfg(feature = "tls")]
fn tls_settings(listener: &Listener) -> Result<Option<TlsSettings>, ServeError> {
    let settings = listener
        .tls
        .as_ref()
        .map(|tls| tls::settings(&tls.cert, &tls.key));
    Ok(settings.transpose()?)
}

#[cfg(not(feature = "tls"))]
fn tls_settings(listener: &Listener) -> Result<Option<TlsSettings>, ServeError> {
    match listener.tls {
        None => Ok(None),
        Some(_) => Err(ServeError::NoTls(listener.addr.clone())),
    }
}

/// A client that vanished without a word holds a slot of a GPU: it is noticed after 90 seconds,
/// idle (keep-alive probes) or with data under way (user timeout, RFC 5482).
fn socket_options() -> TcpSocketOptions {
    let mut options = TcpSocketOptions::default();
    options.tcp_keepalive = Some(TcpKeepalive {
        idle: Duration::from_secs(60),
        interval: Duration::from_secs(10),
        count: 3,
        #[cfg(target_os = "linux")]
        user_timeout: Duration::from_secs(90),
    });
    options
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
    let mut gateway = Service::new("gateway".to_owned(), Negotiate::new(proxy, parts.config));
    let mut bound = Vec::with_capacity(sockets.clients.len());
    for (endpoint, socket) in sockets.clients {
        gateway.add_listener(endpoint);
        bound.push(socket);
    }
    server.add_service(Prebound::new(gateway, bound, OnDrain::Close));

    let mut admin = Service::new("admin".to_owned(), parts.admin);
    admin.add_tcp(&sockets.admin.local().to_string());
    admin.threads = Some(1);
    server.add_service(Prebound::new(admin, vec![sockets.admin], OnDrain::Stay));

    for service in parts.background {
        server.add_boxed_service(service);
    }
    let drain = Drain::new(Arc::clone(&parts.inflight), config.timeouts.drain);
    server.add_service(background_service("drain", drain));

    server.run(RunArgs {
        shutdown_signal: Box::new(signals::Signals(parts.inflight)),
    });
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
    use super::*;

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

//! All listening sockets of the process, bound or taken over before anything starts.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pingora_core::listeners::tls::TlsSettings;
use pingora_core::listeners::{ListenerConfig, TcpSocketOptions};
use pingora_core::protocols::TcpKeepalive;

use super::ServeError;
use super::bind::{BindError, Bound};
#[cfg(feature = "tls")]
use super::tls;
use super::upgrade::Inherited;
use crate::config::{Config, Listener};

/// Every listening socket of the process. Connections wait in them until [`super::run`] serves.
pub struct Sockets {
    pub(super) clients: Vec<(ListenerConfig, Bound)>,
    pub(super) admin: Bound,
    /// Where the process before waits to be told that this one serves.
    pub(super) predecessor: Option<PathBuf>,
}

impl Sockets {
    /// Checks the certificates, then binds all addresses of `config`.
    ///
    /// # Errors
    /// At the first that cannot be used; nothing stays bound.
    pub fn bind(config: &Config) -> Result<Self, ServeError> {
        Self::take(config, Bound::new)
    }

    /// The same; where an address is in use, the sockets are taken over from the process that uses it, by way of
    /// `path`.
    ///
    /// # Errors
    /// As [`Self::bind`]; or that process hands nothing over within some seconds.
    pub fn bind_or_take_over(config: &Config, path: &Path) -> Result<Self, ServeError> {
        match Self::bind(config) {
            Err(ServeError::Bind(error)) if error.is_in_use() => {}
            bound => return bound,
        }
        tracing::info!(at = %path.display(), "waiting for the sockets of the process at work");
        let mut inherited = Inherited::receive(path)?;
        let taken = Self::take(config, |addr, key| {
            Bound::inherit(addr, key, &mut inherited)
        })?;
        inherited.close_the_rest();
        Ok(Self {
            predecessor: Some(path.to_owned()),
            ..taken
        })
    }

    fn take(
        config: &Config,
        mut bind: impl FnMut(&str, &str) -> Result<Bound, BindError>,
    ) -> Result<Self, ServeError> {
        let tls = config
            .listen
            .iter()
            .map(tls_settings)
            .collect::<Result<Vec<_>, _>>()?;
        let mut clients = Vec::with_capacity(config.listen.len());
        for (n, (listener, tls)) in config.listen.iter().zip(tls).enumerate() {
            let bound = bind(&listener.addr, &format!("listen[{n}]"))?;
            let mut endpoint =
                ListenerConfig::tcp(bound.local().to_string()).tcp_socket_options(socket_options());
            if let Some(tls) = tls {
                endpoint = endpoint.tls(tls);
            }
            clients.push((endpoint, bound));
        }
        let admin = bind(&config.admin.addr, "admin.addr")?;
        Ok(Self {
            clients,
            admin,
            predecessor: None,
        })
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

//! Binding every address before anything starts.
//!
//! Pingora binds inside its service tasks, retries a busy address for 30 seconds and then panics
//! in that task. Here all addresses are bound first, so that a busy one is a clear error at once;
//! the sockets are then handed to Pingora through its table of inherited listeners. Port 0 works:
//! the chosen port is known from here on.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{IntoRawFd, RawFd};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use pingora_core::server::{ListenFds, RuntimeOpts, ShutdownWatch};
use pingora_core::services::Service;
use thiserror::Error;
use tokio::sync::watch;

use super::drain::Inflight;
use super::upgrade::Inherited;

/// An address that cannot be listened on.
#[derive(Debug, Error)]
#[error("cannot listen on {addr} ({key}): {reason}")]
pub struct BindError {
    /// The address as configured.
    pub addr: String,
    /// The configuration key it came from.
    pub key: String,
    reason: String,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

impl BindError {
    /// Whether somebody else listens there.
    pub(super) fn is_in_use(&self) -> bool {
        self.source.kind() == io::ErrorKind::AddrInUse
    }

    fn new(addr: &str, key: &str, source: io::Error) -> Self {
        let reason = match source.kind() {
            io::ErrorKind::AddrInUse => "another process is using it".to_owned(),
            io::ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
            io::ErrorKind::PermissionDenied => {
                "permission denied (ports below 1024 need CAP_NET_BIND_SERVICE)".to_owned()
            }
            _ => source.to_string(),
        };
        Self {
            addr: addr.to_owned(),
            key: key.to_owned(),
            reason,
            source,
        }
    }
}

/// A listening socket that no service owns yet. Connections queue in it until one does.
#[derive(Debug)]
pub(super) struct Bound {
    socket: Socket,
    local: SocketAddr,
}

#[derive(Debug)]
enum Socket {
    Own(TcpListener),
    /// Of the process before; Pingora makes a listener of it.
    Inherited(RawFd),
}

impl Bound {
    /// Listens on `addr`, `ip:port` or `localhost:port`. `key` names its configuration key for errors.
    ///
    /// # Errors
    /// When the address is taken, not ours, or forbidden.
    pub(super) fn new(addr: &str, key: &str) -> Result<Self, BindError> {
        let bind = || {
            // The standard library sets SO_REUSEADDR, so a restart need not wait for TIME_WAIT.
            let listener = TcpListener::bind(addr)?;
            listener.set_nonblocking(true)?;
            let local = listener.local_addr()?;
            Ok(Self {
                socket: Socket::Own(listener),
                local,
            })
        };
        bind().map_err(|e| BindError::new(addr, key, e))
    }

    /// The socket of the process before, where it has one for `addr`; else as [`Self::new`].
    ///
    /// # Errors
    /// As [`Self::new`].
    pub(super) fn inherit(
        addr: &str,
        key: &str,
        inherited: &mut Inherited,
    ) -> Result<Self, BindError> {
        match inherited.claim(addr) {
            Some((fd, local)) => Ok(Self {
                socket: Socket::Inherited(fd),
                local,
            }),
            None => Self::new(addr, key),
        }
    }

    /// The address with the port in use.
    pub(super) fn local(&self) -> SocketAddr {
        self.local
    }
}

/// What a service does when the process begins to drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnDrain {
    /// Closes its listeners.
    Close,
    /// Serves until the process ends, or until another one has taken over: the admin address, where a drain is
    /// watched.
    Stay,
}

/// A Pingora service that takes over sockets bound beforehand.
///
/// The inner service must have been given [`Bound::local`] of each socket as its address: that is
/// the name under which it looks for an inherited socket.
pub(super) struct Prebound<S> {
    service: S,
    sockets: Vec<Bound>,
    on_drain: OnDrain,
    inflight: Arc<Inflight>,
    table: Arc<OnceLock<ListenFds>>,
}

impl<S: Service> Prebound<S> {
    /// `table` is told where Pingora keeps the sockets.
    pub(super) fn new(
        service: S,
        sockets: Vec<Bound>,
        on_drain: OnDrain,
        inflight: Arc<Inflight>,
        table: Arc<OnceLock<ListenFds>>,
    ) -> Self {
        Self {
            service,
            sockets,
            on_drain,
            inflight,
            table,
        }
    }
}

#[async_trait]
impl<S: Service + 'static> Service for Prebound<S> {
    async fn start_service(
        &mut self,
        fds: Option<ListenFds>,
        shutdown: ShutdownWatch,
        listeners_per_fd: usize,
    ) {
        if let Some(fds) = &fds {
            self.table.get_or_init(|| Arc::clone(fds));
            let mut fds = fds.lock();
            for bound in self.sockets.drain(..) {
                let fd = match bound.socket {
                    Socket::Own(listener) => listener.into_raw_fd(),
                    Socket::Inherited(fd) => fd,
                };
                fds.add(bound.local.to_string(), fd);
            }
        }
        let (never, stay) = watch::channel(false);
        let shutdown = match self.on_drain {
            OnDrain::Close => shutdown,
            OnDrain::Stay => stay,
        };
        let handed_over = async {
            self.inflight.handed_over().await;
            never.send_replace(true);
            std::future::pending().await
        };
        tokio::select! {
            () = self.service.start_service(fds, shutdown, listeners_per_fd) => {}
            () = handed_over => {}
        }
    }

    fn name(&self) -> &str {
        self.service.name()
    }

    fn threads(&self) -> Option<usize> {
        self.service.threads()
    }

    fn runtime_opts_override(&self, global: &RuntimeOpts) -> Option<RuntimeOpts> {
        self.service.runtime_opts_override(global)
    }

    fn listen_addresses(&self) -> Option<Vec<String>> {
        self.service.listen_addresses()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_zero_becomes_a_real_port() {
        let bound = Bound::new("127.0.0.1:0", "listen[0]").unwrap();
        assert_ne!(bound.local().port(), 0);
    }

    #[test]
    fn a_busy_address_is_a_clear_error_at_once() {
        let first = Bound::new("127.0.0.1:0", "listen[0]").unwrap();
        let addr = first.local().to_string();
        let error = Bound::new(&addr, "admin.addr").unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("cannot listen on {addr} (admin.addr): another process is using it")
        );
    }

    #[test]
    fn an_address_of_another_machine_is_named() {
        // TEST-NET-1 (RFC 5737) belongs to nobody.
        let error = Bound::new("192.0.2.1:0", "listen[1]")
            .unwrap_err()
            .to_string();
        assert!(error.contains("192.0.2.1:0 (listen[1])"), "{error}");
    }
}

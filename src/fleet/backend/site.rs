//! Where a backend is: its address, the one of several in use, and what connections are made with.

use std::net::SocketAddr;
use std::sync::Arc;

use pingora_core::protocols::l4::socket::SocketAddr as L4Addr;
use pingora_core::upstreams::peer::HttpPeer;

use super::Backend;
use crate::fleet::peer;
use crate::fleet::resolve::Addresses;
use crate::fleet::target;

impl Backend {
    /// Value of the `Host` header of requests to it.
    pub fn host_header(&self) -> &str {
        &self.target.host_header
    }

    /// Whether it is on this machine.
    pub fn is_loopback(&self) -> bool {
        self.target.is_loopback()
    }

    /// Where it is, for people and for commands: host, port and path, or `unix:/path`.
    pub fn address(&self) -> String {
        self.target.shown()
    }

    /// Path before every request path: empty, or `/prefix` without a slash at its end.
    pub fn base_path(&self) -> &str {
        &self.target.base_path
    }

    /// Where to connect to; `None` while its hostname is not resolved. Connection, read and write
    /// timeouts are those of the configuration (reads: `first_event`), idle connections are kept for
    /// less than llama-server keeps them.
    pub fn peer(&self) -> Option<HttpPeer> {
        self.live.peer.load().as_deref().cloned()
    }

    /// The name to resolve, `None` when it is given by address.
    pub(in crate::fleet) fn hostname(&self) -> Option<(&str, u16)> {
        match &self.target.site {
            target::Site::Named(host, port) => Some((host, *port)),
            target::Site::Address(_) | target::Site::Socket(_) => None,
        }
    }

    /// Its hostname stands for these addresses now; a connection in use stays where it is.
    pub(in crate::fleet) fn found(&self, addresses: Vec<SocketAddr>) {
        let mut known = self.live.addresses.lock();
        let before = known.current();
        known.update(addresses);
        self.point_at(&known, before);
    }

    /// The address in use does not answer: the next one of the hostname is tried.
    pub(in crate::fleet) fn try_next_address(&self) {
        let mut known = self.live.addresses.lock();
        let before = known.current();
        known.advance();
        self.point_at(&known, before);
    }

    fn point_at(&self, known: &Addresses, before: Option<SocketAddr>) {
        let Some(address) = known.current().filter(|now| Some(*now) != before) else {
            return;
        };
        if let Some(before) = before {
            tracing::info!(backend = %self.id, from = %before, to = %address, "backend address");
        }
        self.connect_to_site(Some(address));
    }

    /// New connections go to its socket, or else to `address`, where one is known.
    pub(super) fn connect_to_site(&self, address: Option<SocketAddr>) {
        let address = match &self.target.site {
            target::Site::Socket(socket) => Some(L4Addr::Unix(socket.clone())),
            target::Site::Address(_) | target::Site::Named(..) => address.map(L4Addr::Inet),
        };
        if let Some(address) = address {
            let peer = peer::build(&self.id, &self.target, address, &self.timeouts);
            self.live.peer.store(Some(Arc::new(peer)));
        }
    }
}

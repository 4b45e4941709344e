//! How Pingora connects to a backend.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::Ipv4Addr;
use std::time::Duration;

use pingora_core::protocols::TcpKeepalive;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_core::upstreams::peer::HttpPeer;

use super::backend::BackendId;
use super::target::Target;
use crate::config::Timeouts;

/// llama-server closes idle connections after 5 s (cpp-httplib's keep-alive timeout); one that may be
/// about to be closed is not used again.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// A machine that vanishes sends no FIN. Prompt processing may be silent for minutes, so the kernel
/// asks whether the peer is still there.
const KEEPALIVE: TcpKeepalive = TcpKeepalive {
    idle: Duration::from_secs(30),
    interval: Duration::from_secs(10),
    count: 3,
    #[cfg(target_os = "linux")]
    user_timeout: Duration::ZERO,
};

/// The peer of the backend `id` at `address`. Connections are pooled for each backend apart
/// (`group_key`), also where several share an address.
pub(super) fn build(
    id: &BackendId,
    target: &Target,
    address: SocketAddr,
    timeouts: &Timeouts,
) -> HttpPeer {
    let tls = target.tls.is_some();
    let sni = target.tls.clone().unwrap_or_default();
    // The address is put in afterwards: `new` takes none of sockets, and `new_uds` could fail.
    let mut peer = HttpPeer::new((Ipv4Addr::UNSPECIFIED, 0), tls, sni);
    peer._address = address;
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    peer.group_key = hasher.finish();
    let options = &mut peer.options;
    options.connection_timeout = Some(timeouts.connect);
    // A TLS handshake takes two more round trips and some arithmetic.
    options.total_connection_timeout = Some(match tls {
        true => timeouts.connect * 3,
        false => timeouts.connect,
    });
    options.read_timeout = Some(timeouts.first_event);
    options.write_timeout = Some(timeouts.write);
    options.idle_timeout = Some(IDLE_TIMEOUT);
    options.tcp_keepalive = Some(KEEPALIVE);
    peer
}

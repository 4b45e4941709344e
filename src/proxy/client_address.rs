//! Where a request comes from, behind reverse proxies too.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use pingora_proxy::Session;

/// The client's address: the peer's own, or what trusted proxies (`auth.trusted_proxies`) say it is.
pub(super) fn of(session: &Session, trusted: &[IpNet]) -> Option<IpAddr> {
    let peer = session.client_addr()?.as_inet()?.ip();
    let forwarded = session.req_header().headers.get_all("x-forwarded-for");
    let lines: Vec<&str> = forwarded
        .iter()
        .map(|line| line.to_str().unwrap_or(""))
        .collect();
    Some(resolve(peer, &lines, trusted))
}

/// Every proxy appends the address it was called from, so that the list is true from its right end up
/// to the first address that is no trusted proxy: that is the client. What stands left of it, or after
/// something that is no address, anybody may have written.
fn resolve(peer: IpAddr, forwarded: &[&str], trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut client = peer.to_canonical();
    let mut hops = forwarded.iter().rev().flat_map(|line| line.rsplit(','));
    while is_trusted(&client) {
        let Some(hop) = hops.next().and_then(address) else {
            break;
        };
        client = hop;
    }
    client
}

/// An address as proxies write it: bare, in brackets, with or without a port.
fn address(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim();
    let bare = hop
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(hop);
    let parsed = bare
        .parse()
        .or_else(|_| hop.parse().map(|socket: SocketAddr| socket.ip()));
    parsed.ok().map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("9.9.9.9", &["1.1.1.1"], "9.9.9.9")]
    #[case("10.0.0.1", &[], "10.0.0.1")]
    #[case("10.0.0.1", &["1.1.1.1"], "1.1.1.1")]
    #[case("10.0.0.1", &["6.6.6.6, 1.1.1.1 , 10.0.0.2"], "1.1.1.1")]
    #[case("10.0.0.1", &["6.6.6.6", "1.1.1.1", "10.0.0.2"], "1.1.1.1")]
    #[case("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3")]
    #[case("10.0.0.1", &["6.6.6.6, unknown"], "10.0.0.1")]
    #[case("10.0.0.1", &["1.1.1.1:4711"], "1.1.1.1")]
    #[case("10.0.0.1", &["[2001:db8::1]:443"], "2001:db8::1")]
    #[case("10.0.0.1", &["[2001:db8::1]"], "2001:db8::1")]
    #[case("::ffff:10.0.0.1", &["::ffff:1.1.1.1"], "1.1.1.1")]
    fn the_rightmost_untrusted_address_is_the_client(
        #[case] peer: &str,
        #[case] forwarded: &[&str],
        #[case] client: &str,
    ) {
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        let found = resolve(peer.parse().unwrap(), forwarded, &trusted);
        assert_eq!(found, client.parse::<IpAddr>().unwrap());
    }
}

//! Hostnames of backends: resolved at start, refreshed while the gateway runs.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch::Receiver;
use tokio::time::timeout;

use super::backend::Backend;
use super::watch::{Orders, pause};

/// The system's resolver may take this long; a check must not wait for it longer.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// Pause before a name that stands for nothing is looked up again.
const RETRY: Duration = Duration::from_secs(2);

/// The addresses a hostname stands for and the one in use.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    all: Vec<SocketAddr>,
    current: usize,
}

impl Addresses {
    pub(super) fn current(&self) -> Option<SocketAddr> {
        self.all.get(self.current).copied()
    }

    /// Takes a new answer in. The address in use stays as long as it is still in it: answers come in
    /// any order, and hopping between machines would cost their caches. IPv4 is tried first, because
    /// llama-server listens on it alone unless told otherwise.
    pub(super) fn update(&mut self, mut found: Vec<SocketAddr>) {
        if found.is_empty() {
            return;
        }
        let before = self.current();
        found.sort_by_key(|a| (a.is_ipv6(), *a));
        found.dedup();
        self.current = found
            .iter()
            .position(|a| Some(*a) == before)
            .unwrap_or_default();
        self.all = found;
    }

    /// Goes on to the next address.
    pub(super) fn advance(&mut self) {
        self.current = (self.current + 1) % self.all.len().max(1);
    }
}

/// Something that resolves names; the system's resolver, except in tests.
#[async_trait]
pub(super) trait Lookup: Send + Sync {
    async fn lookup(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// The system's resolver.
pub(super) struct SystemResolver;

#[async_trait]
impl Lookup for SystemResolver {
    async fn lookup(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((host, port)).await?.collect())
    }
}

/// Looks the hostname up once. On failure the last known address stays in use.
pub(super) async fn resolve(backend: &Backend, resolver: &dyn Lookup) -> Result<(), String> {
    let Some((host, port)) = backend.hostname() else {
        return Ok(());
    };
    match timeout(LOOKUP_TIMEOUT, resolver.lookup(host, port)).await {
        Ok(Ok(found)) if !found.is_empty() => {
            backend.found(found);
            Ok(())
        }
        Ok(Ok(_)) => Err(format!("`{host}` has no address")),
        Ok(Err(error)) => Err(format!("`{host}` cannot be resolved: {error}")),
        Err(_) => Err(format!(
            "resolving `{host}` took longer than {LOOKUP_TIMEOUT:?}"
        )),
    }
}

/// Keeps the address of a backend current; returns at once when it was given by address.
pub(super) async fn refresh(mut orders: Receiver<Orders>, resolver: Arc<dyn Lookup>) {
    let mut failing = false;
    loop {
        let Orders {
            backend,
            dns_refresh: every,
            ..
        } = orders.borrow_and_update().clone();
        if backend.hostname().is_none() {
            return;
        }
        match resolve(&backend, &*resolver).await {
            Ok(()) => failing = false,
            Err(why) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(backend = %backend.id(), why, "backend address");
                }
            }
        }
        let time = if failing { RETRY.min(every) } else { every };
        if !pause(&mut orders, time).await {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use parking_lot::Mutex;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::AbortHandle;
    use tokio::time::sleep;

    use super::*;
    use crate::config;
    use crate::fleet::Fleet;
    use crate::fleet::tests::ready;

    fn addrs(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|a| a.parse().unwrap()).collect()
    }

    #[test]
    fn the_address_in_use_stays_while_the_name_has_it() {
        let mut known = Addresses::default();
        assert_eq!(known.current(), None);
        known.advance();
        assert_eq!(known.current(), None);

        known.update(addrs(&["10.0.0.2:1", "10.0.0.1:1"]));
        assert_eq!(known.current(), Some("10.0.0.1:1".parse().unwrap()));
        known.advance();
        known.update(addrs(&["10.0.0.1:1", "10.0.0.2:1"]));
        assert_eq!(known.current(), Some("10.0.0.2:1".parse().unwrap()));
        known.update(addrs(&["10.0.0.9:1"]));
        assert_eq!(known.current(), Some("10.0.0.9:1".parse().unwrap()));
        known.update(Vec::new());
        assert_eq!(known.current(), Some("10.0.0.9:1".parse().unwrap()));
    }

    #[test]
    fn ipv4_comes_first_and_every_address_gets_its_turn() {
        let mut known = Addresses::default();
        known.update(addrs(&["[::1]:1", "127.0.0.1:1", "[::1]:1"]));
        assert_eq!(known.current(), Some("127.0.0.1:1".parse().unwrap()));
        known.advance();
        assert_eq!(known.current(), Some("[::1]:1".parse().unwrap()));
        known.advance();
        assert_eq!(known.current(), Some("127.0.0.1:1".parse().unwrap()));
    }

    /// What the name stands for now.
    struct Name(Mutex<SocketAddr>);

    #[async_trait]
    impl Lookup for Name {
        async fn lookup(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
            Ok(vec![*self.0.lock()])
        }
    }

    /// A server that takes a few milliseconds for each request, and counts them; and what stops it accepting any.
    async fn server(count: Arc<AtomicUsize>) -> (SocketAddr, AbortHandle) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let accepting = tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let count = Arc::clone(&count);
                tokio::spawn(async move {
                    let asked = socket.read_u8().await.unwrap();
                    sleep(Duration::from_millis(5)).await;
                    socket.write_u8(asked).await.unwrap();
                    count.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        (addr, accepting.abort_handle())
    }

    /// Under a thousand requests the name is given to another server twice, and the former one goes away once it has
    /// nothing to do: every request finds a place, and is answered where it was sent.
    #[tokio::test]
    async fn a_name_that_changes_under_load_loses_no_request() {
        let config = "fleet: {dns_refresh: 20ms, pools: [{name: p, models: [m], backends: [{url: 'http://gpu:1'}]}]}";
        let config = config::parse(config, std::iter::empty()).unwrap();
        let fleet = Fleet::new(&config).unwrap();
        let (backend, pool) = (fleet.backends()[0].clone(), fleet.pool("p").unwrap());
        ready(&fleet);
        let served = [(); 3].map(|()| Arc::new(AtomicUsize::new(0)));
        let mut servers = Vec::new();
        for count in &served {
            servers.push(server(Arc::clone(count)).await);
        }
        let name = Arc::new(Name(Mutex::new(servers[0].0)));
        let (orders, received) = tokio::sync::watch::channel(Orders {
            backend: backend.clone(),
            health: config.fleet.health.clone(),
            watchdog: config.fleet.watchdog.clone(),
            dns_refresh: config.fleet.dns_refresh,
            spec_probe: false,
        });
        tokio::spawn(refresh(received, name.clone()));
        let points_at = async |addr: SocketAddr| {
            let now = || backend.peer().map(|peer| peer._address.to_string());
            while now() != Some(addr.to_string()) {
                sleep(Duration::from_millis(1)).await;
            }
        };
        points_at(servers[0].0).await;
        let clients = (0..8u8).map(|n| {
            let pool = Arc::clone(&pool);
            tokio::spawn(async move {
                for _ in 0..125 {
                    let lease = pool.select(&[]).expect("a place at any moment");
                    let addr = lease.peer().unwrap()._address.to_string();
                    let mut socket = TcpStream::connect(&addr).await.unwrap();
                    socket.write_u8(n).await.unwrap();
                    assert_eq!(socket.read_u8().await.unwrap(), n);
                }
            })
        });
        let clients: Vec<_> = clients.collect();
        let done = || -> usize { served.iter().map(|n| n.load(Ordering::Relaxed)).sum() };
        for (n, after) in [(1, 300), (2, 600)] {
            while done() < after {
                sleep(Duration::from_millis(1)).await;
            }
            *name.0.lock() = servers[n].0;
            points_at(servers[n].0).await;
            // Those that were sent to the former one have reached it.
            sleep(Duration::from_millis(50)).await;
            servers[n - 1].1.abort();
        }
        for client in clients {
            client.await.unwrap();
        }
        assert_eq!(done(), 1000);
        assert!(served.iter().all(|n| n.load(Ordering::Relaxed) > 0));
        drop(orders);
    }
}

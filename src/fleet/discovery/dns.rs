//! Backends behind names in DNS.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{RData, RecordType};
use tokio::time::{Instant, sleep};

use super::Teller;
use crate::config::{Backend, DnsSource, SrvSource, Template};

/// However short the answer is good for.
const SOONEST: Duration = Duration::from_secs(1);

/// Pause after a failed or empty answer.
const RETRY: Duration = Duration::from_secs(2);

/// What DNS says, and until when.
struct Answer<T> {
    said: T,
    until: Instant,
}

/// Tells the addresses of a name for as long as the answers are good, over and over.
pub(super) async fn look_for_addresses(source: &DnsSource, like: &Template, teller: &Teller) {
    loop {
        let found = async {
            let resolver = resolver(source.server)?;
            let addresses = addresses(&resolver, &source.name).await?;
            let backends = addresses.said.iter().map(|ip| {
                let at = SocketAddr::new(*ip, source.port.get());
                like.at(at.to_string(), format!("http://{at}"))
            });
            Ok(Answer {
                said: backends.collect(),
                until: addresses.until,
            })
        };
        tell_and_wait(found.await, source.refresh, teller).await;
    }
}

/// Tells the targets of a SRV record for as long as the answers are good, over and over.
pub(super) async fn look_for_services(source: &SrvSource, like: &Template, teller: &Teller) {
    loop {
        let found = async {
            let resolver = resolver(source.server)?;
            services(&resolver, &source.name, like).await
        };
        tell_and_wait(found.await, source.refresh, teller).await;
    }
}

async fn tell_and_wait(
    found: Result<Answer<Vec<Backend>>, String>,
    refresh: Duration,
    teller: &Teller,
) {
    let pause = match &found {
        Ok(answer) if !answer.said.is_empty() => {
            let good_for = answer.until.saturating_duration_since(Instant::now());
            good_for.min(refresh).max(SOONEST)
        }
        _ => RETRY.min(refresh).max(SOONEST),
    };
    teller.tell(found.map(|answer| answer.said));
    sleep(pause).await;
}

/// Made anew for each look: the system's settings may have changed. Nothing is cached, since nothing is asked
/// before its time.
fn resolver(server: Option<SocketAddr>) -> Result<TokioResolver, String> {
    let builder = match server {
        None => TokioResolver::builder_tokio(),
        Some(server) => {
            let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
            for connection in &mut connections {
                connection.port = server.port();
            }
            let server = NameServerConfig::new(server.ip(), true, connections);
            let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
            let provider = TokioRuntimeProvider::default();
            Ok(TokioResolver::builder_with_config(config, provider))
        }
    };
    let mut builder = builder.map_err(|error| format!("the system's DNS settings: {error}"))?;
    builder.options_mut().cache_size = 0;
    let resolver = builder.build();
    resolver.map_err(|error| format!("the DNS settings: {error}"))
}

/// The answer, `None` when the server says that there is none.
async fn ask(
    resolver: &TokioResolver,
    name: &str,
    kind: RecordType,
) -> Result<Option<Lookup>, String> {
    match resolver.lookup(name, kind).await {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if says_none(&error) => Ok(None),
        Err(error) => Err(format!("looking up `{name}` ({kind}): {error}")),
    }
}

fn says_none(error: &NetError) -> bool {
    error.is_no_records_found() || error.is_nx_domain()
}

/// The IPv4 and IPv6 addresses of `name`, in order. Half an answer would be taken for a smaller fleet: when one
/// of the two questions fails, both have.
async fn addresses(resolver: &TokioResolver, name: &str) -> Result<Answer<Vec<IpAddr>>, String> {
    let (v4, v6) = tokio::join!(
        ask(resolver, name, RecordType::A),
        ask(resolver, name, RecordType::AAAA)
    );
    let answers: Vec<Lookup> = [v4?, v6?].into_iter().flatten().collect();
    let records = answers.iter().flat_map(Lookup::answers);
    let mut said: Vec<IpAddr> = records.filter_map(|record| record.data.ip_addr()).collect();
    said.sort_by_key(|ip| (ip.is_ipv6(), *ip));
    said.dedup();
    Ok(Answer {
        said,
        until: soonest(&answers),
    })
}

async fn services(
    resolver: &TokioResolver,
    name: &str,
    like: &Template,
) -> Result<Answer<Vec<Backend>>, String> {
    let answer = ask(resolver, name, RecordType::SRV).await?;
    let mut until = soonest(answer.as_slice());
    let records = answer.iter().flat_map(Lookup::answers);
    let records = records.filter_map(|record| match &record.data {
        RData::SRV(service) => Some(service),
        _ => None,
    });
    let mut said = Vec::new();
    for service in best(records.collect()) {
        let host = service.target.to_ascii();
        let addresses = addresses(resolver, &host).await?;
        until = until.min(addresses.until);
        for ip in &addresses.said {
            let at = SocketAddr::new(*ip, service.port);
            // A target with several addresses is several backends.
            let name = match addresses.said.as_slice() {
                [_] => format!("{}:{}", host.trim_end_matches('.'), service.port),
                _ => at.to_string(),
            };
            let mut backend = like.at(name, format!("http://{at}"));
            backend.weight = NonZeroU32::new(service.weight.into()).unwrap_or(NonZeroU32::MIN);
            said.push(backend);
        }
    }
    Ok(Answer { said, until })
}

/// Those of the best priority, in an order of their own. A single target `.` says that there is no service
/// (RFC 2782).
fn best(mut services: Vec<&SRV>) -> Vec<&SRV> {
    let best = services.iter().map(|service| service.priority).min();
    services.retain(|service| Some(service.priority) == best && !service.target.is_root());
    services.sort_by_key(|service| (service.target.to_ascii(), service.port));
    services.dedup_by_key(|service| (service.target.to_ascii(), service.port));
    services
}

fn soonest(answers: &[Lookup]) -> Instant {
    let ends = answers.iter().map(Lookup::valid_until);
    ends.min().map_or_else(Instant::now, Instant::from_std)
}

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::rr::Name;

    use super::*;

    #[test]
    fn only_the_best_priority_counts_and_a_dot_is_nobody() {
        let service = |priority, target: &str, port| {
            SRV::new(priority, 1, port, Name::from_ascii(target).unwrap())
        };
        let all = [
            service(20, "spare.example.", 1),
            service(10, "b.example.", 2),
            service(10, "a.example.", 2),
            service(10, "a.example.", 1),
            service(10, "a.example.", 1),
        ];
        let best_of = |all: &[SRV]| -> Vec<(String, u16)> {
            let found = best(all.iter().collect());
            found
                .iter()
                .map(|s| (s.target.to_ascii(), s.port))
                .collect()
        };
        assert_eq!(
            best_of(&all),
            [
                ("a.example.".to_owned(), 1),
                ("a.example.".to_owned(), 2),
                ("b.example.".to_owned(), 2)
            ]
        );
        assert_eq!(best_of(&[service(0, ".", 0)]), []);
        assert_eq!(best_of(&[]), []);
    }
}

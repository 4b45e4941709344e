//! Servers, a gateway before them, and a seat for each contestant.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use tempfile::TempDir;
use thiserror::Error;

use super::artifact::{Counters, Totals};
use super::client::Client;
use super::contestant::Contestant;
use super::embedded;
use super::fleet::Server;
pub use super::fleet::Servers;
use super::process::{Children, Running};
use super::scrape;
use crate::config::Secret;

/// What keeps a benchmark from being made.
#[derive(Debug, Error)]
pub enum StageError {
    /// It was asked for in a way that cannot work.
    #[error("{0}")]
    Usage(String),
    /// Something did not do what it should.
    #[error("{0}")]
    Failed(String),
}

/// Where the servers come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// They are started.
    Start(Servers),
    /// Their addresses, one for each contestant.
    Given(Vec<String>),
}

/// The gateway that the turns go through.
#[derive(Clone, Debug)]
pub enum Gateway {
    /// Started for the benchmark, from this program.
    Embedded {
        /// The program.
        program: PathBuf,
        /// Its servers.
        servers: Source,
    },
    /// One that runs.
    Given {
        /// Its address for clients.
        url: String,
        /// Its admin address.
        admin: String,
        /// The key for it.
        key: Option<Secret>,
        /// The token for its admin address.
        admin_token: Option<Secret>,
        /// Name of the model to ask for.
        model: String,
    },
}

/// Everything that is needed to ask.
#[derive(Debug)]
pub struct Stage {
    pub(super) client: Client,
    pub(super) url: String,
    pub(super) admin: String,
    pub(super) key: Option<Secret>,
    pub(super) admin_token: Option<Secret>,
    pub(super) embedded: bool,
    pub(super) seats: Vec<Seat>,
    // Dropped in this order: the gateway before its servers, and their logs last.
    _gateway: Option<Running>,
    servers: Vec<Server>,
    _logs: TempDir,
}

/// A contestant and where it sits.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) contestant: Contestant,
    /// Model name that its turns ask for.
    pub(super) model: String,
    /// Label of the gateway's series that are its own.
    pub(super) label: (&'static str, String),
    /// Servers that run it.
    pub(super) backends: Vec<String>,
}

#[derive(Deserialize)]
struct Backends {
    backends: Vec<Backend>,
}

#[derive(Deserialize)]
struct Backend {
    address: String,
    profile: Option<String>,
}

impl Stage {
    /// Starts what is to be started, and waits until turns can be sent.
    ///
    /// # Errors
    /// See [`StageError`].
    pub fn set(
        contestants: &[Contestant],
        gateway: &Gateway,
        patience: Duration,
        children: &Children,
    ) -> Result<Self, StageError> {
        let failed = |error: std::io::Error| StageError::Failed(error.to_string());
        let logs = tempfile::Builder::new()
            .prefix("drover-bench.")
            .tempdir()
            .map_err(failed)?;
        let client = Client::new(patience);
        match gateway {
            Gateway::Embedded { program, servers } => {
                let servers = match servers {
                    Source::Start(start) => {
                        start.start(contestants, &client, children, logs.path())?
                    }
                    Source::Given(urls) => urls
                        .iter()
                        .map(|url| Server::of(url.clone(), &client))
                        .collect::<Result<_, _>>()?,
                };
                let seats = seats(contestants, &servers);
                let config = embedded::configuration(&seats);
                let (running, url, admin) =
                    embedded::start(program, &config, &client, children, logs.path())?;
                Ok(Self {
                    client,
                    url,
                    admin,
                    key: None,
                    admin_token: None,
                    embedded: true,
                    seats,
                    _gateway: Some(running),
                    servers,
                    _logs: logs,
                })
            }
            Gateway::Given {
                url,
                admin,
                key,
                admin_token,
                model,
            } => {
                let admin = admin.trim_end_matches('/').to_owned();
                let known = client.json(&format!("{admin}/api/backends"), admin_token.as_ref());
                let known: Backends = known.map_err(StageError::Failed)?;
                let seats = contestants.iter().map(|c| c.sits_at(model, &known));
                Ok(Self {
                    url: url.trim_end_matches('/').to_owned(),
                    admin,
                    key: key.clone(),
                    admin_token: admin_token.clone(),
                    embedded: false,
                    seats: seats.collect::<Result<_, _>>()?,
                    _gateway: None,
                    servers: Vec::new(),
                    client,
                    _logs: logs,
                })
            }
        }
    }

    /// The server of a seat, where the benchmark knows it.
    pub(super) fn server(&self, seat: usize) -> Option<&Server> {
        self.servers.get(seat)
    }

    /// What the gateway and the servers have counted so far, seat by seat.
    pub(super) fn counted(&self) -> Result<Vec<(Counters, Option<Counters>)>, StageError> {
        let ours = self.client.get(
            &format!("{}/metrics", self.admin),
            self.admin_token.as_ref(),
        );
        let (_, ours) = ours.map_err(StageError::Failed)?;
        let seats = self.seats.iter().map(|seat| {
            let (key, value) = &seat.label;
            let gateway = scrape::of_gateway(&ours, &[(*key, value.as_str())]);
            (gateway, seat.servers_count(&self.client))
        });
        Ok(seats.collect())
    }
}

/// What was counted between two looks.
pub(super) fn totals(
    before: (Counters, Option<Counters>),
    after: (Counters, Option<Counters>),
) -> Totals {
    let gateway = after.0.since(before.0);
    // A server that has not finished a request yet may not have the series.
    let server = after
        .1
        .map(|after| after.since(before.1.unwrap_or_default()));
    Totals {
        gateway,
        server,
        equal: server.map(|server| server == gateway),
    }
}

impl Seat {
    /// What the servers have counted, all together; none when one does not tell.
    fn servers_count(&self, client: &Client) -> Option<Counters> {
        let mut all = Counters::default();
        for url in &self.backends {
            let (_, text) = client.get(&format!("{url}/metrics"), None).ok()?;
            all.add(scrape::of_server(&text)?);
        }
        (!self.backends.is_empty()).then_some(all)
    }
}

impl Contestant {
    fn sits_at(&self, model: &str, known: &Backends) -> Result<Seat, StageError> {
        let runs = |backend: &&Backend| backend.profile.as_deref() == Some(self.name.as_str());
        let backends: Vec<String> = known
            .backends
            .iter()
            .filter(runs)
            .map(|backend| match backend.address.contains("://") {
                true => backend.address.clone(),
                false => format!("http://{}", backend.address),
            })
            .collect();
        if backends.is_empty() {
            return Err(StageError::Usage(format!(
                "no backend of the gateway runs profile {}",
                self.name
            )));
        }
        Ok(Seat {
            contestant: self.clone(),
            model: model.to_owned(),
            label: ("profile", self.name.clone()),
            backends,
        })
    }
}

fn seats(contestants: &[Contestant], servers: &[Server]) -> Vec<Seat> {
    let pairs = contestants.iter().zip(servers).enumerate();
    pairs
        .map(|(n, (contestant, server))| Seat {
            contestant: contestant.clone(),
            model: format!("bench-{n}"),
            label: ("pool", format!("bench-{n}")),
            backends: vec![server.url.clone()],
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_what_was_added() {
        let of = |n| Counters {
            drafted: n,
            accepted: n / 2,
            verify_steps: n / 4,
        };
        let equal = totals((of(8), Some(of(40))), (of(16), Some(of(48))));
        assert_eq!((equal.gateway, equal.equal), (of(8), Some(true)));
        let first = totals((of(0), None), (of(16), Some(of(16))));
        assert_eq!(first.equal, Some(true));
        assert_eq!(
            totals((of(0), None), (of(16), Some(of(20)))).equal,
            Some(false)
        );
        assert_eq!(totals((of(0), None), (of(16), None)).equal, None);
    }
}

//! EndpointSlices (`discovery.k8s.io/v1`): what they say, and what events change in them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;

use crate::config::{Backend, Template};

/// A list of slices.
#[derive(Debug, Deserialize)]
pub(super) struct List {
    metadata: ListMeta,
    #[serde(default)]
    items: Vec<Slice>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMeta {
    resource_version: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Slice {
    metadata: Meta,
    #[serde(default)]
    endpoints: Option<Vec<Endpoint>>,
    #[serde(default)]
    ports: Option<Vec<Port>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    name: String,
    #[serde(default)]
    resource_version: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint {
    #[serde(default)]
    addresses: Vec<String>,
    #[serde(default)]
    conditions: Conditions,
    #[serde(default)]
    target_ref: Option<Target>,
}

#[derive(Debug, Default, Deserialize)]
struct Conditions {
    #[serde(default)]
    terminating: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct Target {
    #[serde(default)]
    name: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Port {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    port: Option<u16>,
}

/// One event of a watch.
#[derive(Debug, Deserialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    object: &'a serde_json::value::RawValue,
}

/// A bookmark has nothing but its version; an error is a `Status`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Loose {
    metadata: LooseMeta,
    code: Option<u16>,
    message: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct LooseMeta {
    resource_version: String,
}

/// What an event led to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// There may be other endpoints now.
    Changed,
    /// Only the version has moved.
    Moved,
    /// What is known is too old to go on from: list anew.
    Expired,
    /// The server says that it cannot go on.
    Refused(String),
}

/// The slices of one service, as far as is known.
#[derive(Debug)]
pub(super) struct Slices {
    by_name: BTreeMap<String, Slice>,
    /// Where a watch goes on from.
    pub(super) version: String,
}

impl Slices {
    /// # Errors
    /// The text is no list of slices.
    pub(super) fn listed(text: &[u8]) -> Result<Self, serde_json::Error> {
        let list: List = serde_json::from_slice(text)?;
        let named = list.items.into_iter().map(|s| (s.metadata.name.clone(), s));
        Ok(Self {
            by_name: named.collect(),
            version: list.metadata.resource_version,
        })
    }

    /// Takes one line of a watch in.
    ///
    /// # Errors
    /// The text is no event.
    pub(super) fn heard(&mut self, line: &[u8]) -> Result<Step, serde_json::Error> {
        let event: Event<'_> = serde_json::from_slice(line)?;
        let object = event.object.get();
        match event.kind {
            "ADDED" | "MODIFIED" => {
                let slice: Slice = serde_json::from_str(object)?;
                self.version.clone_from(&slice.metadata.resource_version);
                self.by_name.insert(slice.metadata.name.clone(), slice);
                Ok(Step::Changed)
            }
            "DELETED" => {
                let slice: Slice = serde_json::from_str(object)?;
                self.version = slice.metadata.resource_version;
                self.by_name.remove(&slice.metadata.name);
                Ok(Step::Changed)
            }
            "ERROR" => {
                let status: Loose = serde_json::from_str(object)?;
                Ok(match status.code {
                    Some(410) => Step::Expired,
                    _ => Step::Refused(status.message),
                })
            }
            // BOOKMARK, and what later versions may add.
            _ => {
                let version = serde_json::from_str::<Loose>(object)?
                    .metadata
                    .resource_version;
                if !version.is_empty() {
                    self.version = version;
                }
                Ok(Step::Moved)
            }
        }
    }

    /// The backends, in order. Endpoints that are not ready are among them: Drover's own checks know better
    /// when a server can take requests, and a server that is busy for a moment must not lose its
    /// conversations. Those that terminate are not: they finish what they have.
    pub(super) fn backends(&self, port: Option<&str>, like: &Template) -> Vec<Backend> {
        let mut found = BTreeMap::new();
        for slice in self.by_name.values() {
            let Some(port) = slice.port(port) else {
                continue;
            };
            for endpoint in slice.endpoints.iter().flatten() {
                if endpoint.conditions.terminating == Some(true) {
                    continue;
                }
                // All of an endpoint's addresses are the same server; names (`FQDN`) are not used.
                let address = endpoint.addresses.first();
                let Some(ip) = address.and_then(|a| a.parse::<IpAddr>().ok()) else {
                    continue;
                };
                let at = SocketAddr::new(ip, port);
                let pod = endpoint.target_ref.as_ref().and_then(|t| t.name.clone());
                let name = pod.unwrap_or_else(|| at.to_string());
                // A dual-stack service lists its pods once for each family: the first, IPv4, counts.
                let backend = like.at(name.clone(), format!("http://{at}"));
                let known = found.entry(name).or_insert((at, backend.clone()));
                if (at.is_ipv6(), at) < (known.0.is_ipv6(), known.0) {
                    *known = (at, backend);
                }
            }
        }
        found.into_values().map(|(_, backend)| backend).collect()
    }
}

impl Slice {
    /// The number of the port called `wanted`; with no name wanted that of the only one, or of the nameless.
    fn port(&self, wanted: Option<&str>) -> Option<u16> {
        let ports = self.ports.as_deref().unwrap_or_default();
        let name = |port: &&Port| port.name.as_deref().unwrap_or_default() == wanted.unwrap_or("");
        match (wanted, ports) {
            (None, [only]) => only.port,
            _ => ports.iter().find(name)?.port,
        }
    }
}

#[cfg(test)]
mod tests;

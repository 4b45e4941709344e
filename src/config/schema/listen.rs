//! Where the gateway listens.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::config::{EnvSecret, Secret};

/// One address clients connect to, with TLS or without. Written as `"addr:port"`, or as a table when
/// there is TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// `ip:port` or `localhost:port`; IPv6 addresses in brackets.
    pub addr: String,
    /// Certificate and key; `None` listens in plain text.
    pub tls: Option<Tls>,
}

/// An address as a table; `"addr:port"` alone is the same without TLS.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ListenerTable {
    /// Address and port: `127.0.0.1:8080`, `[::1]:8080`, `0.0.0.0:443`.
    addr: String,
    /// TLS for this address; null listens in plain text.
    #[serde(default)]
    tls: Option<Tls>,
}

/// Files of a TLS listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// PEM file with the certificate, followed by its intermediates.
    pub cert: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
}

impl Serialize for Listener {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.tls {
            None => serializer.serialize_str(&self.addr),
            tls => ListenerTable {
                addr: self.addr.clone(),
                tls: tls.clone(),
            }
            .serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Listener {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ListenerVisitor)
    }
}

/// Written out because an untagged enum would hide which key of the table is wrong.
struct ListenerVisitor;

impl<'de> de::Visitor<'de> for ListenerVisitor {
    type Value = Listener;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"addr:port\" or {addr, tls}")
    }

    fn visit_str<E: de::Error>(self, addr: &str) -> Result<Listener, E> {
        Ok(Listener {
            addr: addr.to_owned(),
            tls: None,
        })
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Listener, A::Error> {
        let ListenerTable { addr, tls } =
            ListenerTable::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Listener { addr, tls })
    }
}

impl JsonSchema for Listener {
    fn schema_name() -> Cow<'static, str> {
        "Listener".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let table = generator.subschema_for::<ListenerTable>();
        json_schema!({ "anyOf": [{ "type": "string", "format": "addr:port" }, table] })
    }
}

/// The admin address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// Address and port. Beyond loopback a token is required.
    pub addr: String,
    /// Environment variable holding the bearer token the admin API asks for; null asks for none.
    pub token_env: Option<EnvSecret>,
}

impl Admin {
    /// The token the admin API asks for, if it asks for one.
    pub fn token(&self) -> Option<&Secret> {
        self.token_env.as_ref()?.value()
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            addr: "127.0.0.1:9090".to_owned(),
            token_env: None,
        }
    }
}

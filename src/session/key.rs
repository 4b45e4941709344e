//! Whose session a request is.
//!
//! Clients name their session in many places; the first of this ladder counts: a header, a field of
//! the body ([`Claims`]), and for those that name none a fingerprint of how the conversation begins.
//! The system prompt (clients put time and directory into it) and tool call ids (they are random) never count.

mod claims;

use std::fmt;
use std::str::FromStr;

use http::HeaderMap;
use sha2::{Digest, Sha256};

pub use claims::Claims;

use crate::turn::Turn;

/// Who is asking: sessions of different principals are different, whatever they are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    name: String,
    user: Option<String>,
}

impl Principal {
    /// The holder of the API key called `name`.
    pub fn key(name: &str) -> Self {
        Self::named(format!("key:{name}"))
    }

    /// Whoever is at `address`, where no keys are asked for.
    pub fn address(address: &dyn fmt::Display) -> Self {
        Self::named(format!("addr:{address}"))
    }

    fn named(name: String) -> Self {
        Self { name, user: None }
    }

    /// Told apart by the end user the body names: a gateway's client may itself serve many.
    #[must_use]
    pub fn for_user_of(mut self, claims: Claims<'_>) -> Self {
        self.user = claims.user();
        self
    }

    /// `key:NAME` or `addr:ADDRESS`.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Where a session's identity came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// This header.
    Header(&'static str),
    /// This field of the body.
    Body(&'static str),
    /// Computed from the beginning of the conversation.
    Fingerprint,
}

impl Source {
    /// Short name for the log and the metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Header(_) => "hdr",
            Self::Body(_) => "meta",
            Self::Fingerprint => "fp",
        }
    }

    /// The header or field.
    pub const fn field(self) -> Option<&'static str> {
        match self {
            Self::Header(name) | Self::Body(name) => Some(name),
            Self::Fingerprint => None,
        }
    }
}

/// A session's identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionKey {
    /// Whose it is.
    pub principal: Principal,
    /// What told it.
    pub source: Source,
    /// Its name there.
    pub value: String,
}

impl SessionKey {
    /// The session of a turn. `opener` is what the human said first ([`super::lineage::opener`]).
    pub fn of(principal: Principal, headers: &HeaderMap, turn: &Turn, opener: &str) -> Self {
        let (source, value) = claims::named(headers, turn.into()).unwrap_or_else(|| {
            let value = fingerprint(&principal, &turn.model, opener);
            (Source::Fingerprint, value)
        });
        Self {
            principal,
            source,
            value,
        }
    }

    /// The session that a request names, if it names one.
    pub fn named(principal: Principal, headers: &HeaderMap, claims: Claims<'_>) -> Option<Self> {
        let (source, value) = claims::named(headers, claims)?;
        Some(Self {
            principal,
            source,
            value,
        })
    }

    /// The same in a form that may be shown: a client's own name for its session stays private.
    pub fn id(&self) -> SessionId {
        let user = self.principal.user.as_deref();
        let parts = [
            self.principal.name.as_str(),
            if user.is_some() { "user" } else { "" },
            user.unwrap_or_default(),
            self.source.as_str(),
            &self.value,
        ];
        let mut hash = Sha256::new();
        for part in parts {
            // With their lengths, so that no part can reach into the next.
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        SessionId(shortened(&hash.finalize()))
    }
}

/// The first 80 bits of a [`SessionKey`]'s SHA-256, written as 20 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId([u8; 10]);

impl SessionId {
    /// Hash of it and of a conversation of it.
    pub(super) fn hash_with(self, base: u64, sibling: u32) -> u64 {
        let mut bytes = [0; 22];
        bytes[..10].copy_from_slice(&self.0);
        bytes[10..18].copy_from_slice(&base.to_le_bytes());
        bytes[18..].copy_from_slice(&sibling.to_le_bytes());
        xxhash_rust::xxh3::xxh3_64(&bytes)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

/// No session id: 20 lower-case hexadecimal digits are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no session id")]
pub struct NoSessionId;

impl FromStr for SessionId {
    type Err = NoSessionId;

    fn from_str(text: &str) -> Result<Self, NoSessionId> {
        let mut id = [0; 10];
        if text.len() != 2 * id.len() {
            return Err(NoSessionId);
        }
        for (byte, pair) in id.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let digit = |c: u8| match c {
                b'0'..=b'9' => Some(c - b'0'),
                b'a'..=b'f' => Some(c - b'a' + 10),
                _ => None,
            };
            let (high, low) = digit(pair[0]).zip(digit(pair[1])).ok_or(NoSessionId)?;
            *byte = high << 4 | low;
        }
        Ok(Self(id))
    }
}

fn fingerprint(principal: &Principal, model: &str, opener: &str) -> String {
    let name = &principal.name;
    let user = principal.user.as_deref().unwrap_or_default();
    let hash = Sha256::digest(format!("{name}/{user}|{model}|{opener}"));
    hex(&shortened(&hash))
}

fn shortened(hash: &[u8]) -> [u8; 10] {
    let mut short = [0; 10];
    short
        .iter_mut()
        .zip(hash)
        .for_each(|(to, from)| *to = *from);
    short
}

fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

#[cfg(test)]
mod tests;

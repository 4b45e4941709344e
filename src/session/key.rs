//! Whose session a request is.
//!
//! Clients name their session in many places; the first of this ladder counts: a header, a field of
//! the body, and for those that name none a fingerprint of how the conversation begins. The system
//! prompt (clients put time and directory into it) and tool call ids (they are random) never count.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use http::HeaderMap;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::dialect::json::Members;
use crate::turn::Turn;

/// Headers that name a session, most telling first.
const HEADERS: &[&str] = &[
    "x-drover-session",
    "x-claude-code-session-id",
    "x-uap-session-id",
    "x-claude-session-id",
    "anthropic-session-id",
    "x-session-id",
    "x-session-affinity",
    "session-id",
    "thread-id",
];

/// Members of `metadata` that name a session.
const METADATA: &[(&str, &str)] = &[
    ("session_id", "metadata.session_id"),
    ("conversation_id", "metadata.conversation_id"),
    ("thread_id", "metadata.thread_id"),
];

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

    /// Told apart by the end user the body names (`user`, or an Anthropic `metadata.user_id` that
    /// holds no session): a gateway's client may itself serve many.
    #[must_use]
    pub fn for_user_of(mut self, turn: &Turn) -> Self {
        let user = turn.extra("user").and_then(plain).or_else(|| {
            let user = Metadata::of(turn)?.text("user_id")?;
            session_in(&user).is_none().then_some(user)
        });
        self.user = user;
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
    /// The session of a request. `opener` is what the human said first
    /// ([`super::lineage::opener`]).
    pub fn of(principal: Principal, headers: &HeaderMap, turn: &Turn, opener: &str) -> Self {
        let named = in_headers(headers).or_else(|| in_body(turn));
        let (source, value) = named.unwrap_or_else(|| {
            let value = fingerprint(&principal, &turn.model, opener);
            (Source::Fingerprint, value)
        });
        Self {
            principal,
            source,
            value,
        }
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

fn in_headers(headers: &HeaderMap) -> Option<(Source, String)> {
    HEADERS.iter().find_map(|name| {
        let value = headers.get(*name)?.to_str().ok()?;
        Some((Source::Header(name), named(value)?.to_owned()))
    })
}

fn in_body(turn: &Turn) -> Option<(Source, String)> {
    let metadata = Metadata::of(turn);
    let metadata = metadata.as_ref();
    let member = |name: &str| metadata?.text(name);
    let found = |(name, path): &(&str, &'static str)| Some((Source::Body(path), member(name)?));
    METADATA
        .iter()
        .find_map(found)
        .or_else(|| top_level(turn, "conversation_id"))
        .or_else(|| top_level(turn, "thread_id"))
        .or_else(|| {
            let session = session_in(&member("user_id")?)?;
            Some((Source::Body("metadata.user_id"), session))
        })
        .or_else(|| top_level(turn, "prompt_cache_key"))
}

fn top_level(turn: &Turn, name: &'static str) -> Option<(Source, String)> {
    Some((Source::Body(name), plain(turn.extra(name)?)?))
}

/// The session inside a user id: Claude Code sends a JSON object with a `session_id`, earlier
/// versions `user_…_session_<uuid>`.
fn session_in(user_id: &str) -> Option<String> {
    if user_id.starts_with('{') {
        let members: Members<'_> = serde_json::from_str(user_id).ok()?;
        return plain(members.get("session_id")?);
    }
    let (_, session) = user_id.rsplit_once("_session_")?;
    let is_word = session
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b == b'-');
    (is_word && !session.is_empty()).then(|| session.to_owned())
}

/// The `metadata` object of a request.
struct Metadata<'a>(Members<'a>);

impl<'a> Metadata<'a> {
    fn of(turn: &'a Turn) -> Option<Self> {
        let raw = turn
            .metadata
            .as_deref()
            .or_else(|| turn.extra("metadata"))?;
        serde_json::from_str(raw.get()).ok().map(Self)
    }

    fn text(&self, name: &str) -> Option<String> {
        plain(self.0.get(name)?)
    }
}

/// A name as clients write it: a string, or a number. Anything else names nothing.
fn plain(raw: &RawValue) -> Option<String> {
    let raw = raw.get();
    let text: Cow<'_, str> = match raw.as_bytes().first()? {
        b'"' => serde_json::from_str(raw).ok().map(Cow::Owned)?,
        b'0'..=b'9' => Cow::Borrowed(raw),
        _ => return None,
    };
    named(&text).map(str::to_owned)
}

fn named(text: &str) -> Option<&str> {
    Some(text.trim()).filter(|text| !text.is_empty())
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
mod tests {
    use http::{HeaderName, HeaderValue};
    use rstest::rstest;

    use super::super::lineage::opener;
    use super::*;
    use crate::dialect::Dialect;

    const UUID: &str = "9f1c2b6e-0d6b-4a8e-9b7e-3f2a1c0d5e4f";

    fn key_of(headers: &[(&str, &str)], dialect: Dialect, more: &str) -> SessionKey {
        let body = format!(
            r#"{{"model":"m","max_tokens":9,"messages":[{{"role":"user","content":"hi"}}]{more}}}"#
        );
        let turn = dialect.decode(body.as_bytes()).unwrap();
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name: HeaderName = name.parse().unwrap();
            map.insert(name, HeaderValue::from_str(value).unwrap());
        }
        let principal = Principal::address(&"10.0.0.1").for_user_of(&turn);
        SessionKey::of(principal, &map, &turn, &opener(&turn))
    }

    fn openai(more: &str) -> SessionKey {
        key_of(&[], Dialect::OpenAi, more)
    }

    #[test]
    fn headers_come_first_in_their_order() {
        let mut headers: Vec<(&str, &str)> = HEADERS.iter().map(|name| (*name, *name)).collect();
        let more = r#","metadata":{"session_id":"m"}"#;
        for name in HEADERS {
            let key = key_of(&headers, Dialect::OpenAi, more);
            assert_eq!(
                (key.source, key.value.as_str()),
                (Source::Header(name), *name)
            );
            headers.remove(0);
        }
        let key = key_of(&headers, Dialect::OpenAi, more);
        assert_eq!(key.source, Source::Body("metadata.session_id"));
    }

    #[test]
    fn blank_and_binary_headers_name_nothing() {
        let key = key_of(
            &[("x-session-id", "  "), ("thread-id", "t")],
            Dialect::OpenAi,
            "",
        );
        assert_eq!(
            (key.source, key.value.as_str()),
            (Source::Header("thread-id"), "t")
        );
        let key = key_of(&[("x-session-id", "\u{e9}")], Dialect::OpenAi, "");
        assert_eq!(key.source, Source::Fingerprint);
    }

    #[rstest]
    #[case(
        r#","metadata":{"thread_id":"c","conversation_id":"b","session_id":"a"}"#,
        "metadata.session_id",
        "a"
    )]
    #[case(
        r#","metadata":{"thread_id":"c","conversation_id":"b"}"#,
        "metadata.conversation_id",
        "b"
    )]
    #[case(
        r#","metadata":{"thread_id":17},"prompt_cache_key":"p""#,
        "metadata.thread_id",
        "17"
    )]
    #[case(
        r#","conversation_id":"c","thread_id":"t","metadata":{}"#,
        "conversation_id",
        "c"
    )]
    #[case(r#","thread_id":"t","prompt_cache_key":"p""#, "thread_id", "t")]
    #[case(
        r#","prompt_cache_key":"p","user":"u","metadata":{"session_id":null}"#,
        "prompt_cache_key",
        "p"
    )]
    fn body_fields_in_their_order(
        #[case] more: &str,
        #[case] field: &'static str,
        #[case] value: &str,
        #[values(Dialect::OpenAi, Dialect::Anthropic)] dialect: Dialect,
    ) {
        let key = key_of(&[], dialect, more);
        assert_eq!(
            (key.source, key.value.as_str()),
            (Source::Body(field), value)
        );
    }

    #[rstest]
    #[case(
        r#"{\"device_id\":\"d\",\"account_uuid\":\"\",\"session_id\":\"UUID\"}"#,
        Some(UUID)
    )]
    #[case("user_0a1b_account__session_UUID", Some(UUID))]
    #[case("user_0a1b_account_x_session_", None)]
    #[case("alice", None)]
    #[case("{broken", None)]
    fn the_session_inside_a_user_id(#[case] user_id: &str, #[case] session: Option<&str>) {
        let user_id = user_id.replace("UUID", UUID);
        let more = format!(r#","metadata":{{"user_id":"{user_id}"}}"#);
        let key = key_of(&[], Dialect::Anthropic, &more);
        let found = (key.source == Source::Body("metadata.user_id")).then_some(key.value.as_str());
        assert_eq!(found, session);
        assert_eq!(key.principal.user.is_none(), session.is_some());
    }

    #[test]
    fn a_user_tells_principals_apart_and_is_no_session() {
        let (a, b) = (openai(r#","user":"a""#), openai(r#","user":"b""#));
        assert_eq!(
            (a.source, b.source),
            (Source::Fingerprint, Source::Fingerprint)
        );
        assert_ne!(a.id(), b.id());
        assert_ne!(a.id(), openai("").id());
        let named = |user: &str| {
            openai(&format!(
                r#","user":"{user}","metadata":{{"session_id":"s"}}"#
            ))
        };
        assert_ne!(named("a").id(), named("b").id());
        assert_eq!(named("a").value, "s");
    }

    #[test]
    fn a_fingerprint_is_twenty_digits_of_principal_model_and_opener() {
        let key = openai("");
        assert_eq!(key.value.len(), 20);
        assert_eq!(key.id(), openai("").id());
        let other_model = openai(r#","model":"n""#);
        assert_ne!(key.id(), other_model.id());
        let turn =
            Dialect::OpenAi.decode(br#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#);
        let elsewhere = Principal::address(&"10.0.0.2");
        let elsewhere = SessionKey::of(elsewhere, &HeaderMap::new(), &turn.unwrap(), "hi");
        assert_ne!(key.id(), elsewhere.id());
    }

    #[test]
    fn ids_hide_the_name_and_can_be_read_back() {
        let key = key_of(&[("x-session-id", "my-secret")], Dialect::OpenAi, "");
        let id = key.id();
        assert!(!id.to_string().contains("secret"));
        assert_eq!(id.to_string().parse(), Ok(id));
        for text in [
            "",
            "0123",
            "0123456789ABCDEF0123",
            "0123456789abcdef012g",
            "é123456789abcdef012",
        ] {
            assert_eq!(text.parse::<SessionId>(), Err(NoSessionId), "{text}");
        }
    }

    #[test]
    fn the_same_name_from_another_place_or_principal_is_another_session() {
        let header = key_of(&[("x-session-id", "s")], Dialect::OpenAi, "");
        let body = openai(r#","metadata":{"session_id":"s"}"#);
        assert_ne!(header.id(), body.id());
        let alice = SessionKey {
            principal: Principal::key("alice"),
            ..header.clone()
        };
        assert_ne!(header.id(), alice.id());
        let again = key_of(&[("thread-id", "s")], Dialect::OpenAi, "");
        assert_eq!(
            header.id(),
            again.id(),
            "one name in two headers is one session"
        );
    }
}

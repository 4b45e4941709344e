//! The places where clients name their session, and the end user they serve.

use std::borrow::Cow;

use http::HeaderMap;
use serde_json::value::RawValue;

use super::Source;
use crate::dialect::json::Members;
use crate::turn::{Extra, Turn};

/// Headers that name a session, most telling first.
pub(super) const HEADERS: &[&str] = &[
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

/// What the body of a request says about whose it is.
#[derive(Clone, Copy, Debug)]
pub struct Claims<'a> {
    /// `metadata`, where the dialect keeps it from the model.
    pub metadata: Option<&'a RawValue>,
    /// The fields that are handed on.
    pub fields: &'a Extra,
}

impl<'a> From<&'a Turn> for Claims<'a> {
    fn from(turn: &'a Turn) -> Self {
        Self {
            metadata: turn.metadata.as_deref(),
            fields: &turn.extra,
        }
    }
}

impl<'a> Claims<'a> {
    /// The end user: `user`, or an Anthropic `metadata.user_id` that holds no session.
    pub(super) fn user(self) -> Option<String> {
        self.field("user").and_then(plain).or_else(|| {
            let user = Metadata::of(self)?.text("user_id")?;
            session_in(&user).is_none().then_some(user)
        })
    }

    fn field(self, name: &str) -> Option<&'a RawValue> {
        let mut fields = self.fields.iter().rev();
        let (_, value) = fields.find(|(key, _)| key == name)?;
        Some(value)
    }
}

/// The first of the ladder.
pub(super) fn named(headers: &HeaderMap, claims: Claims<'_>) -> Option<(Source, String)> {
    in_headers(headers).or_else(|| in_body(claims))
}

fn in_headers(headers: &HeaderMap) -> Option<(Source, String)> {
    HEADERS.iter().find_map(|name| {
        let value = headers.get(*name)?.to_str().ok()?;
        Some((Source::Header(name), word(value)?.to_owned()))
    })
}

fn in_body(claims: Claims<'_>) -> Option<(Source, String)> {
    let metadata = Metadata::of(claims);
    let metadata = metadata.as_ref();
    let member = |name: &str| metadata?.text(name);
    let found = |(name, path): &(&str, &'static str)| Some((Source::Body(path), member(name)?));
    METADATA
        .iter()
        .find_map(found)
        .or_else(|| top_level(claims, "conversation_id"))
        .or_else(|| top_level(claims, "thread_id"))
        .or_else(|| {
            let session = session_in(&member("user_id")?)?;
            Some((Source::Body("metadata.user_id"), session))
        })
        .or_else(|| top_level(claims, "prompt_cache_key"))
}

fn top_level(claims: Claims<'_>, name: &'static str) -> Option<(Source, String)> {
    Some((Source::Body(name), plain(claims.field(name)?)?))
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
    fn of(claims: Claims<'a>) -> Option<Self> {
        let raw = claims.metadata.or_else(|| claims.field("metadata"))?;
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
    word(&text).map(str::to_owned)
}

fn word(text: &str) -> Option<&str> {
    Some(text.trim()).filter(|text| !text.is_empty())
}

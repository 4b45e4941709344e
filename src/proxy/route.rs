//! Which lane a request takes: method and path decide, nothing else.

use http::Method;
use percent_encoding::percent_decode_str;

use super::Shared;
use crate::dialect::Dialect;
use crate::dialect::relay::Kind as RelayKind;
use crate::telemetry::access_log::ClientText;
use crate::telemetry::labels::Dialect as Label;
use crate::turn::TurnError;

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// A POST whose `model` picks the pool.
    Exchange(ExchangeKind),
    /// Answered by the gateway itself.
    Local(LocalKind),
    /// Passed through to a backend of this pool.
    Native(String),
}

/// What is exchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExchangeKind {
    /// A turn of a conversation.
    Turn(Dialect),
    /// The size of a turn's prompt.
    CountTokens,
    /// An older path.
    Relay(RelayKind),
}

/// What the gateway answers itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LocalKind {
    /// The models clients may ask for.
    Models,
    /// One of them.
    Model(String),
    /// Whether any backend can serve.
    Health,
    /// Some clients ask whether anybody is there.
    Root,
}

impl Route {
    /// Reachable without a key: says nothing about the fleet but "up" or "not up".
    pub(super) fn is_public(&self) -> bool {
        matches!(self, Self::Local(LocalKind::Health | LocalKind::Root))
    }

    /// For metrics and the log.
    pub(super) fn label(&self) -> Label {
        match self {
            Self::Exchange(ExchangeKind::Turn(Dialect::OpenAi)) => Label::OpenAi,
            Self::Exchange(ExchangeKind::Turn(Dialect::Anthropic)) => Label::Anthropic,
            Self::Exchange(ExchangeKind::Turn(Dialect::Responses)) => Label::Responses,
            Self::Exchange(ExchangeKind::CountTokens | ExchangeKind::Relay(_)) => Label::Relay,
            Self::Local(_) | Self::Native(_) => Label::Native,
        }
    }
}

/// The dialect errors are told in, known before anything else is.
pub(super) fn dialect(path: &str, anthropic_version: bool) -> Dialect {
    let anthropic = path.starts_with("/v1/messages")
        || path.starts_with("/anthropic/")
        || (anthropic_version && path.starts_with("/v1/models"));
    if anthropic {
        Dialect::Anthropic
    } else if is_responses(path) {
        Dialect::Responses
    } else {
        Dialect::OpenAi
    }
}

/// Below these are stored responses, which are not there.
fn is_responses(path: &str) -> bool {
    ["/v1/responses", "/responses"].iter().any(|root| {
        path.strip_prefix(root)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

/// Find the route.
pub(super) fn route(method: &Method, path: &str, shared: &Shared) -> Result<Route, TurnError> {
    let trimmed = if path.len() > 1 {
        path.trim_end_matches('/')
    } else {
        path
    };
    if let Some(route) = known(method, trimmed) {
        return Ok(route);
    }
    // The path as it came: what is compared is what is forwarded.
    match shared.fleet.passthrough(path) {
        Some(pool) => Ok(Route::Native(pool.name().to_owned())),
        None if is_responses(trimmed) => Err(TurnError::NotStored),
        None => Err(TurnError::UnknownPath(format!(
            "{method} {}",
            ClientText::new(path)
        ))),
    }
}

fn known(method: &Method, path: &str) -> Option<Route> {
    let path = path
        .strip_prefix("/anthropic")
        .filter(|rest| rest.starts_with("/v1/"))
        .unwrap_or(path);
    if *method == Method::POST {
        return posts(path).map(Route::Exchange);
    }
    if *method != Method::GET && *method != Method::HEAD {
        return None;
    }
    Some(Route::Local(match path {
        "/v1/models" | "/models" => LocalKind::Models,
        "/health" | "/v1/health" => LocalKind::Health,
        "/" => LocalKind::Root,
        // SDKs escape the slash of `org/model`.
        _ => {
            let id = percent_decode_str(path.strip_prefix("/v1/models/")?);
            LocalKind::Model(id.decode_utf8().ok()?.into_owned())
        }
    }))
}

fn posts(path: &str) -> Option<ExchangeKind> {
    Some(match path {
        "/v1/chat/completions" | "/chat/completions" => ExchangeKind::Turn(Dialect::OpenAi),
        "/v1/messages" => ExchangeKind::Turn(Dialect::Anthropic),
        "/v1/responses" | "/responses" => ExchangeKind::Turn(Dialect::Responses),
        "/v1/messages/count_tokens" => ExchangeKind::CountTokens,
        "/v1/completions" => ExchangeKind::Relay(RelayKind::Completion),
        "/v1/embeddings" => ExchangeKind::Relay(RelayKind::Embedding),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_paths() {
        let post = |path| known(&Method::POST, path);
        let get = |path| known(&Method::GET, path);
        let openai = Some(Route::Exchange(ExchangeKind::Turn(Dialect::OpenAi)));
        let anthropic = Some(Route::Exchange(ExchangeKind::Turn(Dialect::Anthropic)));
        assert_eq!(post("/v1/chat/completions"), openai);
        assert_eq!(post("/v1/messages"), anthropic);
        assert_eq!(post("/anthropic/v1/messages"), anthropic);
        let responses = Some(Route::Exchange(ExchangeKind::Turn(Dialect::Responses)));
        assert_eq!(post("/v1/responses"), responses);
        assert_eq!(post("/responses"), responses);
        assert_eq!(get("/v1/responses"), None);
        assert_eq!(post("/v1/responses/resp_1/cancel"), None);
        assert_eq!(post("/anthropic/slots"), None);
        assert_eq!(get("/v1/chat/completions"), None);
        assert_eq!(
            known(&Method::HEAD, "/"),
            Some(Route::Local(LocalKind::Root))
        );
        assert_eq!(get("/slots"), None);
        assert_eq!(post("/v1/models"), None);
        let model = LocalKind::Model("org/m".to_owned());
        assert_eq!(get("/v1/models/org/m"), Some(Route::Local(model.clone())));
        assert_eq!(get("/v1/models/org%2Fm"), Some(Route::Local(model)));
        assert_eq!(get("/v1/models/%ff"), None);
    }
}

//! Which lane a request takes: method and path decide, nothing else.

use http::Method;

use super::Shared;
use crate::dialect::relay::Kind as RelayKind;
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
    /// A chat turn.
    Chat,
    /// An older path.
    Relay(RelayKind),
}

/// What the gateway answers itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LocalKind {
    /// The models clients may ask for.
    Models,
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
    pub(super) fn dialect(&self) -> Label {
        match self {
            Self::Exchange(ExchangeKind::Chat) => Label::OpenAi,
            Self::Exchange(ExchangeKind::Relay(_)) => Label::Relay,
            Self::Local(_) | Self::Native(_) => Label::Native,
        }
    }
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
        None => Err(TurnError::UnknownPath(format!("{method} {path}"))),
    }
}

fn known(method: &Method, path: &str) -> Option<Route> {
    let post = *method == Method::POST;
    let get = *method == Method::GET || *method == Method::HEAD;
    Some(match path {
        "/v1/chat/completions" | "/chat/completions" if post => Route::Exchange(ExchangeKind::Chat),
        "/v1/completions" if post => Route::Exchange(ExchangeKind::Relay(RelayKind::Completion)),
        "/v1/embeddings" if post => Route::Exchange(ExchangeKind::Relay(RelayKind::Embedding)),
        "/v1/models" | "/models" if get => Route::Local(LocalKind::Models),
        "/health" | "/v1/health" if get => Route::Local(LocalKind::Health),
        "/" if get => Route::Local(LocalKind::Root),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_paths() {
        let chat = Some(Route::Exchange(ExchangeKind::Chat));
        assert_eq!(known(&Method::POST, "/v1/chat/completions"), chat);
        assert_eq!(known(&Method::GET, "/v1/chat/completions"), None);
        assert_eq!(
            known(&Method::HEAD, "/"),
            Some(Route::Local(LocalKind::Root))
        );
        assert_eq!(known(&Method::GET, "/slots"), None);
        assert_eq!(known(&Method::POST, "/v1/models"), None);
    }
}

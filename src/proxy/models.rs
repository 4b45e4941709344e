//! `GET /v1/models` and `GET /v1/models/{id}`, in the shape the client reads.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use serde::Serialize;

use super::{Shared, auth};
use crate::dialect::{Dialect, json};
use crate::fleet::Backend;

/// Anthropic's clients want a date; nobody here knows one.
const CREATED_AT: &str = "1970-01-01T00:00:00Z";

/// Names a client may ask for, with the smallest context window of their backends in tokens.
pub(super) struct Models(BTreeMap<String, Option<u64>>);

impl Models {
    /// The names configured exactly, and, where a pool takes any name, those its backends report.
    /// Only pools the key may use.
    pub(super) fn of(shared: &Shared, principal: Option<&str>) -> Self {
        let config = shared.config();
        let mut names = BTreeMap::new();
        for pool in shared.fleet.pools() {
            if !auth::may_use(&config.auth, principal, pool.name()) {
                continue;
            }
            let backends = pool.backends();
            let window = smallest_window(backends);
            for pattern in pool.models() {
                if &**pattern == "*" {
                    let aliases = backends.iter().map(|b| b.facts().model_alias.clone());
                    for alias in aliases.flatten() {
                        names.entry(alias).or_insert(window);
                    }
                } else if !pattern.contains(['*', '?', '[', '{']) {
                    names.entry(pattern.to_string()).or_insert(window);
                }
            }
        }
        Self(names)
    }

    /// Whether `id` is one of them, or a name that a pool the key may use would take.
    pub(super) fn find(
        mut self,
        id: &str,
        shared: &Shared,
        principal: Option<&str>,
    ) -> Option<Self> {
        let window = match self.0.remove(id) {
            Some(window) => window,
            None => {
                let (pool, _) = shared.fleet.resolve(id)?;
                if !auth::may_use(&shared.config().auth, principal, pool.name()) {
                    return None;
                }
                smallest_window(pool.backends())
            }
        };
        Some(Self(BTreeMap::from([(id.to_owned(), window)])))
    }

    /// All as a list.
    pub(super) fn list(&self, dialect: Dialect) -> Bytes {
        let mut out = BytesMut::new();
        match dialect {
            Dialect::OpenAi | Dialect::Responses => {
                let data = self.0.iter().map(OpenAiModel::new).collect();
                json::write(
                    &mut out,
                    &OpenAiList {
                        object: "list",
                        data,
                    },
                );
            }
            Dialect::Anthropic => {
                let data: Vec<_> = self.0.iter().map(AnthropicModel::new).collect();
                let first_id = data.first().map(|model| model.id);
                let last_id = data.last().map(|model| model.id);
                json::write(
                    &mut out,
                    &AnthropicList {
                        data: &data,
                        has_more: false,
                        first_id,
                        last_id,
                    },
                );
            }
        }
        out.freeze()
    }

    /// The only one.
    pub(super) fn one(&self, dialect: Dialect) -> Bytes {
        let mut out = BytesMut::new();
        if let Some(model) = self.0.iter().next() {
            match dialect {
                Dialect::OpenAi | Dialect::Responses => {
                    json::write(&mut out, &OpenAiModel::new(model))
                }
                Dialect::Anthropic => json::write(&mut out, &AnthropicModel::new(model)),
            }
        }
        out.freeze()
    }
}

/// In tokens: what a request fits into wherever it goes.
fn smallest_window(backends: &[Arc<Backend>]) -> Option<u64> {
    backends.iter().filter_map(|backend| backend.n_ctx()).min()
}

#[derive(Serialize)]
struct OpenAiList<'a> {
    object: &'static str,
    data: Vec<OpenAiModel<'a>>,
}

#[derive(Serialize)]
struct OpenAiModel<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
    meta: WindowMeta,
}

#[derive(Serialize)]
struct WindowMeta {
    /// Context window of one slot, as llama-server names it.
    n_ctx: Option<u64>,
}

impl<'a> OpenAiModel<'a> {
    fn new((id, n_ctx): (&'a String, &Option<u64>)) -> Self {
        let meta = WindowMeta { n_ctx: *n_ctx };
        Self {
            id,
            object: "model",
            created: 0,
            owned_by: "drover",
            meta,
        }
    }
}

#[derive(Serialize)]
struct AnthropicList<'a> {
    data: &'a [AnthropicModel<'a>],
    has_more: bool,
    first_id: Option<&'a str>,
    last_id: Option<&'a str>,
}

#[derive(Serialize)]
struct AnthropicModel<'a> {
    r#type: &'static str,
    id: &'a str,
    display_name: &'a str,
    created_at: &'static str,
    max_input_tokens: Option<u64>,
}

impl<'a> AnthropicModel<'a> {
    fn new((id, n_ctx): (&'a String, &Option<u64>)) -> Self {
        Self {
            r#type: "model",
            id,
            display_name: id,
            created_at: CREATED_AT,
            max_input_tokens: *n_ctx,
        }
    }
}

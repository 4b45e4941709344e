//! What the gateway answers itself.

use bytes::{Bytes, BytesMut};
use http::Method;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use pingora_core::Result;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;
use serde::Serialize;

use super::context::Context;
use super::route::LocalKind;
use super::{Shared, auth, errors};
use crate::dialect::json;
use crate::turn::TurnError;
use std::collections::BTreeMap;
use std::time::Duration;

/// Answer.
pub(super) async fn serve(
    shared: &Shared,
    session: &mut Session,
    ctx: &mut Context,
    kind: LocalKind,
) -> Result<()> {
    let body = match kind {
        LocalKind::Models => models(shared, ctx.principal.as_deref()),
        LocalKind::Health if shared.fleet.any_ready() && !shared.is_draining() => {
            Bytes::from_static(br#"{"status":"ok"}"#)
        }
        LocalKind::Health => {
            let error = TurnError::Loading {
                retry_after: Duration::from_secs(2),
            };
            return errors::respond(session, ctx, error).await;
        }
        LocalKind::Root => Bytes::from_static(
            concat!(
                r#"{"name":"drover","version":""#,
                env!("CARGO_PKG_VERSION"),
                r#""}"#
            )
            .as_bytes(),
        ),
    };
    let head_only = session.req_header().method == Method::HEAD;
    let mut header = ResponseHeader::build(200, Some(4))?;
    header.insert_header("x-request-id", ctx.id.as_str())?;
    header.insert_header(CONTENT_TYPE, "application/json")?;
    header.insert_header(CONTENT_LENGTH, body.len())?;
    session
        .write_response_header(Box::new(header), head_only)
        .await?;
    if head_only {
        return Ok(());
    }
    session.write_response_body(Some(body), true).await
}

#[derive(Serialize)]
struct List<'a> {
    object: &'static str,
    data: Vec<Model<'a>>,
}

#[derive(Serialize)]
struct Model<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
    meta: Meta,
}

#[derive(Serialize)]
struct Meta {
    /// Context window of one slot, as llama-server names it.
    n_ctx: Option<u64>,
}

/// The names a client may ask for: those configured exactly, and, where a pool takes any name, those
/// its backends report. Only pools the key may use.
fn models(shared: &Shared, principal: Option<&str>) -> Bytes {
    let config = shared.config();
    let pools = shared.fleet.pools();
    let allowed = pools
        .iter()
        .filter(|pool| auth::may_use(&config.auth, principal, pool.name()));
    let mut names: BTreeMap<String, Option<u64>> = BTreeMap::new();
    for pool in allowed {
        let window = pool
            .backends()
            .iter()
            .filter_map(|backend| backend.facts().n_ctx)
            .min();
        let exact = pool
            .models()
            .iter()
            .filter(|name| !name.contains(['*', '?', '[', '{']));
        let exact: Vec<String> = exact.map(|name| name.to_string()).collect();
        let reported = pool
            .backends()
            .iter()
            .filter_map(|b| b.facts().model_alias.clone());
        let takes_any = pool.models().iter().any(|name| &**name == "*");
        for name in exact.into_iter().chain(reported.filter(|_| takes_any)) {
            names.entry(name).or_insert(window);
        }
    }
    let data = names
        .iter()
        .map(|(id, n_ctx)| Model {
            id,
            object: "model",
            created: 0,
            owned_by: "drover",
            meta: Meta { n_ctx: *n_ctx },
        })
        .collect();
    let mut out = BytesMut::new();
    json::write(
        &mut out,
        &List {
            object: "list",
            data,
        },
    );
    out.freeze()
}

//! Which path does what.

use std::{net::SocketAddr, sync::Arc};

use serde_json::{Value, json};

use super::{
    Gone, HttpRequest, Wire, control,
    texts::{anthropic_count, detokenize, embeddings, tokenize},
};
use crate::sim::{
    control::Recorded,
    engine::{Sim, unix_now},
    errors::{ApiError, KnownFailure},
    generate, info,
    request::{Kind, Request},
    tokens,
};

/// Answers a request.
pub(super) async fn answer(
    sim: &Arc<Sim>,
    wire: &mut Wire,
    request: HttpRequest,
    peer: SocketAddr,
) -> Result<(), Gone> {
    if let Some(path) = request.path.strip_prefix("/sim/")
        && sim.config.control
        && peer.ip().to_canonical().is_loopback()
    {
        return control::answer(sim, wire, &request, path).await;
    }
    let mut gate = sim.gate.subscribe();
    wire.wait_gate(&mut gate, |gate| gate.frozen).await?;
    if request.method == "POST" {
        sim.record(Recorded {
            method: request.method.clone(),
            target: target(&request),
            headers: request.headers.clone(),
            body: request.body.clone(),
        });
    }
    if request.method == "OPTIONS" {
        const CORS: &str = "Access-Control-Allow-Credentials: true\r\n\
            Access-Control-Allow-Methods: GET, POST, DELETE, OPTIONS\r\n\
            Access-Control-Allow-Headers: *\r\nContent-Type: text/html\r\n";
        return wire.respond(200, CORS, b"").await;
    }
    let is_router = sim.router.is_some();
    let public = matches!(request.path.as_str(), "/health" | "/v1/health" | "/");
    if request.path != "/" && !is_router && sim.is_loading() {
        return wire
            .json(503, ApiError::known(KnownFailure::Loading).http_body())
            .await;
    }
    if !public && !authorized(sim, &request) {
        let error = ApiError::new(401, "authentication_error", "Invalid API Key");
        return wire.json(401, error.http_body()).await;
    }
    if let Some(router) = &sim.router {
        return super::router::answer(sim, router, wire, request, peer).await;
    }
    if request.method == "POST" || request.path == "/slots" {
        sim.live.lock().sleeping = false;
    }
    match request.method.as_str() {
        "GET" => get(sim, wire, &request).await,
        "HEAD" => head(sim, wire, &request).await,
        "POST" => post(sim, wire, request).await,
        _ => not_found(wire).await,
    }
}

fn target(request: &HttpRequest) -> String {
    match request.query.as_str() {
        "" => request.path.clone(),
        query => format!("{}?{query}", request.path),
    }
}

/// `Authorization` decides when present, with or without an exact `Bearer `; else `X-Api-Key`.
fn authorized(sim: &Sim, request: &HttpRequest) -> bool {
    let Some(key) = &sim.config.api_key else {
        return true;
    };
    let sent = request
        .header("authorization")
        .or_else(|| request.header("x-api-key"));
    sent.is_some_and(|sent| sent.strip_prefix("Bearer ").unwrap_or(sent) == key)
}

pub(super) async fn not_found(wire: &mut Wire) -> Result<(), Gone> {
    wire.json(
        404,
        ApiError::new(404, "not_found_error", "File Not Found").http_body(),
    )
    .await
}

async fn result(wire: &mut Wire, result: Result<String, ApiError>) -> Result<(), Gone> {
    match result {
        Ok(body) => wire.json(200, body).await,
        Err(error) => wire.json(error.status, error.body()).await,
    }
}

/// The body and extra headers of a GET, or its error; `None` for an unknown path.
fn page(sim: &Sim, request: &HttpRequest) -> Option<Result<String, ApiError>> {
    Some(match request.path.as_str() {
        "/health" | "/v1/health" => Ok("{\"status\":\"ok\"}".into()),
        "/props" => {
            let live = sim.live.lock();
            Ok(info::props(&sim.config, &live.build_info, live.sleeping))
        }
        "/v1/models" | "/models" => Ok(info::models(&sim.config, unix_now())),
        "/lora-adapters" => Ok("[]".into()),
        "/slots" => slots(sim, &request.query),
        "/metrics" if sim.config.metrics => {
            Ok(sim.metrics.lock().scrape(sim.busy(), sim.deferred()))
        }
        "/metrics" => Err(ApiError::unsupported(
            "This server does not support metrics endpoint. Start it with `--metrics`",
        )),
        _ => return None,
    })
}

async fn get(sim: &Arc<Sim>, wire: &mut Wire, request: &HttpRequest) -> Result<(), Gone> {
    match page(sim, request) {
        None => not_found(wire).await,
        Some(Ok(text)) if request.path == "/metrics" => {
            let headers = format!(
                "Process-Start-Time-Unix: {}\r\nContent-Type: text/plain; version=0.0.4\r\n",
                sim.uptime_us()
            );
            wire.respond(200, &headers, text.as_bytes()).await
        }
        Some(page) => result(wire, page).await,
    }
}

async fn head(sim: &Arc<Sim>, wire: &mut Wire, request: &HttpRequest) -> Result<(), Gone> {
    let (status, length) = match page(sim, request) {
        Some(Ok(body)) => ("200 OK", body.len()),
        Some(Err(error)) => ("501 Not Implemented", error.body().len()),
        None => ("404 Not Found", 0),
    };
    wire.keep_alive = false;
    wire.raw(
        format!(
            "HTTP/1.1 {status}\r\nServer: llama.cpp\r\nAccess-Control-Allow-Origin: \r\n\
             Content-Type: application/json; charset=utf-8\r\nContent-Length: {length}\r\n\
             Connection: close\r\nAccept-Ranges: bytes\r\n\r\n"
        )
        .as_bytes(),
    );
    wire.flush().await
}

fn slots(sim: &Sim, query: &str) -> Result<String, ApiError> {
    if !sim.config.slots_endpoint {
        return Err(ApiError::unsupported(
            "This server does not support slots endpoint. Start it with `--slots`",
        ));
    }
    let speculation = sim.live.lock().speculation.clone();
    let slots = sim.slots.lock();
    if query.contains("fail_on_no_slot") && slots.busy() == slots.slots.len() {
        return Err(ApiError::new(503, "unavailable_error", "no slot available"));
    }
    Ok(info::slots(
        &slots.slots,
        sim.config.n_ctx,
        &speculation.types,
        speculation.is_active(),
    ))
}

async fn post(sim: &Arc<Sim>, wire: &mut Wire, request: HttpRequest) -> Result<(), Gone> {
    let kind = match request.path.as_str() {
        "/v1/chat/completions" | "/chat/completions" => Kind::Chat,
        "/v1/completions" => Kind::Completion,
        "/completion" | "/completions" => Kind::Native,
        _ => return plain_post(sim, wire, &request).await,
    };
    match Request::parse(kind, &request.body, &sim.config) {
        Ok(mut parsed) => {
            parsed.script = request.header("x-sim-script").map(str::to_owned);
            // The body is not needed any more, and some are large.
            drop(request);
            generate::generate(sim, wire, parsed).await
        }
        Err(error) => wire.json(error.status, error.body()).await,
    }
}

async fn plain_post(sim: &Arc<Sim>, wire: &mut Wire, request: &HttpRequest) -> Result<(), Gone> {
    let body = request.body.as_ref();
    let object =
        || serde_json::from_slice::<Value>(body).map_err(|e| ApiError::invalid(e.to_string()));
    let counted = || Request::chat_prompt(body, &sim.config).map(|prompt| tokens::count(&prompt));
    let answer = match request.path.as_str() {
        "/tokenize" => object().map(|body| tokenize(&body)),
        "/detokenize" => object().map(|body| detokenize(&body)),
        "/apply-template" => Request::chat_prompt(body, &sim.config)
            .map(|prompt| json!({"prompt": prompt}).to_string()),
        "/v1/chat/completions/input_tokens" | "/chat/completions/input_tokens" => counted()
            .map(|n| format!("{{\"input_tokens\":{n},\"object\":\"response.input_tokens\"}}")),
        "/v1/messages/count_tokens" => anthropic_count(sim, body),
        "/v1/embeddings" | "/embeddings" => object().and_then(|body| embeddings(sim, &body)),
        "/props" => Err(ApiError::unsupported(
            "This server does not support changing global properties. Start it with `--props`",
        )),
        "/rerank" | "/reranking" | "/v1/rerank" | "/v1/reranking" => Err(ApiError::unsupported(
            "This server does not support reranking. Start it with `--reranking`",
        )),
        path if path.starts_with("/slots/") => Err(ApiError::unsupported(
            "This server does not support slots action. Start it with `--slot-save-path`",
        )),
        _ => return not_found(wire).await,
    };
    result(wire, answer).await
}

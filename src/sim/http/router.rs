//! What a server in router mode answers itself, and which model answers the rest.

use std::net::SocketAddr;

use serde_json::Value;

use super::{Gone, HttpRequest, Wire, routes};
use crate::sim::{
    engine::{Life, Sim, unix_now},
    errors::{ApiError, KnownFailure},
    router::{Model, Router, Stand},
};

/// Answers a request to the router `front`.
pub(super) async fn answer(
    front: &Sim,
    router: &Router,
    wire: &mut Wire,
    request: HttpRequest,
    peer: SocketAddr,
) -> Result<(), Gone> {
    let named = parameter(&request, "model");
    let own = match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/health" | "/v1/health") => Some(Ok("{\"status\":\"ok\"}".to_owned())),
        ("GET", "/props") if named.is_none() => {
            Some(Ok(router.props(&front.live.lock().build_info)))
        }
        ("GET", "/models" | "/v1/models") => Some(Ok(router.listing(unix_now()))),
        ("POST", "/models/load") => Some(load(router, &request).await),
        ("POST", "/models/unload") => Some(unload(router, &request)),
        _ => None,
    };
    let served = match own {
        Some(Ok(body)) => return wire.json(200, body).await,
        Some(Err(error)) => Err(error),
        None => match request.method.as_str() {
            "POST" => find(router, &model_of(&request), &request),
            _ => find(router, &named.unwrap_or_default(), &request),
        },
    };
    let model = match served {
        Ok(model) => model,
        Err(error) => return wire.json(error.status, error.body()).await,
    };
    if autoloads(router, &request) {
        // A client that leaves gives up its wait.
        let ready = wire.wait_for(router.ensure(model)).await?;
        if let Err(error) = ready {
            return wire.json(error.status, error.body()).await;
        }
    } else if model.stand() == Stand::Loading {
        let error = ApiError::known(KnownFailure::Loading);
        return wire.json(error.status, error.http_body()).await;
    }
    if request.method == "POST" {
        router.uses(model);
    }
    let child = model.sim();
    let mut life = child.life.subscribe();
    tokio::select! {
        answered = Box::pin(routes::answer(&child, wire, request, peer)) => answered,
        // The process of the model has gone, and the router with it out of the middle of the answer.
        _ = life.wait_for(|life| *life != Life::Alive) => Err(Gone),
    }
}

fn find<'a>(router: &'a Router, name: &str, request: &HttpRequest) -> Result<&'a Model, ApiError> {
    if name.is_empty() {
        return Err(ApiError::invalid("model name is missing from the request"));
    }
    let model = router
        .find(name)
        .ok_or_else(|| ApiError::invalid(format!("model '{name}' not found")))?;
    if !autoloads(router, request) && !model.is_running() {
        return Err(ApiError::invalid("model is not loaded"));
    }
    Ok(model)
}

fn autoloads(router: &Router, request: &HttpRequest) -> bool {
    match parameter(request, "autoload") {
        Some(said) => said == "true" || said == "1",
        None => router.autoload,
    }
}

fn parameter(request: &HttpRequest, name: &str) -> Option<String> {
    let mut query = url::form_urlencoded::parse(request.query.as_bytes());
    query.find_map(|(key, value)| (key == name).then(|| value.into_owned()))
}

fn model_of(request: &HttpRequest) -> String {
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    body["model"].as_str().unwrap_or_default().to_owned()
}

async fn load(router: &Router, request: &HttpRequest) -> Result<String, ApiError> {
    let found = router.find(&model_of(request));
    let model = found.ok_or_else(|| ApiError::new(404, "not_found_error", "model is not found"))?;
    if model.is_running() {
        return Err(ApiError::invalid("model is already running"));
    }
    // As if it were told at once: what comes of it is shown in the list.
    let _ = router.ensure(model).await;
    Ok("{\"success\":true}".to_owned())
}

fn unload(router: &Router, request: &HttpRequest) -> Result<String, ApiError> {
    let found = router.find(&model_of(request));
    let model = found.ok_or_else(|| ApiError::invalid("model is not found"))?;
    match router.unload(model.name()) {
        true => Ok("{\"success\":true}".to_owned()),
        false => Err(ApiError::invalid("model is not running")),
    }
}

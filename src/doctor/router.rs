//! A backend that is a model of a llama-server in router mode.

use std::collections::BTreeMap;

use super::Finding;
use super::Severity::{Error, Info, Warning};
use super::said::Said;

/// The model by itself.
pub(super) fn examine(said: &Said<'_>) -> Option<Finding> {
    let Some(wanted) = said.survey.backend.upstream_model() else {
        return said.is_router().then(|| {
            said.find(
                Error,
                "router_without_model",
                "it is a router, and `model` does not say which preset is meant",
                "the client's model name decides which preset it loads",
                "write one backend for each preset, with its name in `model`",
            )
        });
    };
    let listed = said.models.iter().any(|model| model.is_called(wanted));
    if said.lists_many() && !listed {
        return Some(said.find(
            Error,
            "unknown_preset",
            format!("it lists no model `{wanted}`"),
            "every request to it is answered 400",
            "correct `model`; GET /v1/models of the router lists the names",
        ));
    }
    let status = said.unloaded()?;
    if status.failed {
        let code = status.exit_code.map(|code| format!(" (exit code {code})"));
        return Some(said.find(
            Error,
            "model_failed",
            format!("its model failed to load{}", code.unwrap_or_default()),
            "it gets no requests but one try a minute or so, each of which may push another model out of \
             memory",
            "read the router's log for its name; correct its section of the presets",
        ));
    }
    Some(match said.survey.autoload {
        Some(false) => said.find(
            Warning,
            "model_unloaded_for_good",
            "its model is not loaded, and its router loads none by itself",
            "it gets no requests until somebody loads it",
            "POST /models/load, `load-on-startup = true` in its section, or start the router without \
             --no-models-autoload",
        ),
        _ => said.find(
            Info,
            "model_unloaded",
            "its model is not loaded: what it would say itself is not known",
            "the first request loads it, and waits",
            "ask again once it has served something",
        ),
    })
}

/// Backends that are one process, and routers that cannot hold the models they are configured for.
pub(super) fn shared(all: &[Said<'_>], findings: &mut Vec<Finding>) {
    let mut processes = BTreeMap::<(String, Option<&str>), Vec<&Said<'_>>>::new();
    let mut routers = BTreeMap::<String, Vec<&Said<'_>>>::new();
    for said in all {
        let backend = &said.survey.backend;
        if said.survey.health.is_err() {
            continue;
        }
        // A plain server serves its model whatever it is called.
        let model = backend.upstream_model().filter(|_| said.lists_many());
        let process = (backend.address(), model);
        processes.entry(process).or_default().push(said);
        if model.is_some() {
            routers.entry(backend.address()).or_default().push(said);
        }
    }
    for same in processes.values().filter(|same| same.len() > 1) {
        let names: Vec<&str> = same.iter().map(|said| said.name()).collect();
        findings.extend(same.first().map(|said| {
            said.find(
                Warning,
                "one_server_twice",
                format!("{} are one server", names.join(", ")),
                "each counts its own requests against the same slots, and its /slots are polled for each",
                "name it once, with every model name in `models` of its pool",
            )
        }));
    }
    for models in routers.values() {
        let Some(first) = models.first() else {
            continue;
        };
        let most = first.survey.models_max.filter(|most| *most > 0);
        if let Some(most) = most.filter(|most| models.len() as u64 > *most) {
            let configured = models.len();
            findings.push(first.find(
                Warning,
                "router_too_small",
                format!("{configured} of its models are backends, and it holds {most} at a time"),
                "they push each other out of memory, and every conversation with it",
                "raise --models-max if the memory allows, or use fewer of them",
            ));
        }
    }
}

//! What a server opens to others besides the gateway.

use super::Finding;
use super::Severity::{Info, Warning};
use super::said::Said;

/// What everybody who reaches it could do.
pub(super) fn to_others(said: &Said<'_>) -> Option<Finding> {
    if said
        .props
        .as_ref()
        .is_some_and(|props| props.cors_proxy_enabled)
    {
        return Some(said.find(
            Warning,
            "cors_proxy",
            "its CORS proxy is switched on",
            "whoever reaches the server can make it fetch any address",
            "start it without the proxy; clients of the gateway do not need it",
        ));
    }
    let backend = &said.survey.backend;
    let open = backend.api_key().is_none() && matches!(said.survey.models, Ok((200, _)));
    (open && !backend.is_loopback()).then(|| {
        said.find(
            Warning,
            "open_server",
            "it is on another machine and asks for no key",
            "whoever reaches it can read other conversations' cache through `id_slot` and change the \
             server's state; the gateway's keys do not protect it",
            "start it with --api-key and name the variable in `api_key_env`, or let a firewall admit \
             the gateway only",
        )
    })
}

/// `POST /props` (`--props`).
pub(super) fn writable(said: &Said<'_>) -> Option<Finding> {
    let on = said.props.as_ref()?.endpoint_props;
    on.then(|| {
        said.find(
            Info,
            "props_writable",
            "POST /props is switched on",
            "whoever reaches the server may change its global settings; b11434 takes such requests and changes nothing",
            "start it without --props",
        )
    })
}

/// Builds of old, and those with `LLAMA_SERVER_SLOTS_DEBUG` in their environment.
pub(super) fn prompts(said: &Said<'_>) -> Option<Finding> {
    said.shows_prompts.then(|| {
        said.find(
            Warning,
            "slots_show_prompts",
            "/slots shows the text of its slots",
            "whoever reaches the server reads what its users write and are told",
            "start it without LLAMA_SERVER_SLOTS_DEBUG in its environment, or update it",
        )
    })
}

//! One backend by itself.

use super::Severity::{Error, Info, Warning};
use super::said::Said;
use super::{Finding, build, exposed, kv, router, speculation};
use crate::fleet::Asked;

/// Agents' system prompt and tools take 15 to 25 thousand tokens before the first file is read.
const AGENT_CONTEXT: u64 = 32 * 1024;

pub(super) fn examine(said: &Said<'_>, findings: &mut Vec<Finding>) {
    if let Some(finding) = unreachable(said) {
        findings.push(finding);
        return;
    }
    let checks = [
        key,
        props,
        router::examine,
        slots,
        metrics,
        context,
        training,
        single_slot,
        alias,
        tools,
        exposed::to_others,
        exposed::writable,
        exposed::prompts,
        checkpoints,
        kv::examine,
    ];
    findings.extend(checks.iter().filter_map(|check| check(said)));
    findings.extend(build::examine(said));
    findings.extend(speculation::examine(said));
}

/// What keeps it from answering anything else.
fn unreachable(said: &Said<'_>) -> Option<Finding> {
    match &said.survey.health {
        Err(why) => Some(said.find(
            Error,
            "unreachable",
            why,
            "no request can be sent to it",
            "start it, or correct `url`; llama-server listens on 127.0.0.1 unless started with --host",
        )),
        Ok((503, _)) => Some(said.find(
            Warning,
            "loading",
            "/health answers 503",
            "it is loading its model and gets requests when that is done",
            "wait and ask again; if it stays so, read its log",
        )),
        // With --api-prefix, /health needs the key as well; `key` tells.
        Ok((200 | 401 | 403, _)) => None,
        Ok((status, _)) => Some(said.find(
            Error,
            "unhealthy",
            format!("/health answers {status}"),
            "it does not count as up; perhaps it is no llama-server",
            "check `url`, with its path when the server runs with --api-prefix",
        )),
    }
}

fn key(said: &Said<'_>) -> Option<Finding> {
    let refused = |asked: &Asked| matches!(asked, Ok((401 | 403, _)));
    let survey = said.survey;
    let all = [&survey.health, &survey.props, &survey.models];
    all.into_iter().any(refused).then(|| {
        let what = match survey.backend.api_key() {
            Some(_) => "the API key is refused",
            None => "an API key is asked for, and none is configured",
        };
        said.find(
            Error,
            "api_key",
            what,
            "every request to it would fail; it counts as down",
            "put the server's --api-key into the variable that `api_key_env` names",
        )
    })
}

fn props(said: &Said<'_>) -> Option<Finding> {
    let what = match &said.survey.props {
        Ok((200, _)) if said.props.is_some() => return None,
        Ok((401 | 403, _)) => return None,
        // What the router says of it is told instead.
        _ if said.unloaded().is_some() || said.is_unknown() => return None,
        Ok((200, _)) => "/props cannot be read".to_owned(),
        Ok((status, _)) => format!("/props answers {status}"),
        Err(why) => format!("/props: {why}"),
    };
    Some(said.find(
        Warning,
        "no_props",
        what,
        "slots, context and chat template are unknown; prompts are folded and sizes guessed",
        "check `url`, with its path when the server runs with --api-prefix; update an old build",
    ))
}

fn slots(said: &Said<'_>) -> Option<Finding> {
    if let Some(status) = said.unloaded() {
        let off = status.args.iter().any(|arg| arg == "--no-slots");
        return off.then(|| no_slots(said, "/slots is switched off"));
    }
    let what = match &said.survey.slots {
        _ if said.is_unknown() => return None,
        Some(Ok((501 | 404, _))) => "/slots is switched off".to_owned(),
        Some(Ok((200 | 401 | 403, _))) | None => {
            let backend = &said.survey.backend;
            let (configured, told) = (backend.slots(), said.survey.facts.total_slots);
            return match (configured, told) {
                (Some(configured), Some(told)) if configured != told => Some(said.find(
                    Warning,
                    "slot_count",
                    format!("`slots` says {configured}, the server has {told}"),
                    "it gets too many requests at once, or too few",
                    "set `slots: auto`, or the number of --parallel",
                )),
                _ => None,
            };
        }
        Some(Ok((status, _))) => format!("/slots answers {status}"),
        Some(Err(why)) => format!("/slots: {why}"),
    };
    Some(no_slots(said, what))
}

fn no_slots(said: &Said<'_>, what: impl Into<String>) -> Finding {
    said.find(
        Warning,
        "no_slots",
        what,
        "stuck slots cannot be found, nor whether speculation is really on",
        "start the server without --no-slots",
    )
}

fn metrics(said: &Said<'_>) -> Option<Finding> {
    if let Some(status) = said.unloaded() {
        let on = status.args.iter().any(|arg| arg == "--metrics");
        return (!on).then(|| no_metrics(said, "/metrics is switched off"));
    }
    let what = match &said.survey.metrics {
        _ if said.is_unknown() => return None,
        Ok((200 | 401 | 403, _)) => return None,
        Ok((501 | 404, _)) => "/metrics is switched off".to_owned(),
        Ok((status, _)) => format!("/metrics answers {status}"),
        Err(why) => format!("/metrics: {why}"),
    };
    Some(no_metrics(said, what))
}

fn no_metrics(said: &Said<'_>, what: impl Into<String>) -> Finding {
    said.find(
        Warning,
        "no_metrics",
        what,
        "acceptance by draft position and the server's own totals cannot be had",
        "start the server with --metrics",
    )
}

fn context(said: &Said<'_>) -> Option<Finding> {
    let n_ctx = said.survey.facts.n_ctx.filter(|n| *n < AGENT_CONTEXT)?;
    Some(said.find(
        Warning,
        "small_context",
        format!("one slot has a context of {n_ctx} tokens"),
        "coding agents fill 15 to 25 thousand tokens with instructions and tools; they will compact \
         all the time, or be refused",
        "give at least 32768 a slot: raise --ctx-size (without --kv-unified it is divided by \
         --parallel), or lower --parallel",
    ))
}

fn training(said: &Said<'_>) -> Option<Finding> {
    let trained = said.model()?.meta.as_ref()?.n_ctx_train?;
    let n_ctx = said.survey.facts.n_ctx.filter(|n| *n > trained)?;
    Some(said.find(
        Warning,
        "context_beyond_training",
        format!("one slot has a context of {n_ctx} tokens, the model was trained on {trained}"),
        "unless its rope scaling is set for it, the model writes nonsense beyond what it was trained on",
        "lower --ctx-size, or set --rope-scaling as the model's authors say",
    ))
}

fn single_slot(said: &Said<'_>) -> Option<Finding> {
    let slots = said.survey.facts.total_slots;
    (slots == Some(1)).then(|| {
        said.find(
            Info,
            "single_slot",
            "it has one slot",
            "titles, subagents and memory calls of an agent take the slot of its main conversation, which \
             is then read anew unless --cache-ram holds it",
            "start it with --parallel 2 or more, if its memory allows",
        )
    })
}

fn alias(said: &Said<'_>) -> Option<Finding> {
    let alias = said.survey.facts.model_alias.as_deref()?;
    let is_path = alias.ends_with(".gguf") || alias.contains('/');
    is_path.then(|| {
        said.find(
            Info,
            "no_alias",
            format!("its model is named by its file, {alias}"),
            "answers and logs tell the file's place instead of a name",
            "start it with --alias NAME",
        )
    })
}

fn tools(said: &Said<'_>) -> Option<Finding> {
    let caps = &said.survey.facts.chat_template_caps;
    let lacks = [caps.supports_tools, caps.supports_tool_calls].contains(&Some(false));
    lacks.then(|| {
        said.find(
            Error,
            "no_tool_support",
            "its chat template does not support tools",
            "tools and tool_choice are ignored without a word: agents get prose and never a call",
            "start it with --jinja and a --chat-template-file that knows tools, or use another model",
        )
    })
}

/// Seen with Gemma 3 on b11434: of a prompt that went on from its middle 456 of 973 tokens were found with checkpoints,
/// and none without.
fn checkpoints(said: &Said<'_>) -> Option<Finding> {
    let count = said.argument(&["--ctx-checkpoints", "--swa-checkpoints", "-ctxcp"])?;
    (count == "0").then(|| {
        said.find(
            Warning,
            "no_checkpoints",
            "it keeps no checkpoints of its context",
            "a model with a sliding window or a recurrent state reads the whole prompt anew when a conversation goes on \
             from anywhere but its end",
            "start it without --ctx-checkpoints 0",
        )
    })
}

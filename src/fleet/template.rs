//! Learning what a backend's chat template accepts, by letting the backend render tiny transcripts
//! (`POST /apply-template`, llama-server b11434).
//!
//! Templates refuse a conversation (Qwen 3.5: "System message must be at the beginning"), drop a part
//! of it without a word (gpt-oss: later system messages), move it to the top (DeepSeek) or forget
//! earlier reasoning because of it (Qwen 3). Only a template that renders a form where it stands, after
//! the unchanged prompt so far, accepts it: everything else costs the request or the KV cache.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use super::backend::Backend;
use super::probe::Probe;
use super::scrape::question;
use crate::dialect::llama::TemplateRules;

/// Rounds in which learning may fail before it is left at the conservative rules until the template
/// changes: a prompt that suddenly looks different costs every session its cache.
const MAX_TRIES: u8 = 3;

/// What is known of a backend's chat template.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Template {
    /// Digest of the template and of the build that runs it; none where the server shows none.
    pub digest: Option<String>,
    /// What it accepts, once learnt.
    pub rules: Option<TemplateRules>,
}

impl Template {
    /// This knowledge after `/props` showed `texts` (the templates) under `build`: kept while it is
    /// about the same ones.
    pub(super) fn shown(&self, build: Option<&str>, texts: [Option<&str>; 2]) -> Self {
        if texts.iter().all(Option::is_none) {
            return Self::default();
        }
        let mut hash = Sha256::new();
        for text in [build, texts[0], texts[1]] {
            hash.update(text.unwrap_or_default());
            hash.update([0]);
        }
        let digest = hash.finalize();
        let digest: String = digest[..8].iter().map(|b| format!("{b:02x}")).collect();
        Self {
            rules: self
                .rules
                .filter(|_| self.digest.as_deref() == Some(&digest)),
            digest: Some(digest),
        }
    }
}

/// Learns the rules of one backend's template.
#[derive(Debug, Default)]
pub(super) struct Learner {
    digest: Option<String>,
    tries: u8,
}

impl Learner {
    /// Learn what is not known yet. A sleeping server is left asleep: a POST would wake it.
    pub(super) async fn learn(&mut self, probe: &dyn Probe, backend: &Backend, patience: Duration) {
        let facts = backend.facts();
        let template = &facts.template;
        if template.digest.is_none() || template.rules.is_some() || facts.is_sleeping {
            return;
        }
        if self.digest != template.digest {
            self.digest.clone_from(&template.digest);
            self.tries = 0;
        }
        if self.tries >= MAX_TRIES {
            return;
        }
        self.tries += 1;
        match timeout(patience, rules(probe, backend)).await {
            Ok(Ok(rules)) => {
                tracing::info!(backend = %backend.id(), ?rules, "chat template");
                let mut facts = (*facts).clone();
                facts.template.rules = Some(rules);
                backend.set_facts(facts);
            }
            Ok(Err(why)) => self.failed(backend, &why),
            Err(_) => self.failed(backend, &format!("no answer within {patience:?}")),
        }
    }

    fn failed(&self, backend: &Backend, why: &str) {
        if self.tries >= MAX_TRIES {
            tracing::warn!(backend = %backend.id(), why, "chat template unknown: conversations are folded");
        }
    }
}

/// Ask for every rule.
///
/// # Errors
/// Why nothing can be said.
async fn rules(probe: &dyn Probe, backend: &Backend) -> Result<TemplateRules, String> {
    let system = || message("system", "drover-s0");
    let user = |text| message("user", text);
    let opening = [system(), user("drover-a")];
    // Nine letters and digits: the only form that every template takes.
    let tool_turn = working(&["drover000"]);
    let asker = Asker { probe, backend };
    Ok(TemplateRules {
        system_anywhere: asker
            .accepts(
                &opening,
                &[
                    message("system", "drover-q"),
                    message("assistant", "drover-b"),
                    user("drover-c"),
                    message("system", "drover-d"),
                    user("drover-e"),
                ],
            )
            .await?,
        consecutive_users: asker
            .accepts(
                &opening,
                &[
                    user("drover-q"),
                    message("assistant", "drover-b"),
                    user("drover-c"),
                ],
            )
            .await?,
        user_after_tool: asker
            .accepts(
                &tool_turn,
                &[
                    user("drover-q"),
                    message("assistant", "drover-b"),
                    user("drover-c"),
                ],
            )
            .await?,
        assistant_first: asker
            .renders(&[
                system(),
                message("assistant", "drover-q"),
                user("drover-c"),
                message("assistant", "drover-b"),
                user("drover-e"),
            ])
            .await?,
        any_call_id: asker
            .renders(&working(&["toolu_drover_0000000000"]))
            .await?,
        parallel_calls: asker.renders(&working(&["drover001", "drover002"])).await?,
    })
}

/// A conversation with tool calls under way.
fn working(call_ids: &[&str]) -> Vec<Value> {
    let calls = call_ids.iter().map(|id| {
        json!({"id": id, "type": "function",
            "function": {"name": "drover_probe", "arguments": "{\"a\":1}"}})
    });
    let mut messages = vec![
        message("system", "drover-s0"),
        message("user", "drover-a"),
        json!({"role": "assistant", "content": "", "reasoning_content": "drover-r",
            "tool_calls": calls.collect::<Vec<_>>()}),
    ];
    messages.extend(
        call_ids
            .iter()
            .map(|id| json!({"role": "tool", "tool_call_id": id, "content": "drover-t"})),
    );
    messages
}

fn message(role: &str, content: &str) -> Value {
    json!({"role": role, "content": content})
}

struct Asker<'a> {
    probe: &'a dyn Probe,
    backend: &'a Backend,
}

impl Asker<'_> {
    /// Whether `more` may follow `base`: rendered, in its order, after the unchanged prompt of `base`.
    /// Only the first message of `more` is in question; those after it show that the conversation
    /// can go on, and may be rendered however they are.
    async fn accepts(&self, base: &[Value], more: &[Value]) -> Result<bool, String> {
        let Some(before) = self.render(base, false).await? else {
            return Ok(false);
        };
        let whole = [base, more].concat();
        let Some(prompt) = self.render(&whole, true).await? else {
            return Ok(false);
        };
        Ok(extends(&before, &prompt, more))
    }

    /// Whether a conversation is rendered whole and in its order.
    async fn renders(&self, messages: &[Value]) -> Result<bool, String> {
        let prompt = self.render(messages, true).await?;
        Ok(prompt.is_some_and(|prompt| extends("", &prompt, messages)))
    }

    /// The prompt, or none if the template refuses.
    async fn render(&self, messages: &[Value], generate: bool) -> Result<Option<String>, String> {
        let body = json!({
            "model": self.backend.upstream_model().unwrap_or_default(),
            "messages": messages,
            "tools": [{"type": "function", "function": {
                "name": "drover_probe", "description": "d",
                "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}},
            }}],
            "add_generation_prompt": generate,
        });
        let path = question(self.backend, "/apply-template");
        let body = Bytes::from(body.to_string());
        let reply = self.probe.post(self.backend, &path, body).await?;
        match reply.status {
            200 => Ok(serde_json::from_slice::<Rendered>(&reply.body)
                .ok()
                .map(|rendered| rendered.prompt)),
            // Whoever says this speaks of the moment, not of the template.
            400 if is_unloaded(&reply.body) => Err("its model is not loaded".to_owned()),
            status @ (401 | 403 | 408 | 429 | 502..=504) => {
                Err(format!("/apply-template answers {status}"))
            }
            _ => Ok(None),
        }
    }
}

/// What a router says of a model that was pushed out of memory between two questions.
fn is_unloaded(body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(body);
    text.contains("model is not loaded") || text.contains("is not running")
}

#[derive(Deserialize)]
struct Rendered {
    prompt: String,
}

fn extends(before: &str, prompt: &str, more: &[Value]) -> bool {
    let Some(mut rest) = prompt.strip_prefix(before.trim_end()) else {
        return false;
    };
    more.iter().all(|message| {
        let text = message["content"].as_str().unwrap_or_default();
        match rest.split_once(text) {
            Some((_, after)) => {
                rest = after;
                true
            }
            None => false,
        }
    })
}

#[cfg(test)]
mod tests;

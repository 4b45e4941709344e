//! What a backend says about itself in `/props` and `/slots` (llama-server b11434,
//! `tools/server/server-context.cpp`).

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::drafts::DraftCounts;
use super::flags::Flags;
use super::router::Preset;
use super::template::Template;
use super::watchdog::Work;

/// What is known of a backend. Everything is optional: older builds and routers leave things out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// `build_info`, `b<number>-<commit>`.
    pub build: Option<String>,
    /// The name the server gives its model (`--alias`, else the path of the file).
    pub model_alias: Option<String>,
    /// Context of one slot, in tokens.
    pub n_ctx: Option<u64>,
    /// Number of slots.
    pub total_slots: Option<u32>,
    /// What the chat template can express.
    pub chat_template_caps: TemplateCaps,
    /// Which forms of conversation the chat template accepts.
    pub template: Template,
    /// What besides text the model takes.
    pub modalities: Modalities,
    /// Whether the model is unloaded until the next request (`--sleep-idle-seconds`).
    pub is_sleeping: bool,
    /// How its model stands with the router that serves it; none where there is no router.
    pub preset: Option<Preset>,
    /// Whether `/slots` can be read.
    pub has_slots_endpoint: Option<bool>,
    /// Whether `/metrics` can be read.
    pub has_metrics_endpoint: Option<bool>,
    /// Whether speculation is really on, from `/slots`; `/props` cannot tell.
    pub speculative: Option<bool>,
    /// Slots without work when `/slots` was last read.
    pub idle_slots: Option<u32>,
    /// Tokens that the slots held then, at work or not; none before the first task.
    pub kv_tokens: Option<u64>,
    /// Name of the model's file, without its path.
    pub model_file: Option<Arc<str>>,
    /// What it shows of its flags.
    pub flags: Arc<Flags>,
    /// Its own counts of drafts, where they were read.
    pub drafts: Option<Arc<DraftCounts>>,
}

/// `chat_template_caps` of `/props`; `None` where the server does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TemplateCaps {
    /// Tool definitions reach the prompt. Without it `tools` are silently ignored.
    pub supports_tools: Option<bool>,
    /// Tool calls of the history reach the prompt.
    pub supports_tool_calls: Option<bool>,
    /// Several calls in one message.
    pub supports_parallel_tool_calls: Option<bool>,
    /// Messages of role `system`.
    pub supports_system_role: Option<bool>,
    /// Content as a string.
    pub supports_string_content: Option<bool>,
    /// Content as typed parts.
    pub supports_typed_content: Option<bool>,
    /// Tool call arguments as an object instead of a string.
    pub supports_object_arguments: Option<bool>,
    /// Reasoning of earlier messages is kept.
    pub supports_preserve_reasoning: Option<bool>,
    /// `reasoning_effort`.
    pub supports_reasoning_effort: Option<bool>,
}

/// `modalities` of `/props`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Modalities {
    /// Images.
    pub vision: bool,
    /// Sound.
    pub audio: bool,
    /// Video.
    pub video: bool,
}

#[derive(Deserialize)]
struct Props<'a> {
    build_info: Option<String>,
    model_alias: Option<String>,
    model_path: Option<String>,
    model_ftype: Option<String>,
    total_slots: Option<u32>,
    #[serde(default)]
    default_generation_settings: GenerationSettings,
    #[serde(borrow)]
    chat_template: Option<Cow<'a, str>>,
    #[serde(borrow)]
    chat_template_tool_use: Option<Cow<'a, str>>,
    #[serde(default)]
    chat_template_caps: TemplateCaps,
    #[serde(default)]
    modalities: Modalities,
    #[serde(default)]
    is_sleeping: bool,
    endpoint_slots: Option<bool>,
    endpoint_metrics: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct GenerationSettings {
    n_ctx: Option<u64>,
    params: Option<Map<String, Value>>,
}

/// What `/slots` answers.
#[derive(Deserialize)]
pub(super) struct Slots(Vec<Slot>);

#[derive(Deserialize)]
struct Slot {
    #[serde(default)]
    id: u32,
    n_ctx: Option<u64>,
    speculative: Option<bool>,
    is_processing: bool,
    /// What it holds: the prompt and what was generated from it.
    n_prompt_tokens: Option<u64>,
    #[serde(default)]
    id_task: i64,
    #[serde(default)]
    n_prompt_tokens_processed: u64,
    #[serde(default)]
    next_token: Vec<NextToken>,
}

#[derive(Deserialize)]
struct NextToken {
    #[serde(default)]
    n_decoded: u64,
}

impl Slots {
    /// # Errors
    /// The body is not what `/slots` answers.
    pub(super) fn parse(body: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(body)
    }

    /// Whether any of them speculates; none: they do not say.
    pub(super) fn speculative(&self) -> Option<bool> {
        let said = || self.0.iter().filter_map(|slot| slot.speculative);
        said().next()?;
        Some(said().any(|on| on))
    }

    /// What those that are busy work on.
    pub(super) fn busy(&self) -> Vec<Work> {
        let busy = self.0.iter().filter(|slot| slot.is_processing);
        busy.map(|slot| Work {
            slot: slot.id,
            task: slot.id_task,
            done: slot
                .next_token
                .iter()
                .fold(slot.n_prompt_tokens_processed, |done, next| {
                    done.saturating_add(next.n_decoded)
                }),
        })
        .collect()
    }

    /// How many have begun to write an answer.
    pub(super) fn generating(&self) -> usize {
        let writes = |slot: &&Slot| slot.next_token.iter().any(|next| next.n_decoded > 0);
        let busy = self.0.iter().filter(|slot| slot.is_processing);
        busy.filter(writes).count()
    }

    /// The last task of each that has had one (the first of all counts as none), where they say.
    pub(super) fn tasks(&self) -> impl Iterator<Item = (u32, i64)> {
        let had = self.0.iter().filter(|slot| slot.id_task > 0);
        had.map(|slot| (slot.id, slot.id_task))
    }

    /// How many are idle.
    pub(super) fn idle(&self) -> usize {
        self.0.iter().filter(|slot| !slot.is_processing).count()
    }
}

impl Facts {
    /// These facts with what `/props` says now; what only `/slots` tells is kept while the server is
    /// the same build with the same model.
    ///
    /// # Errors
    /// The body is not what `/props` answers.
    pub(super) fn with_props(&self, body: &[u8]) -> Result<Self, serde_json::Error> {
        let props: Props<'_> = serde_json::from_slice(body)?;
        let same = self.build == props.build_info && self.model_alias == props.model_alias;
        // A router answers for itself, with a context of 0.
        let n_ctx = props.default_generation_settings.n_ctx.filter(|n| *n > 0);
        let texts = [&props.chat_template, &props.chat_template_tool_use];
        let flags = Flags::of(
            props.default_generation_settings.params.as_ref(),
            &[
                ("n_ctx", n_ctx.map(|n| n.to_string())),
                ("slots", props.total_slots.map(|n| n.to_string())),
                ("quantization", props.model_ftype),
                (
                    "chat_template",
                    props.chat_template.as_deref().map(Flags::digest),
                ),
            ],
        );
        let file = |path: &str| path.rsplit(['/', '\\']).next().map(Into::into);
        let template = self
            .template
            .shown(props.build_info.as_deref(), texts.map(Option::as_deref));
        Ok(Self {
            template,
            build: props.build_info,
            model_alias: props.model_alias,
            n_ctx,
            // None at all is nothing that a request could be given.
            total_slots: props.total_slots.filter(|slots| *slots > 0),
            chat_template_caps: props.chat_template_caps,
            modalities: props.modalities,
            is_sleeping: props.is_sleeping,
            preset: self.preset.map(|_| match props.is_sleeping {
                true => Preset::Sleeping,
                false => Preset::Loaded,
            }),
            has_slots_endpoint: props.endpoint_slots,
            has_metrics_endpoint: props.endpoint_metrics,
            speculative: self.speculative.filter(|_| same),
            idle_slots: self.idle_slots.filter(|_| same),
            kv_tokens: self.kv_tokens.filter(|_| same),
            model_file: props.model_path.as_deref().and_then(file),
            flags: match *self.flags == flags {
                true => Arc::clone(&self.flags),
                false => Arc::new(flags),
            },
            drafts: self.drafts.clone().filter(|_| same),
        })
    }

    /// Number of the build, from `b<number>-<commit>`.
    pub fn build_number(&self) -> Option<u32> {
        let build = self.build.as_deref()?.strip_prefix('b')?;
        build.split('-').next()?.parse().ok()
    }

    /// Whether this is about the same build of the same model as `other`.
    pub(super) fn is_same_server(&self, other: &Self) -> bool {
        (&self.build, &self.model_alias) == (&other.build, &other.model_alias)
    }

    /// Slots at work when `/slots` was last read.
    pub fn busy_slots(&self) -> Option<u32> {
        Some(self.total_slots?.saturating_sub(self.idle_slots?))
    }

    /// These facts with what `/slots` says now.
    pub(super) fn with_slots(&self, slots: &Slots) -> Self {
        let (idle, speculative) = (slots.idle(), slots.speculative());
        let Slots(slots) = slots;
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self {
            n_ctx: slots.iter().filter_map(|s| s.n_ctx).min().or(self.n_ctx),
            total_slots: Some(count(slots.len())).filter(|slots| *slots > 0),
            idle_slots: Some(count(idle)),
            kv_tokens: slots
                .iter()
                .filter_map(|s| s.n_prompt_tokens)
                .reduce(u64::saturating_add),
            speculative,
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests;

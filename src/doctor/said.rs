//! What a backend says, read from its answers.

use bytes::Bytes;
use serde::Deserialize;

use super::{Finding, Severity};
use crate::fleet::{Asked, Survey};

/// One backend's answers, read.
#[derive(Debug)]
pub struct Said<'a> {
    pub(super) survey: &'a Survey,
    pub(super) props: Option<Props>,
    pub(super) models: Vec<Model>,
    /// The speculation types that tasks ran with; known once a slot has had one.
    pub(super) spec_types: Option<String>,
    /// `/slots` shows what is said.
    pub(super) shows_prompts: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Props {
    pub(super) role: Option<String>,
    pub(super) cors_proxy_enabled: bool,
    pub(super) endpoint_props: bool,
    pub(super) chat_template: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Model {
    pub(super) id: String,
    #[serde(default)]
    aliases: Vec<String>,
    #[serde(default)]
    pub(super) meta: Option<Meta>,
    /// Router mode tells how each model is started.
    #[serde(default)]
    pub(super) status: Option<Status>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Meta {
    pub(super) n_vocab: Option<u64>,
    pub(super) n_params: Option<u64>,
    pub(super) ftype: Option<String>,
    pub(super) n_ctx_train: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    value: String,
    pub(super) args: Vec<String>,
    pub(super) failed: bool,
    pub(super) exit_code: Option<i64>,
}

impl Model {
    pub(super) fn is_called(&self, name: &str) -> bool {
        self.id == name || self.aliases.iter().any(|alias| alias == name)
    }
}

#[derive(Deserialize)]
struct Models {
    data: Vec<Model>,
}

#[derive(Deserialize)]
struct Slot {
    prompt: Option<String>,
    #[serde(default)]
    params: Params,
}

#[derive(Default, Deserialize)]
struct Params {
    #[serde(rename = "speculative.types")]
    types: Option<String>,
}

impl<'a> Said<'a> {
    pub(super) fn of(survey: &'a Survey) -> Self {
        let models: Option<Models> = body(&survey.models);
        let slots: Option<Vec<Slot>> = survey.slots.as_ref().and_then(body);
        let slots = slots.unwrap_or_default();
        let has_text = |slot: &Slot| slot.prompt.as_ref().is_some_and(|text| !text.is_empty());
        let shows_prompts = slots.iter().any(has_text);
        let types = slots.into_iter().find_map(|slot| slot.params.types);
        Self {
            survey,
            props: body(&survey.props),
            models: models.map(|models| models.data).unwrap_or_default(),
            spec_types: types,
            shows_prompts,
        }
    }

    pub(super) fn pool(&self) -> &str {
        self.survey.backend.pool()
    }

    pub(super) fn name(&self) -> &str {
        self.survey.backend.id().as_str()
    }

    pub(super) fn is_router(&self) -> bool {
        let role = self.props.as_ref().and_then(|props| props.role.as_deref());
        role == Some("router")
    }

    /// Whether it lists models that it may serve, not the one that it serves.
    pub(super) fn lists_many(&self) -> bool {
        let has_status = |model: &Model| model.status.is_some();
        self.models.len() > 1 || self.models.iter().any(has_status)
    }

    /// Whether it is a router that has no such model.
    pub(super) fn is_unknown(&self) -> bool {
        let wanted = self.survey.backend.upstream_model();
        wanted.is_some() && self.lists_many() && self.model().is_none()
    }

    /// What its router says of its model, where that is not in memory.
    pub(super) fn unloaded(&self) -> Option<&Status> {
        let status = self.model()?.status.as_ref()?;
        (status.value == "unloaded").then_some(status)
    }

    /// The model it serves, of those it lists.
    pub(super) fn model(&self) -> Option<&Model> {
        match self.survey.backend.upstream_model() {
            Some(wanted) if self.lists_many() => {
                self.models.iter().find(|model| model.is_called(wanted))
            }
            _ => self.models.first(),
        }
    }

    /// What its router starts it with; none where there is no router.
    pub(super) fn args(&self) -> Option<&[String]> {
        let status = self.model()?.status.as_ref()?;
        Some(&status.args)
    }

    /// What is given there for the option of one of these names.
    pub(super) fn argument(&self, names: &[&str]) -> Option<&str> {
        let args = self.args()?;
        let at = args.iter().position(|arg| names.contains(&arg.as_str()))?;
        args.get(at + 1).map(String::as_str)
    }

    pub(super) fn find(
        &self,
        severity: Severity,
        id: &'static str,
        what: impl Into<String>,
        why: &'static str,
        remedy: &'static str,
    ) -> Finding {
        Finding {
            severity,
            id,
            pool: self.pool().to_owned(),
            backend: Some(self.name().to_owned()),
            what: what.into(),
            why,
            remedy,
        }
    }
}

fn body<T: for<'de> Deserialize<'de>>(asked: &Asked) -> Option<T> {
    let read = |body: &Bytes| serde_json::from_slice(body).ok();
    match asked {
        Ok((200, body)) => read(body),
        _ => None,
    }
}

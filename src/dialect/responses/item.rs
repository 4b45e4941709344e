//! The items of an answer as a client gets them.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::turn::{ToolForm, ToolKind};

/// An item, as far as it has come.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) id: String,
    pub(super) status: Status,
    pub(super) body: Body,
}

/// What it is.
#[derive(Debug)]
pub(super) enum Body {
    Message {
        text: String,
        /// One for each token, when asked for.
        logprobs: Vec<Box<RawValue>>,
    },
    Reasoning {
        text: String,
    },
    Call(Call),
}

/// A call of one of the client's tools.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) id: String,
    pub(super) form: ToolForm,
    /// JSON text, as the model wrote it.
    pub(super) arguments: String,
}

/// How far an item, or an answer, has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    InProgress,
    Completed,
    Incomplete,
    Failed,
}

impl Body {
    /// Begins the ids of its kind.
    pub(super) fn id_prefix(&self) -> &'static str {
        match self {
            Self::Message { .. } => "msg",
            Self::Reasoning { .. } => "rs",
            Self::Call(call) => match call.form.kind {
                ToolKind::Function => "fc",
                ToolKind::Custom => "ctc",
                ToolKind::LocalShell => "lsh",
            },
        }
    }
}

impl Call {
    /// The text for a tool that takes any; the arguments as they are when they do not hold one.
    pub(super) fn input(&self) -> Cow<'_, str> {
        #[derive(Deserialize)]
        struct Freeform {
            input: String,
        }
        match serde_json::from_str::<Freeform>(&self.arguments) {
            Ok(freeform) => Cow::Owned(freeform.input),
            Err(_) => Cow::Borrowed(&self.arguments),
        }
    }
}

/// A plain function as the client calls it.
pub(super) fn plain(name: &str) -> ToolForm {
    ToolForm {
        kind: ToolKind::Function,
        namespace: None,
        name: name.to_owned(),
    }
}

/// The tokens' probabilities in a chunk, owned.
pub(super) fn owned_logprobs(chunk: Option<&RawValue>) -> Vec<Box<RawValue>> {
    let tokens = chunk.map(crate::dialect::openai::logprob_tokens);
    tokens
        .into_iter()
        .flatten()
        .map(ToOwned::to_owned)
        .collect()
}

//! Items in the protocol's words.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::SEAL;
use super::item::{Body, Call, Item, Status};
use crate::turn::{AnswerForm, ToolKind};

/// An item in the protocol's words.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum WireItem<'a> {
    Message {
        id: &'a str,
        status: Status,
        role: &'static str,
        content: Vec<WirePart<'a>>,
    },
    Reasoning {
        id: &'a str,
        status: Status,
        summary: Vec<WirePart<'a>>,
        content: Vec<WirePart<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        encrypted_content: Option<String>,
    },
    FunctionCall {
        id: &'a str,
        status: Status,
        call_id: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        namespace: Option<&'a str>,
        name: &'a str,
        arguments: &'a str,
    },
    CustomToolCall {
        id: &'a str,
        status: Status,
        call_id: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        namespace: Option<&'a str>,
        name: &'a str,
        input: Cow<'a, str>,
    },
    LocalShellCall {
        id: &'a str,
        status: Status,
        call_id: &'a str,
        action: Action,
    },
}

/// A part of a message or of reasoning.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[expect(clippy::enum_variant_names, reason = "the names of the protocol")]
pub(super) enum WirePart<'a> {
    OutputText {
        text: &'a str,
        annotations: [(); 0],
        logprobs: &'a [Box<RawValue>],
    },
    ReasoningText {
        text: &'a str,
    },
    SummaryText {
        text: &'a str,
    },
}

#[derive(Serialize)]
pub(super) struct Action {
    r#type: &'static str,
    command: Vec<String>,
    env: Environment,
    #[serde(skip_serializing_if = "Option::is_none")]
    working_directory: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_ms: Option<u64>,
}

#[derive(Serialize)]
struct Environment {}

impl Item {
    /// The item as it is now.
    pub(super) fn wire(&self, form: &AnswerForm) -> WireItem<'_> {
        let (id, status) = (self.id.as_str(), self.status);
        match &self.body {
            Body::Message { .. } => WireItem::Message {
                id,
                status,
                role: "assistant",
                content: self.part(form).into_iter().collect(),
            },
            Body::Reasoning { text } => {
                let part = self.part(form).into_iter().collect();
                let (summary, content) = if form.summary {
                    (part, Vec::new())
                } else {
                    (Vec::new(), part)
                };
                let sealed = form.sealed_reasoning && status != Status::InProgress;
                WireItem::Reasoning {
                    id,
                    status,
                    summary,
                    content,
                    encrypted_content: sealed.then(|| format!("{SEAL}{text}")),
                }
            }
            Body::Call(call) => call.wire(id, status),
        }
    }

    /// Its only part; none while nothing is in it.
    pub(super) fn part(&self, form: &AnswerForm) -> Option<WirePart<'_>> {
        match &self.body {
            Body::Message { text, .. } | Body::Reasoning { text } if text.is_empty() => None,
            Body::Message { text, logprobs } => Some(WirePart::OutputText {
                text,
                annotations: [],
                logprobs,
            }),
            Body::Reasoning { text } if form.summary => Some(WirePart::SummaryText { text }),
            Body::Reasoning { text } => Some(WirePart::ReasoningText { text }),
            Body::Call(_) => None,
        }
    }
}

impl Call {
    fn action(&self) -> Action {
        #[derive(Default, Deserialize)]
        struct Arguments {
            #[serde(default)]
            command: Vec<String>,
            working_directory: Option<String>,
            timeout_ms: Option<u64>,
        }
        let given: Arguments = serde_json::from_str(&self.arguments).unwrap_or_default();
        Action {
            r#type: "exec",
            command: given.command,
            env: Environment {},
            working_directory: given.working_directory,
            timeout_ms: given.timeout_ms,
        }
    }

    fn wire<'a>(&'a self, id: &'a str, status: Status) -> WireItem<'a> {
        let call_id = self.id.as_str();
        let (namespace, name) = (self.form.namespace.as_deref(), self.form.name.as_str());
        match self.form.kind {
            ToolKind::Function => WireItem::FunctionCall {
                id,
                status,
                call_id,
                namespace,
                name,
                arguments: &self.arguments,
            },
            ToolKind::Custom => WireItem::CustomToolCall {
                id,
                status,
                call_id,
                namespace,
                name,
                input: self.input(),
            },
            ToolKind::LocalShell => WireItem::LocalShellCall {
                id,
                status,
                call_id,
                action: self.action(),
            },
        }
    }
}

impl WirePart<'_> {
    /// The part before anything is in it.
    pub(super) fn empty(body: &Body, form: &AnswerForm) -> Option<WirePart<'static>> {
        match body {
            Body::Message { .. } => Some(WirePart::OutputText {
                text: "",
                annotations: [],
                logprobs: &[],
            }),
            Body::Reasoning { .. } if form.summary => Some(WirePart::SummaryText { text: "" }),
            Body::Reasoning { .. } => Some(WirePart::ReasoningText { text: "" }),
            Body::Call(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::item::plain;
    use super::*;
    use crate::dialect::json;
    use crate::turn::ToolForm;

    fn call(kind: ToolKind, arguments: &str) -> String {
        let form = ToolForm { kind, ..plain("t") };
        let call = Call {
            id: "c".into(),
            form,
            arguments: arguments.into(),
        };
        let item = Item {
            id: "i".into(),
            status: Status::Completed,
            body: Body::Call(call),
        };
        json::raw(&item.wire(&AnswerForm::default()))
            .get()
            .to_owned()
    }

    #[test]
    fn a_call_has_the_form_the_client_knows() {
        assert_eq!(
            call(ToolKind::Function, "{\"a\" : 1}"),
            r#"{"type":"function_call","id":"i","status":"completed","call_id":"c","name":"t","arguments":"{\"a\" : 1}"}"#
        );
        assert_eq!(
            call(ToolKind::Custom, r#"{"input":"a\n\"b\""}"#),
            r#"{"type":"custom_tool_call","id":"i","status":"completed","call_id":"c","name":"t","input":"a\n\"b\""}"#
        );
        assert_eq!(
            call(
                ToolKind::LocalShell,
                r#"{"command":["ls","-l"],"working_directory":"/","timeout_ms":5}"#
            ),
            r#"{"type":"local_shell_call","id":"i","status":"completed","call_id":"c","action":{"type":"exec","command":["ls","-l"],"env":{},"working_directory":"/","timeout_ms":5}}"#
        );
    }

    #[test]
    fn what_does_not_hold_a_text_is_shown_as_it_is() {
        assert!(call(ToolKind::Custom, r#"{"input":"a"#).contains(r#""input":"{\"input\":\"a""#));
        assert!(call(ToolKind::LocalShell, "[").contains(r#""command":[]"#));
    }

    #[test]
    fn reasoning_goes_where_the_client_wants_it() {
        let item = Item {
            id: "i".into(),
            status: Status::Completed,
            body: Body::Reasoning { text: "hm".into() },
        };
        let wire = |summary, sealed_reasoning| {
            let form = AnswerForm {
                summary,
                sealed_reasoning,
                ..AnswerForm::default()
            };
            json::raw(&item.wire(&form)).get().to_owned()
        };
        assert!(
            wire(false, false)
                .ends_with(r#""summary":[],"content":[{"type":"reasoning_text","text":"hm"}]}"#)
        );
        assert!(wire(true, true).ends_with(
            r#""summary":[{"type":"summary_text","text":"hm"}],"content":[],"encrypted_content":"drover-reasoning:hm"}"#
        ));
    }
}

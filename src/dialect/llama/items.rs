//! A transcript in the form llama-server's templates accept: flattened, healed and folded.
//!
//! Every rule looks only at what came before a message, never at what follows: the prompt of a turn
//! stays a prefix of the next turn's prompt, which is what the KV cache lives on.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use super::{call_id, serial::one_call_each};
use crate::dialect::json;
use crate::turn::{Content, Image, Message, Part, Role, ToolCall, ToolResult};

/// What a chat template accepts beyond the plain alternation of roles. All false is what every
/// template accepts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TemplateRules {
    /// System messages after the first message.
    pub system_anywhere: bool,
    /// Two user messages in a row.
    pub consecutive_users: bool,
    /// A user message right after tool results.
    pub user_after_tool: bool,
    /// An assistant's message before any of a user.
    pub assistant_first: bool,
    /// Ids of tool calls in any form. Mistral's templates insist on nine letters and digits.
    pub any_call_id: bool,
    /// Several calls in one message. Llama 3's templates render one, and refuse more.
    pub parallel_calls: bool,
}

impl TemplateRules {
    /// What the strictest templates accept, and therefore every one.
    pub const NONE: Self = Self {
        system_anywhere: false,
        consecutive_users: false,
        user_after_tool: false,
        assistant_first: false,
        any_call_id: false,
        parallel_calls: false,
    };
    /// What the most lenient templates accept.
    pub const ALL: Self = Self {
        system_anywhere: true,
        consecutive_users: true,
        user_after_tool: true,
        assistant_first: true,
        any_call_id: true,
        parallel_calls: true,
    };
}

/// One element of the upstream's `messages`.
#[derive(Clone, Debug)]
pub(super) struct Item<'a> {
    pub(super) role: Role,
    /// The client's own bytes, as long as they say what the other fields say.
    pub(super) verbatim: Option<&'a str>,
    pub(super) pieces: Vec<Piece<'a>>,
    pub(super) thinking: String,
    pub(super) calls: Vec<Call<'a>>,
    pub(super) call_id: Option<Cow<'a, str>>,
}

/// A piece of content.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Piece<'a> {
    Text {
        text: Cow<'a, str>,
    },
    ImageUrl {
        image_url: ImageUrl<'a>,
    },
    /// Of a kind unknown here, as the client wrote it.
    #[serde(untagged)]
    Other(&'a RawValue),
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct ImageUrl<'a> {
    url: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
}

/// A tool call of the history.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Call<'a> {
    pub(super) id: Cow<'a, str>,
    r#type: &'static str,
    function: Function<'a>,
}

#[derive(Clone, Debug, Serialize)]
struct Function<'a> {
    name: &'a str,
    arguments: Cow<'a, str>,
}

/// The messages as a backend gets them. `vision: false` means that the model cannot see images;
/// they are replaced by a note, since a request with one would fail, and with it every later turn
/// of the conversation.
pub(super) fn items<'a>(
    messages: impl Iterator<Item = &'a Message>,
    rules: TemplateRules,
    vision: bool,
) -> Vec<Item<'a>> {
    let mut items: Vec<Item<'a>> = Vec::with_capacity(messages.size_hint().0);
    for message in messages {
        for item in flatten(message, vision) {
            add(&mut items, item, rules);
        }
    }
    match rules.parallel_calls {
        true => items,
        false => one_call_each(items),
    }
}

/// A message of ours is one of llama-server's, except that every tool result is one of its own.
fn flatten(message: &Message, vision: bool) -> impl Iterator<Item = Item<'_>> {
    let results = message.parts().iter().filter_map(move |part| match part {
        Part::ToolResult(result) => Some(result_item(result, message, vision)),
        _ => None,
    });
    let only_results = message.role() == Role::Tool
        || (!message.parts().is_empty()
            && message
                .parts()
                .iter()
                .all(|part| matches!(part, Part::ToolResult(_))));
    results.chain((!only_results).then(|| speech_item(message, vision)))
}

fn result_item<'a>(result: &'a ToolResult, message: &'a Message, vision: bool) -> Item<'a> {
    let mut healthy = true;
    let mut pieces = Vec::with_capacity(result.content.len());
    for content in &result.content {
        pieces.push(match content {
            Content::Text(text) => Piece::text(text),
            Content::Image(image) => Piece::image(image, vision, &mut healthy),
        });
    }
    if result.is_error && !says_error(&pieces) {
        pieces.insert(0, Piece::text("Error:"));
    }
    Item {
        role: Role::Tool,
        verbatim: message.verbatim().map(|raw| raw.get()).filter(|_| healthy),
        pieces,
        thinking: String::new(),
        calls: Vec::new(),
        call_id: Some(Cow::Borrowed(&result.call_id)),
    }
}

/// llama-server knows no `is_error`; most tools say so themselves.
fn says_error(pieces: &[Piece<'_>]) -> bool {
    let Some(Piece::Text { text }) = pieces.first() else {
        return false;
    };
    let start: String = text
        .chars()
        .take(40)
        .collect::<String>()
        .to_ascii_lowercase();
    start.contains("error")
}

fn speech_item(message: &Message, vision: bool) -> Item<'_> {
    let mut healthy = true;
    let mut item = Item::empty(message.role());
    item.pieces.reserve_exact(message.parts().len());
    for part in message.parts() {
        match part {
            Part::Text(text) => item.pieces.push(Piece::text(text)),
            Part::Image(image) => item.pieces.push(Piece::image(image, vision, &mut healthy)),
            Part::Thinking(text) => item.thinking.push_str(text),
            Part::ToolCall(call) => item.calls.push(Call::new(call, &mut healthy)),
            Part::Other(raw) => item.pieces.extend(Piece::other(raw)),
            Part::ToolResult(_) => {}
        }
    }
    item.verbatim = message.verbatim().map(|raw| raw.get()).filter(|_| healthy);
    item
}

/// Append `item`, folded into the one before it where the template would refuse it as it is.
fn add<'a>(items: &mut Vec<Item<'a>>, mut item: Item<'a>, rules: TemplateRules) {
    let leading = items.iter().all(|before| before.role == Role::System);
    if item.role == Role::System && !leading && !rules.system_anywhere {
        item.become_user();
    }
    if item.role == Role::Assistant && leading && !rules.assistant_first {
        items.push(Item::opening());
    }
    if !rules.any_call_id {
        item.shorten_call_ids();
    }
    let Some(last) = items.last_mut() else {
        return items.push(item);
    };
    let folds = match (last.role, item.role) {
        (Role::System, Role::System) => leading && !rules.system_anywhere,
        (Role::User, Role::User) => !rules.consecutive_users,
        (Role::Tool, Role::User) => !rules.user_after_tool,
        // llama-server itself refuses two at the end, and templates that insist on alternation any.
        (Role::Assistant, Role::Assistant) => true,
        _ => false,
    };
    if folds {
        last.verbatim = None;
        last.pieces.append(&mut item.pieces);
        last.calls.append(&mut item.calls);
        last.thinking.push_str(&item.thinking);
    } else {
        items.push(item);
    }
}

impl<'a> Item<'a> {
    pub(super) fn empty(role: Role) -> Self {
        Self {
            role,
            verbatim: None,
            pieces: Vec::new(),
            thinking: String::new(),
            calls: Vec::new(),
            call_id: None,
        }
    }

    /// What stands for a user's message where a conversation begins with the assistant's.
    fn opening() -> Self {
        let mut item = Self::empty(Role::User);
        item.pieces.push(Piece::text("(The conversation goes on.)"));
        item
    }

    /// What stands for the result of a call that has none, where another call must not follow.
    pub(super) fn missing_result(call_id: Cow<'a, str>) -> Self {
        let mut item = Self::empty(Role::Tool);
        item.pieces.push(Piece::text("(no result)"));
        item.call_id = Some(call_id);
        item
    }

    /// Give calls and their results ids of nine letters and digits, the same for the same id.
    fn shorten_call_ids(&mut self) {
        let ids = self.calls.iter_mut().map(|call| &mut call.id);
        for id in ids.chain(self.call_id.as_mut()) {
            if let Some(short) = call_id::shortened(id) {
                *id = Cow::Owned(short);
                self.verbatim = None;
            }
        }
    }

    /// A system message in the middle of a conversation is a reminder from the application.
    fn become_user(&mut self) {
        self.role = Role::User;
        self.verbatim = None;
        for piece in &mut self.pieces {
            if let Piece::Text { text } = piece {
                *text = Cow::Owned(format!("<system-reminder>\n{text}\n</system-reminder>"));
            }
        }
    }

    /// The content as one string, where it has no images: the form every template understands.
    pub(super) fn plain(&self) -> Option<Cow<'_, str>> {
        match self.pieces.as_slice() {
            [] => Some(Cow::Borrowed("")),
            [Piece::Text { text }] => Some(Cow::Borrowed(text)),
            pieces => {
                let mut texts = Vec::with_capacity(pieces.len());
                for piece in pieces {
                    let Piece::Text { text } = piece else {
                        return None;
                    };
                    texts.push(&**text);
                }
                Some(Cow::Owned(texts.join("\n\n")))
            }
        }
    }
}

impl<'a> Piece<'a> {
    fn text(text: &'a str) -> Self {
        Self::Text {
            text: Cow::Borrowed(text),
        }
    }

    fn other(raw: &'a str) -> Option<Self> {
        serde_json::from_str(raw).ok().map(Self::Other)
    }

    fn image(image: &'a Image, vision: bool, healthy: &mut bool) -> Self {
        if !vision {
            *healthy = false;
            return Self::text("[An image was here. This model cannot see images.]");
        }
        let detail = image.detail.as_deref();
        Self::ImageUrl {
            image_url: ImageUrl {
                url: &image.data_url,
                detail,
            },
        }
    }
}

impl<'a> Call<'a> {
    /// llama-server parses the arguments of past calls for most templates and answers 500 to what
    /// is no JSON object, for ever, since the call stays in the history. Nested deeply enough they
    /// exhaust its stack, which ends the process.
    fn new(call: &'a ToolCall, healthy: &mut bool) -> Self {
        let arguments = match healed(&call.arguments) {
            None => Cow::Borrowed(call.arguments.as_str()),
            Some(healed) => {
                *healthy = false;
                Cow::Owned(healed)
            }
        };
        let function = Function {
            name: &call.name,
            arguments,
        };
        Self {
            id: Cow::Borrowed(&call.id),
            r#type: "function",
            function,
        }
    }
}

/// Arguments that are an object already, or an object that shows what was there instead.
fn healed(arguments: &str) -> Option<String> {
    if json::is_sound_object(arguments) {
        return None;
    }
    let trimmed = arguments.trim();
    if trimmed.is_empty() || trimmed == "null" {
        return Some("{}".to_owned());
    }
    #[derive(Serialize)]
    struct Malformed<'a> {
        malformed_arguments: &'a str,
    }
    Some(
        json::raw(&Malformed {
            malformed_arguments: arguments,
        })
        .get()
        .to_owned(),
    )
}

//! The one internal form of a conversation turn, shared by every client dialect.
//!
//! A dialect decodes a client's request into a [`Turn`]; the upstream dialect encodes it for
//! llama-server and decodes the answer into [`Event`]s; the client's dialect encodes those again.
//! Nothing here knows about sockets.

mod answer;
mod error;
mod event;
mod form;
mod injected;
mod message;
mod name;
mod request;
mod text;

pub use answer::{Answer, Choice};
pub use error::{Overload, TurnError};
pub use event::{Delta, Event, Stop, Timings, Usage};
pub use form::{AnswerForm, ToolForm, ToolKind};
pub use injected::{human_text, is_summary};
pub use message::{Content, Image, Message, Part, Role, ToolCall, ToolResult};
pub use name::folded_name;
pub use request::{Extra, Tool, ToolChoice, Turn};
pub use text::floor;

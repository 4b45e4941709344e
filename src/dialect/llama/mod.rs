//! The upstream dialect: what llama-server is sent and what it answers.
//!
//! Facts are those of llama.cpp b11434 (`tools/server`), observed on the running server.

mod call_id;
mod count;
mod decode;
mod encode;
mod fault;
mod fields;
mod first;
mod items;
mod serial;
mod tool;

pub use count::{counted, text_body};
pub use decode::{ChunkDecoder, Upstream};
pub use encode::{Ask, SPEC_N_MAX, Target, chat_body, count_body};
pub use fault::{Fault, http_fault, stream_fault};
pub use fields::{REMOTE_MEDIA, check, forward, is_forwardable, names_remote_media};
pub use first::{FirstWord, Word};
pub use items::TemplateRules;
pub use tool::function;

//! OpenAI Chat Completions, as its SDKs and the agents built on them speak it.

mod decode;
mod encode;
mod messages;
mod shared;
mod tools;

pub use decode::decode;
pub use encode::{StreamEncoder, render};
pub(super) use shared::{StreamOptions, join_logprobs, logprob_tokens};
pub(super) use tools::choice_by_word;

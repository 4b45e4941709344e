//! OpenAI Chat Completions, as its SDKs and the agents built on them speak it.

mod decode;
mod encode;
mod messages;
mod tools;

pub use decode::decode;
pub use encode::{StreamEncoder, render};

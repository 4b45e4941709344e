//! OpenAI Responses, as Codex and the official SDKs speak it.
//!
//! Nothing is stored: a client sends its whole conversation with every turn, as Codex does
//! (`store: false`). What refers to stored state is refused by name.

mod choice;
mod content;
mod decode;
mod echo;
mod input;
mod item;
mod names;
mod object;
mod output;
mod stream;
mod tools;
mod wire;
mod writer;

pub use decode::decode;
pub use object::render;
pub use stream::StreamEncoder;

/// Begins the `encrypted_content` of our reasoning items. OpenAI keeps reasoning from its clients;
/// here the text is the client's already, and the field only has to bring it back.
const SEAL: &str = "drover-reasoning:";

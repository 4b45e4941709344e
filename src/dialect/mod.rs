//! Protocols, as pure conversions: the clients' dialects on one side, llama-server's on the other.

pub mod error;
pub mod json;
pub mod llama;
pub mod openai;
pub mod relay;
pub mod sse;

/// A client protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// OpenAI Chat Completions, and the older paths relayed in its shapes.
    OpenAi,
}

impl Dialect {
    /// Name in logs and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
        }
    }
}

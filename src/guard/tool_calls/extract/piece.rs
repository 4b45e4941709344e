//! What the extractor makes of a text.

/// A piece of the model's visible text, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Ordinary text.
    Text(String),
    /// A whole call.
    Call(TextualCall),
    /// A call whose end is missing: the token limit cut it, or the answer ended inside a value.
    Truncated(TextualCall),
    /// Remains of a call that cannot be read, or of the text around one.
    Leftover(String),
}

/// A tool call written as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextualCall {
    /// Name as written; it resolves to an offered tool.
    pub name: String,
    /// Arguments as JSON text where the family has JSON or a form that maps to it; otherwise, and
    /// when they are damaged, the text of the envelope's argument part as it stands.
    pub arguments: String,
    /// The way of writing.
    pub family: Family,
    /// The source text: texts and raws in order are exactly what the model wrote.
    pub raw: String,
}

/// Ways models write tool calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// JSON in tags: Hermes, Qwen 2.5 and 3, Granite, Nemotron, Command R, Jamba.
    Hermes,
    /// `<function=NAME><parameter=K>V`: Qwen 3 Coder, Qwen 3.5, Nemotron 3; Llama's `<function=NAME>{json}`.
    QwenCoder,
    /// Gemma's `<|tool_call>call:NAME{…}<tool_call|>`.
    Gemma,
    /// Llama's `<|python_tag|>` and bare JSON.
    Llama,
    /// Mistral's `[TOOL_CALLS]`.
    Mistral,
    /// DeepSeek's token-delimited calls.
    DeepSeek,
    /// Kimi's tool-call sections.
    Kimi,
    /// GLM's `<arg_key>` and `<arg_value>`.
    Glm,
    /// MiniMax's `<minimax:tool_call>`.
    MiniMax,
    /// `<invoke name="…">` as Anthropic's models and DeepSeek 3.2 write it.
    Invoke,
    /// Leftovers of gpt-oss' harmony format.
    Harmony,
    /// Functionary's `>>>NAME`.
    Functionary,
    /// LFM2's `[NAME(k=v)]` between tokens.
    Pythonic,
    /// A whole answer that is one JSON code block.
    Fenced,
}

impl Family {
    /// Short stable name for logs and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hermes => "hermes",
            Self::QwenCoder => "qwen_coder",
            Self::Gemma => "gemma",
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::DeepSeek => "deepseek",
            Self::Kimi => "kimi",
            Self::Glm => "glm",
            Self::MiniMax => "minimax",
            Self::Invoke => "invoke",
            Self::Harmony => "harmony",
            Self::Functionary => "functionary",
            Self::Pythonic => "pythonic",
            Self::Fenced => "fenced",
        }
    }
}

//! What was repaired.

/// A repair that was made. The names are labels of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// A missing `}` or `]` was added.
    CloserAdded,
    /// A `}` or `]` that closed nothing was removed.
    CloserRemoved,
    /// A doubled `{` was removed.
    OpenerRemoved,
    /// A comma with nothing after it was removed.
    TrailingComma,
    /// A string in single quotes got double ones.
    SingleQuotes,
    /// A key without quotes got them.
    UnquotedKey,
    /// A line break or another control character inside a string was escaped.
    RawNewline,
    /// A backslash that starts no JSON escape was escaped.
    InvalidEscape,
    /// A code fence around the object was removed.
    CodeFence,
    /// Tags or a byte order mark around the object were removed.
    Wrapper,
    /// The object was inside a JSON string.
    DoubleEncoded,
    /// `True`, `False`, `None` became JSON.
    PythonLiterals,
    /// No text at all became the empty object, as a call without arguments is often written.
    Empty,
    /// The tool's name was written in another case or with a namespace.
    Name,
}

impl Change {
    /// The label in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CloserAdded => "closer_added",
            Self::CloserRemoved => "closer_removed",
            Self::OpenerRemoved => "opener_removed",
            Self::TrailingComma => "trailing_comma",
            Self::SingleQuotes => "single_quotes",
            Self::UnquotedKey => "unquoted_key",
            Self::RawNewline => "raw_newline",
            Self::InvalidEscape => "invalid_escape",
            Self::CodeFence => "code_fence",
            Self::Wrapper => "wrapper",
            Self::DoubleEncoded => "double_encoded",
            Self::PythonLiterals => "python_literals",
            Self::Empty => "empty",
            Self::Name => "name",
        }
    }
}

/// The kinds of repair made, each once, in the order they were first needed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes(Vec<Change>);

impl Changes {
    /// Note a repair.
    pub fn note(&mut self, change: Change) {
        if !self.0.contains(&change) {
            self.0.push(change);
        }
    }

    /// The repairs.
    pub fn as_slice(&self) -> &[Change] {
        &self.0
    }

    /// Whether nothing was repaired.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

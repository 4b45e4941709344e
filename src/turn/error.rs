//! The one taxonomy of what can go wrong with a turn.
//!
//! Errors are kinds, not texts: [`crate::dialect::error`] is the only place that words them for a
//! client, in the client's own dialect.

use std::time::Duration;

/// Which bound a request met where all slots are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Overload {
    /// No more may wait.
    #[error("every slot is taken, and the queue is full")]
    Full,
    /// No more of its principal may wait, since others do.
    #[error("every slot is taken, and too many of your requests are waiting")]
    Share,
    /// It has waited for this long.
    #[error("no slot became free within {0:?}")]
    Waited(Duration),
}

impl Overload {
    /// Short stable name for metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Share => "share",
            Self::Waited(_) => "timeout",
        }
    }
}

/// Why a turn could not be answered, or not to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TurnError {
    /// The request is not what the dialect allows.
    #[error("{message}")]
    BadRequest {
        /// What is wrong, for a human.
        message: String,
        /// The field at fault, where one is.
        param: Option<String>,
    },
    /// No or a wrong API key.
    #[error("missing or invalid API key")]
    Unauthorized,
    /// The key does not reach what it asked for.
    #[error("{0}")]
    Forbidden(String),
    /// No such path or method.
    #[error("unknown path: {0}")]
    UnknownPath(String),
    /// A response, or what belongs to one, was asked for by its id.
    #[error("no responses are stored here: send the whole conversation with every request")]
    NotStored,
    /// No pool serves the model.
    #[error("no pool serves the model `{0}`")]
    UnknownModel(String),
    /// The body is larger than `limits.max_body_bytes`.
    #[error("request body exceeds {limit} bytes")]
    BodyTooLarge {
        /// The configured limit in bytes.
        limit: u64,
    },
    /// The header is larger than `limits.max_header_bytes`.
    #[error("request header exceeds {limit} bytes")]
    HeaderTooLarge {
        /// The configured limit in bytes.
        limit: u64,
    },
    /// The client did not deliver its body in time.
    #[error("the request body did not arrive in time")]
    BodyTimeout,
    /// Prompt longer than the context window of a slot.
    #[error("prompt is too long: {prompt} tokens > {limit} maximum")]
    ContextOverflow {
        /// Tokens of the prompt.
        prompt: u64,
        /// Tokens a slot can hold.
        limit: u64,
    },
    /// The backend's chat template rejects the conversation: permanent, so never a 5xx, which
    /// clients would retry for minutes.
    #[error("the model's chat template rejects this conversation: {0}")]
    Template(String),
    /// The backend cannot do this at all (embeddings, images, …).
    #[error("{0}")]
    Unsupported(String),
    /// Every backend of the pool is loading its model.
    #[error("the model is loading")]
    Loading {
        /// When to come back.
        retry_after: Duration,
    },
    /// No backend of the pool can be reached or used.
    #[error("no backend of pool `{pool}` is available: {detail}")]
    NoBackend {
        /// Name of the pool.
        pool: String,
        /// What is known about its backends.
        detail: String,
        /// When to come back.
        retry_after: Duration,
    },
    /// The backends of the pool have more to do than they can.
    #[error("pool `{pool}` is busy: {reason}")]
    Overloaded {
        /// Name of the pool.
        pool: String,
        /// Which bound was met.
        reason: Overload,
        /// When there should be room.
        retry_after: Duration,
    },
    /// A backend, or what is between it and us, asks for fewer requests.
    #[error("too many requests for the backend")]
    RateLimited {
        /// When to come back, if it said so.
        retry_after: Option<Duration>,
    },
    /// The gateway is shutting down.
    #[error("the gateway is shutting down")]
    Draining,
    /// The backend failed before or during the answer.
    #[error("{0}")]
    Upstream(String),
    /// The KV cache that the backend's slots share became full, and every answer under way there was lost.
    #[error("the backend's KV cache overflowed")]
    KvOverflow,
    /// The backend was silent for too long, or the turn took longer than it may.
    #[error("{stage} exceeded {after:?}")]
    Timeout {
        /// Which deadline.
        stage: &'static str,
        /// Its length.
        after: Duration,
    },
    /// A defect of the gateway.
    #[error("internal error: {0}")]
    Internal(String),
}

impl TurnError {
    /// A bad request about one field.
    pub fn bad_field(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::BadRequest {
            message: message.into(),
            param: Some(param.into()),
        }
    }

    /// A bad request as a whole.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::BadRequest {
            message: message.into(),
            param: None,
        }
    }

    /// Short stable name for logs and metric labels.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::BadRequest { .. } => "bad_request",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden(_) => "forbidden",
            Self::UnknownPath(_) => "unknown_path",
            Self::NotStored => "not_stored",
            Self::UnknownModel(_) => "unknown_model",
            Self::BodyTooLarge { .. } => "body_too_large",
            Self::HeaderTooLarge { .. } => "header_too_large",
            Self::BodyTimeout => "body_timeout",
            Self::ContextOverflow { .. } => "context_overflow",
            Self::Template(_) => "template",
            Self::Unsupported(_) => "unsupported",
            Self::Loading { .. } => "loading",
            Self::NoBackend { .. } => "no_backend",
            Self::Overloaded { .. } => "overloaded",
            Self::RateLimited { .. } => "rate_limited",
            Self::Draining => "draining",
            Self::Upstream(_) => "upstream",
            Self::KvOverflow => "kv_overflow",
            Self::Timeout { .. } => "timeout",
            Self::Internal(_) => "internal",
        }
    }

    /// HTTP status that says this to a client that has not received one yet, where its dialect has none
    /// of its own.
    pub fn status(&self) -> u16 {
        match self {
            Self::BadRequest { .. } | Self::ContextOverflow { .. } | Self::Template(_) => 400,
            Self::Unauthorized => 401,
            Self::Forbidden(_) => 403,
            Self::UnknownPath(_) | Self::NotStored | Self::UnknownModel(_) => 404,
            Self::BodyTimeout => 408,
            Self::BodyTooLarge { .. } => 413,
            Self::RateLimited { .. }
            | Self::Overloaded {
                reason: Overload::Share,
                ..
            } => 429,
            Self::HeaderTooLarge { .. } => 431,
            Self::Internal(_) => 500,
            Self::Unsupported(_) => 501,
            Self::Upstream(_) => 502,
            Self::Loading { .. }
            | Self::NoBackend { .. }
            | Self::Overloaded { .. }
            | Self::KvOverflow
            | Self::Draining => 503,
            Self::Timeout { .. } => 504,
        }
    }

    /// When a client should try again, where that makes sense.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Loading { retry_after }
            | Self::NoBackend { retry_after, .. }
            | Self::Overloaded { retry_after, .. } => Some(*retry_after),
            Self::RateLimited { retry_after } => *retry_after,
            // The cache is empty afterwards.
            Self::Draining | Self::KvOverflow => Some(Duration::from_secs(1)),
            _ => None,
        }
    }
}

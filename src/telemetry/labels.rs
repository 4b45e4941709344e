//! Label values of the metrics.
//!
//! Every label is one of these types, so that a string from the wire cannot become a label and
//! the number of series stays bounded by the configuration.

use serde::{Serialize, Serializer};

/// Declares a closed set of label values: the enum, `as_str`, `ALL` and serialisation by name.
macro_rules! label {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vmeta])* $variant,)+ }

        impl $name {
            /// Every value of this label.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The text that appears in metrics and in the access log.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    };
}

label! {
    /// How the client spoke to us.
    Dialect {
        /// OpenAI Chat Completions.
        OpenAi = "openai",
        /// Anthropic Messages.
        Anthropic = "anthropic",
        /// OpenAI Responses.
        Responses = "responses",
        /// OpenAI-shaped requests that are relayed with deadlines and accounting only:
        /// completions, embeddings and token counts.
        Relay = "relay",
        /// Everything of the native lane: model lists, health, pass-through paths.
        Native = "native",
    }
}

label! {
    /// What a request asks for, in the words of OpenTelemetry's `gen_ai.operation.name`.
    Operation {
        /// A turn of a conversation.
        Chat = "chat",
        /// Completion of a text.
        TextCompletion = "text_completion",
        /// Embeddings.
        Embeddings = "embeddings",
    }
}

label! {
    /// What came of loading the configuration anew.
    Reload {
        /// It is in effect.
        Applied = "applied",
        /// There was nothing to change.
        Unchanged = "unchanged",
        /// It has mistakes, and nothing has changed.
        Invalid = "invalid",
    }
}

label! {
    /// What became of the trace of a turn.
    Traced {
        /// The receiver has it.
        Sent = "sent",
        /// Too many were waiting.
        Dropped = "dropped",
        /// The receiver could not be reached, or refused it.
        Failed = "failed",
    }
}

label! {
    /// How a request ended. One value a request, the first that applies in this order.
    Outcome {
        /// The client received a complete answer.
        Ok = "ok",
        /// The client closed before its answer was complete.
        ClientGone = "client_gone",
        /// No or a wrong credential, or a pool the key may not use (401, 403).
        Denied = "denied",
        /// The client's request could not be served as sent (any other 4xx).
        ClientError = "client_error",
        /// No backend could take the request: down, loading, draining, busy (429, 503).
        Unavailable = "unavailable",
        /// A deadline passed before or during the answer (504).
        Timeout = "timeout",
        /// The answer began and its backend failed: the stream ended with a protocol error.
        Cut = "cut",
        /// A backend failed or answered with something unusable, nothing was delivered (502).
        UpstreamError = "upstream_error",
        /// A defect of the gateway itself (500).
        Internal = "internal",
    }
}

label! {
    /// Why an upstream request was made.
    Why {
        /// The first attempt of a turn.
        First = "first",
        /// Another backend after one failed before the first byte.
        Failover = "failover",
        /// Another backend after one failed in the middle of its answer: it goes on with that.
        Resume = "resume",
        /// A second backend while the first stayed silent (`fleet.hedge`).
        Hedge = "hedge",
        /// The same backend, after an answer that was no good.
        Reask = "reask",
        /// The same backend, after it refused the prompt as too long: with a shorter one.
        Prune = "prune",
        /// The same attempt once more, because a pooled connection turned out to be closed.
        Stale = "stale",
    }
}

label! {
    /// What came of asking a second backend.
    Hedged {
        /// It answered first.
        Won = "won",
        /// The first one did.
        Lost = "lost",
        /// It failed before either said anything.
        Failed = "failed",
        /// It was due, and none was asked: no free slot, or enough turns were hedged.
        Refused = "refused",
    }
}

label! {
    /// Whose tokens are counted.
    TokenKind {
        /// Prompt tokens the backend had to evaluate.
        Input = "input",
        /// Prompt tokens found in the backend's prefix cache.
        Cached = "cached",
        /// Generated tokens delivered to the client.
        Output = "output",
        /// Generated tokens the client never saw (abandoned attempts).
        Hidden = "hidden",
    }
}

label! {
    /// Part of the gateway's own time in a turn.
    Stage {
        /// From the complete request body to the typed turn.
        Decode = "decode",
        /// From the typed turn to the upstream body.
        Encode = "encode",
        /// Choosing a backend (without waiting for one).
        Select = "select",
        /// All stages together: the value of `x-drover-overhead-us`, as far as it is known when the
        /// header is sent.
        Total = "total",
        /// All decoding and encoding of stream events of one turn together.
        Events = "events",
    }
}

label! {
    /// Why an upstream request was closed before its end.
    AbortCause {
        /// The client went away.
        ClientGone = "client_gone",
        /// A deadline passed.
        Timeout = "timeout",
        /// The answer was garbage and reading on made no sense.
        Invalid = "invalid",
    }
}

/// A label value that comes from the configuration: the name of a pool or of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Configured<'a>(&'a str);

impl<'a> Configured<'a> {
    /// Stands for "no pool": the request ended before its model was resolved.
    pub const NONE: Configured<'static> = Configured("");

    /// `name` must have been read from the configuration; a name from a request would let a client
    /// create series without bound.
    #[must_use]
    pub const fn name(name: &'a str) -> Self {
        Self(name)
    }

    /// The label's text.
    #[must_use]
    pub const fn as_str(self) -> &'a str {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn texts<T: Copy>(values: &[T], text: impl Fn(T) -> &'static str) -> Vec<&'static str> {
        values.iter().map(|value| text(*value)).collect()
    }

    fn assert_label_texts(texts: &[&str]) {
        let distinct: HashSet<_> = texts.iter().collect();
        assert_eq!(
            distinct.len(),
            texts.len(),
            "two values share a text: {texts:?}"
        );
        for text in texts {
            assert!(
                text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
                "{text:?} is not snake case"
            );
        }
    }

    #[test]
    fn label_texts_are_distinct_snake_case() {
        assert_label_texts(&texts(Dialect::ALL, Dialect::as_str));
        assert_label_texts(&texts(Outcome::ALL, Outcome::as_str));
        assert_label_texts(&texts(Operation::ALL, Operation::as_str));
        assert_label_texts(&texts(Traced::ALL, Traced::as_str));
        assert_label_texts(&texts(Reload::ALL, Reload::as_str));
        assert_label_texts(&texts(Why::ALL, Why::as_str));
        assert_label_texts(&texts(TokenKind::ALL, TokenKind::as_str));
        assert_label_texts(&texts(Hedged::ALL, Hedged::as_str));
        assert_label_texts(&texts(Stage::ALL, Stage::as_str));
        assert_label_texts(&texts(AbortCause::ALL, AbortCause::as_str));
    }
}

//! What chat completions have in common with the other paths of OpenAI's API.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::dialect::json;
use crate::turn::TurnError;

/// How a client wants its stream.
#[derive(Deserialize)]
pub(in crate::dialect) struct StreamOptions {
    #[serde(default)]
    include_usage: Option<bool>,
}

impl StreamOptions {
    /// Whether the field's `value` asks for a usage report at the end.
    pub(in crate::dialect) fn include_usage(
        name: &str,
        value: &RawValue,
    ) -> Result<bool, TurnError> {
        let options: Option<Self> = json::field(name, value)?;
        Ok(options.and_then(|o| o.include_usage).unwrap_or(false))
    }
}

#[derive(Deserialize, Serialize)]
struct Logprobs<'a> {
    #[serde(borrow)]
    content: Vec<&'a RawValue>,
}

/// The tokens in a chunk's `{"content":[…]}`.
pub(in crate::dialect) fn logprob_tokens(chunk: &RawValue) -> Vec<&RawValue> {
    serde_json::from_str(chunk.get())
        .map_or_else(|_| Vec::new(), |found: Logprobs<'_>| found.content)
}

/// Each chunk's `{"content":[…]}` becomes one list; none when there is no token in any.
pub(in crate::dialect) fn join_logprobs<'a>(
    chunks: impl IntoIterator<Item = &'a RawValue>,
) -> Option<Box<RawValue>> {
    let content: Vec<_> = chunks.into_iter().flat_map(logprob_tokens).collect();
    (!content.is_empty()).then(|| json::raw(&Logprobs { content }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_of_all_chunks_become_one_list() {
        let chunks = [
            r#"{"content":[{"token":"a"}]}"#,
            "null",
            r#"{"content":[]}"#,
            r#"{"content":[{"token":"b"}]}"#,
        ]
        .map(|text| RawValue::from_string(text.to_owned()).unwrap());
        let all = join_logprobs(chunks.iter().map(|raw| &**raw)).unwrap();
        assert_eq!(all.get(), r#"{"content":[{"token":"a"},{"token":"b"}]}"#);
        assert!(join_logprobs(chunks[1..3].iter().map(|raw| &**raw)).is_none());
    }
}

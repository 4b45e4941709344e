//! Cleaned tools, kept between the requests of a session: agents send the same ones every time.

use std::num::NonZeroUsize;
use std::sync::{Arc, LazyLock};

use bytes::BytesMut;
use lru::LruCache;
use parking_lot::Mutex;
use serde_json::value::RawValue;
use xxhash_rust::xxh3::xxh3_128;

use super::schema::cleaned;
use crate::dialect::json::{Members, ObjectWriter};
use crate::turn::Tool;

/// Tools remembered, over all clients; most of them need no cleaning and take 32 bytes.
const MAX_TOOLS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(8191);

/// Longest definition remembered; a longer one is read every time.
const MAX_BYTES: usize = 64 << 10;

/// A definition that needed cleaning, or none where it did not.
type Cleaned = Option<Arc<RawValue>>;

static KNOWN: LazyLock<Mutex<LruCache<u128, Cleaned>>> =
    LazyLock::new(|| Mutex::new(LruCache::new(MAX_TOOLS)));

/// Leave out of the definitions sent upstream what llama-server's grammar builder refuses; whether
/// there was anything. With `acts` false nothing changes. The schemas that calls are checked against
/// stay as they are.
pub fn clean(tools: &mut Arc<[Tool]>, acts: bool) -> bool {
    let keys: Vec<Option<u128>> = tools.iter().map(key).collect();
    let mut found: Vec<Option<Cleaned>> = {
        let mut known = KNOWN.lock();
        let known = keys.iter().map(|key| known.get(key.as_ref()?).cloned());
        known.collect()
    };
    for ((tool, key), found) in tools.iter().zip(&keys).zip(&mut found) {
        // Outside the lock: one large set of tools delays nobody else.
        if found.is_none() {
            let cleaned = rewritten(tool);
            if let Some(key) = key {
                KNOWN.lock().put(*key, cleaned.clone());
            }
            *found = Some(cleaned);
        }
    }
    let found: Vec<Cleaned> = found.into_iter().map(Option::flatten).collect();
    if found.iter().all(Option::is_none) {
        return false;
    }
    if acts {
        let tools_and_found = tools.iter().zip(found);
        *tools = tools_and_found
            .map(|(tool, found)| with(tool, found))
            .collect();
    }
    true
}

fn with(tool: &Tool, cleaned: Cleaned) -> Tool {
    let mut tool = tool.clone();
    if let Some(cleaned) = cleaned {
        tool.upstream = (*cleaned).to_owned();
    }
    tool
}

fn key(tool: &Tool) -> Option<u128> {
    let text = tool.upstream.get().as_bytes();
    (text.len() <= MAX_BYTES).then(|| xxh3_128(text))
}

/// The definition with its cleaned schema.
fn rewritten(tool: &Tool) -> Cleaned {
    let schema = cleaned(tool.parameters.as_deref()?)?;
    let definition: Members<'_> = serde_json::from_str(tool.upstream.get()).ok()?;
    let mut out = BytesMut::with_capacity(tool.upstream.get().len());
    let mut outer = ObjectWriter::new(&mut out);
    for (name, value) in &definition.0 {
        if name != "function" {
            outer.raw(name, value);
            continue;
        }
        let function: Members<'_> = serde_json::from_str(value.get()).ok()?;
        let mut inner = ObjectWriter::new(outer.key(name));
        for (name, value) in &function.0 {
            match name.as_ref() {
                "parameters" => inner.raw(name, &schema),
                name => inner.raw(name, value),
            }
        }
        inner.end();
    }
    outer.end();
    let cleaned: Box<RawValue> = serde_json::from_slice(&out).ok()?;
    Some(cleaned.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Dialect;

    #[test]
    fn what_is_sent_changes_and_what_is_checked_does_not() {
        let schema = r#"{"type":"object","properties":{"a":{"type":"string","pattern":"^(a$"}}}"#;
        let requests = [
            (
                Dialect::OpenAi,
                format!(
                    r#"{{"model":"m","messages":[{{"role":"user","content":"a"}}],"tools":[{{"type":"function","function":{{"name":"f","strict":true,"parameters":{schema}}}}}]}}"#
                ),
            ),
            (
                Dialect::Anthropic,
                format!(
                    r#"{{"model":"m","max_tokens":9,"messages":[{{"role":"user","content":"a"}}],"tools":[{{"name":"f","input_schema":{schema}}}]}}"#
                ),
            ),
        ];
        for (dialect, request) in requests {
            let mut turn = dialect.decode(request.as_bytes()).unwrap();
            let before = turn.tools[0].upstream.get().to_owned();
            assert!(clean(&mut turn.tools, false), "seen");
            assert_eq!(turn.tools[0].upstream.get(), before, "and left alone");
            for _ in 0..2 {
                assert!(clean(&mut turn.tools.clone(), true));
            }
            assert!(clean(&mut turn.tools, true));
            let sent = turn.tools[0].upstream.get();
            assert!(!sent.contains("pattern"), "{sent}");
            assert_eq!(
                sent.replace('\n', "")
                    .matches("\"a\":{\"type\":\"string\"}")
                    .count(),
                1
            );
            assert_eq!(turn.tools[0].parameters.as_ref().unwrap().get(), schema);
        }
    }
}

//! The endpoints that turn a text into something small: tokens, counts, vectors.

use serde_json::{Value, json};

use crate::sim::{
    engine::Sim,
    errors::ApiError,
    request::Request,
    rng::{self, Rng},
    tokens,
};

/// `/tokenize`
pub(super) fn tokenize(body: &Value) -> String {
    let text = body
        .get("content")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let pieces = body
        .get("with_pieces")
        .and_then(Value::as_bool)
        .unwrap_or(false);
    let token = |piece: &str| {
        let id = tokens::number(piece);
        if pieces {
            format!("{{\"id\":{id},\"piece\":{}}}", json!(piece))
        } else {
            id.to_string()
        }
    };
    let list: Vec<String> = tokens::pieces(text).map(token).collect();
    format!("{{\"tokens\":[{}]}}", list.join(","))
}

/// `/detokenize`
pub(super) fn detokenize(body: &Value) -> String {
    let list = body
        .get("tokens")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let list: Vec<_> = list.iter().filter_map(Value::as_u64).collect();
    json!({"content": tokens::decode(&list)}).to_string()
}

/// Counts a request in the Anthropic form: its system text, texts and tools.
pub(super) fn anthropic_count(sim: &Sim, body: &[u8]) -> Result<String, ApiError> {
    let body: Value = serde_json::from_slice(body).map_err(|e| ApiError::invalid(e.to_string()))?;
    let Some(list) = body.get("messages").and_then(Value::as_array) else {
        return Err(ApiError::server("'messages' is required"));
    };
    let text = |content: &Value| match content {
        Value::String(text) => text.clone(),
        Value::Array(blocks) => {
            let shown = |block: &Value| match block.get("text").and_then(Value::as_str) {
                Some(text) => text.to_owned(),
                None => block.to_string(),
            };
            blocks.iter().map(shown).collect()
        }
        _ => String::new(),
    };
    let mut messages: Vec<Value> = Vec::new();
    messages.extend(
        body.get("system")
            .map(|s| json!({"role": "system", "content": text(s)})),
    );
    messages.extend(list.iter().map(|message| {
        json!({"role": message.get("role"), "content": text(message.get("content").unwrap_or(&Value::Null))})
    }));
    let mut chat = json!({ "messages": messages });
    if let Some(tools) = body.get("tools").filter(|tools| tools.is_array()) {
        chat["tools"] = tools.clone();
    }
    let prompt = Request::chat_prompt(chat.to_string().as_bytes(), &sim.config)?;
    Ok(format!("{{\"input_tokens\":{}}}", tokens::count(&prompt)))
}

/// Deterministic unit vectors of 64 numbers.
pub(super) fn embeddings(sim: &Sim, body: &Value) -> Result<String, ApiError> {
    if !sim.config.embeddings {
        return Err(ApiError::unsupported(
            "This server does not support embeddings. Start it with `--embeddings`",
        ));
    }
    let inputs: Vec<&str> = match body.get("input") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
        _ => {
            return Err(ApiError::invalid(
                "\"input\" or \"content\" must be provided",
            ));
        }
    };
    let count: usize = inputs.iter().map(|text| tokens::count(text)).sum();
    let vector = |text: &str| {
        let mut rng = Rng::seeded(&[rng::hash(text.as_bytes())]);
        let raw: Vec<f64> = (0..64).map(|_| rng.unit() - 0.5).collect();
        let norm = raw.iter().map(|x| x * x).sum::<f64>().sqrt();
        raw.iter().map(|x| x / norm).collect::<Vec<_>>()
    };
    let data: Vec<Value> = inputs
        .iter()
        .enumerate()
        .map(|(index, text)| json!({"embedding": vector(text), "index": index, "object": "embedding"}))
        .collect();
    Ok(json!({
        "model": sim.config.alias, "object": "list",
        "usage": {"prompt_tokens": count, "total_tokens": count}, "data": data,
    })
    .to_string())
}

//! The requests: what a short question and a long agent turn look like.

use serde_json::{Value, json};

/// One kind of request.
pub struct Workload {
    /// Name in the report.
    pub name: &'static str,
    /// Request body.
    pub body: String,
    /// Requests a side in each round.
    pub requests: usize,
    /// Most own time at the median in µs, where there is a goal.
    pub goal_us: Option<u64>,
}

/// What is measured against the simulated backend.
pub fn simulated() -> Vec<Workload> {
    let small = |stream| chat(stream, &filler(1700), &[], &[]);
    let large = |stream| {
        let tools: Vec<Value> = (0..40).map(tool).collect();
        let history = history(200_000 - Value::from(tools.clone()).to_string().len());
        chat(stream, "You are a coding agent.", &history, &tools)
    };
    let workload = |name, body: Value, requests, goal_us| Workload {
        name,
        body: body.to_string(),
        requests,
        goal_us: Some(goal_us),
    };
    vec![
        workload("chat 2 KB", small(false), 300, 500),
        workload("chat 2 KB, stream", small(true), 300, 500),
        workload("200 KB, 40 tools", large(false), 100, 3000),
        workload("200 KB, 40 tools, stream", large(true), 100, 3000),
    ]
}

/// What is measured against a real llama-server: enough tokens for gaps between them.
pub fn real(model: &str) -> Vec<Workload> {
    let mut body = chat(true, "You count.", &[], &[]);
    body["model"] = model.into();
    body["max_tokens"] = 48.into();
    body["temperature"] = 0.into();
    body["ignore_eos"] = true.into();
    vec![Workload {
        name: "llama-server, stream",
        body: body.to_string(),
        requests: 4,
        goal_us: None,
    }]
}

fn chat(stream: bool, system: &str, history: &[Value], tools: &[Value]) -> Value {
    let mut messages = vec![json!({"role": "system", "content": system})];
    messages.extend_from_slice(history);
    messages.push(json!({"role": "user", "content": "Go on, please."}));
    let mut body = json!({
        "model": "sim-model",
        "messages": messages,
        "temperature": 0.2,
        "max_tokens": 64,
        "stream": stream,
    });
    if !tools.is_empty() {
        body["tools"] = tools.into();
    }
    body
}

/// Text with what real prompts have: quotes, new lines, a character of several bytes.
fn filler(length: usize) -> String {
    let line = "let answer = client.ask(\"what is left?\").await?; // → see \\src\\main.rs\n";
    line.chars().cycle().take(length).collect()
}

/// An agent's tool with a schema of about 1.5 KB.
fn tool(index: usize) -> Value {
    let properties: serde_json::Map<String, Value> = (0..8)
        .map(|n| {
            let about =
                "What this argument means, with the rules a model should keep to. ".repeat(2);
            let value = json!({"type": "string", "description": about, "minLength": 1});
            (format!("argument_{n}"), value)
        })
        .collect();
    json!({
        "type": "function",
        "function": {
            "name": format!("tool_{index}"),
            "description": filler(200),
            "parameters": {"type": "object", "properties": properties, "required": ["argument_0"]},
        },
    })
}

/// Turns of an agent (call, result) of `length` bytes in all.
fn history(length: usize) -> Vec<Value> {
    let mut turns = Vec::new();
    let mut size = 0;
    while size < length {
        let id = format!("call_{}", turns.len());
        let arguments = json!({"argument_0": format!("src/file_{}.rs", turns.len())}).to_string();
        let function = json!({"name": "tool_1", "arguments": arguments});
        let turn = [
            json!({"role": "assistant", "content": "I look.",
                   "tool_calls": [{"id": id, "type": "function", "function": function}]}),
            json!({"role": "tool", "tool_call_id": id, "content": filler(3000)}),
        ];
        size += turn.iter().map(|t| t.to_string().len()).sum::<usize>();
        turns.extend(turn);
    }
    turns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_have_the_sizes_their_names_say() {
        let sizes: Vec<_> = simulated().iter().map(|w| w.body.len()).collect();
        assert!((1800..2300).contains(&sizes[0]), "{sizes:?}");
        assert!((190_000..215_000).contains(&sizes[2]), "{sizes:?}");
        let large: Value = serde_json::from_str(&simulated()[2].body).unwrap();
        assert_eq!(large["tools"].as_array().unwrap().len(), 40);
    }
}

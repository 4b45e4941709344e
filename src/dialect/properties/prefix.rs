//! The prompt of a turn is the beginning of the next turn's prompt: the KV cache lives on it.
//!
//! Shown on the messages a backend gets: those of turn N, the last one apart, are the first of turn
//! N + 1, and the last one is the beginning of its successor.

use serde_json::{Value, json};

use super::rules::{LENIENT, STRICT, messages};
use crate::dialect::Dialect;

/// Conversations as a list of steps; a turn is sent wherever a step says so.
struct Conversation {
    dialect: Dialect,
    /// Messages one step adds; each step ends with what the client sends, before the model answers.
    steps: Vec<Vec<Value>>,
    system: Box<dyn Fn(usize) -> Value>,
}

impl Conversation {
    /// The upstream messages of every turn.
    fn turns(&self, rules: crate::dialect::llama::TemplateRules) -> Vec<Vec<Value>> {
        let mut history = Vec::new();
        let mut turns = Vec::new();
        for (number, step) in self.steps.iter().enumerate() {
            history.extend(step.clone());
            let mut body = json!({"model": "m", "max_tokens": 64});
            match self.dialect {
                Dialect::OpenAi => body["messages"] = json!(history),
                Dialect::Anthropic => {
                    body["messages"] = json!(history);
                    body["system"] = (self.system)(number);
                }
                Dialect::Responses => {
                    body["input"] = json!(history);
                    body["instructions"] = (self.system)(number);
                }
            }
            let turn = self.dialect.decode(body.to_string().as_bytes()).unwrap();
            turns.push(messages(&turn, rules));
        }
        turns
    }

    fn assert_prefixes(&self) {
        for rules in [STRICT, LENIENT] {
            let turns = self.turns(rules);
            assert_eq!(turns.len(), self.steps.len());
            for (number, pair) in turns.windows(2).enumerate() {
                assert_extends(&pair[0], &pair[1], &format!("turn {number}, {rules:?}"));
            }
        }
    }
}

fn assert_extends(before: &[Value], after: &[Value], what: &str) {
    assert!(after.len() >= before.len(), "{what}: the history shrank");
    let (last, settled) = before.split_last().unwrap();
    assert_eq!(settled, &after[..settled.len()], "{what}");
    let now = &after[settled.len()];
    assert_eq!(last["role"], now["role"], "{what}");
    let text = |message: &Value| message["content"].as_str().unwrap_or_default().to_owned();
    assert!(
        text(now).starts_with(&text(last)),
        "{what}: {last} became {now}"
    );
}

/// Claude Code: reminders as system messages, results with text beside them, a billing block with a
/// hash that differs every time, parallel calls, an interruption.
fn claude_code() -> Conversation {
    let text = |text: String| json!({"type": "text", "text": text});
    let mut steps = vec![vec![
        json!({"role": "user", "content": [
            text("<system-reminder>\nToday is Monday.\n</system-reminder>".into()),
            text("Fix the bug.".into()),
        ]}),
        json!({"role": "system", "content": "Environment: linux.", "output_config": {"effort": "high"}}),
    ]];
    for turn in 0..8 {
        let (a, b) = (format!("toolu_{turn}a"), format!("toolu_{turn}b"));
        let mut results = vec![
            json!({"type": "tool_result", "tool_use_id": a, "content": [text(format!("line {turn}"))]}),
            json!({"type": "tool_result", "tool_use_id": b, "content": "no", "is_error": true}),
        ];
        if turn % 2 == 0 {
            results.push(text(format!(
                "<system-reminder>\ntodo {turn}\n</system-reminder>"
            )));
        }
        let mut step = vec![
            json!({"role": "assistant", "content": [
                {"type": "thinking", "thinking": format!("let me see {turn}"), "signature": ""},
                text(format!("Looking {turn}.")),
                {"type": "tool_use", "id": a, "name": "Read", "input": {"file_path": format!("/f{turn}")}},
                {"type": "tool_use", "id": b, "name": "Bash", "input": {"command": "ls", "n": turn}},
            ]}),
            json!({"role": "user", "content": results}),
        ];
        if turn % 3 == 1 {
            step.push(json!({"role": "system", "content": [text(format!("reminder {turn}"))]}));
        }
        if turn == 5 {
            step.push(json!({"role": "user", "content": "Stop, do it otherwise."}));
        }
        steps.push(step);
    }
    steps.push(vec![
        json!({"role": "assistant", "content": "Done."}),
        json!({"role": "user", "content": "Thanks. Next one."}),
    ]);
    Conversation {
        dialect: Dialect::Anthropic,
        steps,
        system: Box::new(|turn| {
            json!([
                {"type": "text", "text": format!("x-anthropic-billing-header: cc_version=2.1.330; cch={turn:05x};")},
                {"type": "text", "text": "You are an agent.", "cache_control": {"type": "ephemeral"}},
                {"type": "text", "text": "Rules."},
            ])
        }),
    }
}

/// opencode and its like: OpenAI's roles, late system and developer messages, two user messages in a
/// row, content as parts.
fn opencode() -> Conversation {
    let mut steps = vec![vec![
        json!({"role": "system", "content": "You are opencode."}),
        json!({"role": "developer", "content": "Be brief."}),
        json!({"role": "user", "content": "Context."}),
        json!({"role": "user", "content": [{"type": "text", "text": "Fix the bug."}]}),
    ]];
    for turn in 0..8 {
        let id = format!("call_{turn}");
        let mut step = vec![
            json!({"role": "assistant", "content": Value::Null, "reasoning_content": "hm", "tool_calls": [
                {"id": id, "type": "function", "function": {"name": "bash", "arguments": format!("{{\"n\": {turn}}}")}},
            ]}),
            json!({"role": "tool", "tool_call_id": id, "content": [{"type": "text", "text": format!("out {turn}")}]}),
        ];
        match turn % 4 {
            1 => step.push(json!({"role": "user", "content": "and quickly"})),
            2 => step.push(json!({"role": "system", "content": "reminder"})),
            3 => step[0]["tool_calls"][0]["function"]["arguments"] = json!("{\"n\": "),
            _ => {}
        }
        steps.push(step);
    }
    Conversation {
        dialect: Dialect::OpenAi,
        steps,
        system: Box::new(|_| Value::Null),
    }
}

/// Codex: two developer and two user messages first, items instead of messages, calls of grouped and
/// free-form tools, reasoning in each of the places it may be, a reminder, an interruption.
fn codex() -> Conversation {
    let said = |role: &str, text: String| json!({"type": "message", "role": role, "content": [{"type": "input_text", "text": text}]});
    let mut steps = vec![vec![
        said("developer", "You are a coding agent.".into()),
        said(
            "developer",
            "<skills_instructions>none</skills_instructions>".into(),
        ),
        said(
            "user",
            "<environment_context>linux</environment_context>".into(),
        ),
        said("user", "Fix the bug.".into()),
    ]];
    for turn in 0..8 {
        let reasoning = match turn % 3 {
            0 => {
                json!({"content": [{"type": "reasoning_text", "text": format!("hm {turn}")}], "summary": []})
            }
            1 => json!({"summary": [{"type": "summary_text", "text": format!("hm {turn}")}]}),
            _ => json!({"summary": [], "encrypted_content": format!("drover-reasoning:hm {turn}")}),
        };
        let mut first = json!({"type": "reasoning", "id": format!("rs_{turn}")});
        first
            .as_object_mut()
            .unwrap()
            .extend(reasoning.as_object().unwrap().clone());
        let mut step = vec![
            first,
            json!({"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": format!("Looking {turn}.")}]}),
            json!({"type": "function_call", "id": "fc_1", "call_id": format!("a{turn}"), "name": "say", "namespace": "mcp__echo", "arguments": format!("{{\"n\": {turn}}}")}),
            json!({"type": "custom_tool_call", "call_id": format!("b{turn}"), "name": "apply_patch", "input": "*** Begin Patch\n"}),
            json!({"type": "function_call_output", "call_id": format!("a{turn}"), "output": format!("out {turn}")}),
            json!({"type": "custom_tool_call_output", "call_id": format!("b{turn}"), "output": [{"type": "input_text", "text": "ok"}]}),
        ];
        match turn % 4 {
            1 => step.push(said("user", "and quickly".into())),
            2 => step.push(said("developer", "reminder".into())),
            3 => step.push(json!({"type": "web_search_call", "id": "ws_1"})),
            _ => {}
        }
        steps.push(step);
    }
    Conversation {
        dialect: Dialect::Responses,
        steps,
        system: Box::new(|_| json!("Base instructions.")),
    }
}

#[test]
fn codex_conversations_grow_at_their_end_only() {
    codex().assert_prefixes();
}

#[test]
fn claude_code_conversations_grow_at_their_end_only() {
    claude_code().assert_prefixes();
}

#[test]
fn opencode_conversations_grow_at_their_end_only() {
    opencode().assert_prefixes();
}

#[test]
fn the_conversations_exercise_every_rule() {
    for conversation in [claude_code(), opencode(), codex()] {
        let strict = conversation.turns(STRICT).pop().unwrap();
        let lenient = conversation.turns(LENIENT).pop().unwrap();
        let pair = |messages: &[Value], one: &str, two: &str| {
            messages
                .windows(2)
                .any(|m| m[0]["role"] == one && m[1]["role"] == two)
        };
        assert!(pair(&lenient, "tool", "user") && !pair(&strict, "tool", "user"));
        assert!(lenient.iter().skip(2).any(|m| m["role"] == "system"));
        assert!(!strict.iter().skip(1).any(|m| m["role"] == "system"));
    }
}

//! What is asked. The texts are made from a number, so that every contestant gets the same and no two turns of one
//! contestant are alike: n-gram types remember what they have seen before.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::artifact::Workload;
use super::lineage::hex;

const NOUNS: [&str; 24] = [
    "harbour", "engine", "ledger", "garden", "signal", "bridge", "lantern", "archive", "river",
    "window", "market", "compass", "tower", "valley", "printer", "orchard", "kettle", "mirror",
    "station", "anchor", "meadow", "turbine", "parcel", "violin",
];
const VERBS: [&str; 12] = [
    "load", "parse", "merge", "store", "check", "count", "split", "filter", "update", "render",
    "collect", "resolve",
];
const PLACES: [&str; 8] = [
    "on the coast",
    "in the north",
    "by the lake",
    "under the hill",
    "across the border",
    "near the mill",
    "at the station",
    "in the old town",
];
const STATES: [&str; 6] = ["open", "closed", "pending", "shipped", "blocked", "paid"];

/// Lines of a text that is to be given back.
const ROWS: u64 = 14;

/// Draws by number: the same seed and number always give the same.
struct Draw {
    seed: u64,
    at: u64,
}

impl Draw {
    fn new(seed: u64, workload: Workload, number: u32) -> Self {
        let seed = xxh3_64_with_seed(workload.as_str().as_bytes(), seed ^ u64::from(number) << 20);
        Self { seed, at: 0 }
    }

    fn number(&mut self, below: u64) -> u64 {
        self.at += 1;
        xxh3_64_with_seed(&self.at.to_le_bytes(), self.seed) % below
    }

    fn one<'a>(&mut self, words: &[&'a str]) -> &'a str {
        let n = self.number(words.len() as u64) as usize;
        words.get(n).copied().unwrap_or_default()
    }
}

/// Messages and tools of a prompt, as members of a Chat Completions request.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Prompt {
    pub(super) messages: Value,
    pub(super) tools: Option<Value>,
}

impl Prompt {
    /// The one with this number.
    pub(super) fn new(seed: u64, workload: Workload, number: u32) -> Self {
        let mut draw = Draw::new(seed, workload, number);
        match workload {
            Workload::Tool => tool(&mut draw),
            Workload::Repetitive => repetitive(&mut draw),
            Workload::Mixed => mixed(&mut draw),
            Workload::Prose => prose(&mut draw),
        }
    }
}

fn one(text: String) -> Prompt {
    Prompt {
        messages: json!([{"role": "user", "content": text}]),
        tools: None,
    }
}

/// A turn of a coding agent: a file has been read and is to be changed.
fn tool(draw: &mut Draw) -> Prompt {
    let code = code(draw);
    let noun = draw.one(&NOUNS);
    let path = format!("src/{noun}.py");
    let new = format!("{}_{}", draw.one(&VERBS), draw.one(&NOUNS));
    let call = json!([{"id": "call_1", "type": "function", "function": {
        "name": "read_file", "arguments": json!({ "path": path }).to_string()
    }}]);
    Prompt {
        messages: json!([
            {"role": "system", "content": "You are a coding agent. Work in small steps and use the tools."},
            {"role": "user", "content": format!("Add a function `{new}` to {path} that works like the last one there.")},
            {"role": "assistant", "content": null, "tool_calls": call},
            {"role": "tool", "tool_call_id": "call_1", "content": code},
        ]),
        tools: Some(tools()),
    }
}

fn tools() -> Value {
    let tool = |name: &str, about: &str, arguments: &[&str]| {
        let properties: serde_json::Map<String, Value> = arguments
            .iter()
            .map(|name| ((*name).to_owned(), json!({"type": "string"})))
            .collect();
        json!({"type": "function", "function": {"name": name, "description": about, "parameters": {
            "type": "object", "properties": properties, "required": arguments
        }}})
    };
    json!([
        tool("read_file", "Give back the text of a file.", &["path"]),
        tool("write_file", "Write a whole file.", &["path", "content"]),
        tool("run_command", "Run a command in a shell.", &["command"]),
    ])
}

fn code(draw: &mut Draw) -> String {
    let mut text = String::from("import json\n\n");
    for _ in 0..4 {
        let (verb, noun) = (draw.one(&VERBS), draw.one(&NOUNS));
        let n = draw.number(90) + 10;
        text.push_str(&format!(
            "def {verb}_{noun}(items):\n    result = []\n    for item in items:\n        if item.size > {n}:\n            \
             result.append(item.{noun})\n    return result\n\n"
        ));
    }
    text
}

/// A list that is to be given back with one word exchanged: nearly every token of the answer is in the prompt.
fn repetitive(draw: &mut Draw) -> Prompt {
    let mut rows = String::new();
    for row in 1..=ROWS {
        let (noun, place, state) = (draw.one(&NOUNS), draw.one(&PLACES), draw.one(&STATES));
        let amount = draw.number(900) + 100;
        rows.push_str(&format!(
            "{row}. The {noun} {place} is {state}, amount {amount}.\n"
        ));
    }
    let state = draw.one(&STATES);
    one(format!(
        "Rewrite the following list with every \"{state}\" replaced by \"done\". Give back the whole list and nothing \
         else.\n\n{rows}"
    ))
}

/// Code in the prompt, an answer of prose and code.
fn mixed(draw: &mut Draw) -> Prompt {
    let code = code(draw);
    let noun = draw.one(&NOUNS);
    one(format!(
        "Explain in two sentences what this module does. Then show the last function again with the name \
         `{noun}_only` and a docstring.\n\n```python\n{code}```"
    ))
}

/// Nothing of the answer is in the prompt.
fn prose(draw: &mut Draw) -> Prompt {
    let (noun, other, place) = (draw.one(&NOUNS), draw.one(&NOUNS), draw.one(&PLACES));
    one(format!(
        "Tell me a story about a {noun} {place} and the woman who found a {other} there. Begin at once."
    ))
}

/// SHA-256 of the prompts with these numbers.
pub(super) fn sha256(seed: u64, workloads: &[Workload], numbers: std::ops::Range<u32>) -> String {
    let mut hash = Sha256::new();
    for workload in workloads {
        for number in numbers.clone() {
            let prompt = Prompt::new(seed, *workload, number);
            hash.update(prompt.messages.to_string());
            hash.update(
                prompt
                    .tools
                    .map(|tools| tools.to_string())
                    .unwrap_or_default(),
            );
        }
    }
    hex(&hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_number_is_the_same_text_and_another_is_another() {
        for workload in Workload::ALL {
            let prompt = Prompt::new(1, workload, 0);
            assert_eq!(prompt, Prompt::new(1, workload, 0));
            for other in [Prompt::new(1, workload, 1), Prompt::new(2, workload, 0)] {
                assert_ne!(prompt.messages, other.messages, "{workload:?}");
            }
        }
        let hash = |seed, numbers| sha256(seed, &Workload::ALL, numbers);
        assert_eq!(hash(1, 0..3), hash(1, 0..3));
        assert_ne!(hash(1, 0..3), hash(1, 0..2));
        assert_ne!(hash(1, 0..3), hash(2, 0..3));
    }

    #[test]
    fn most_of_a_repetitive_answer_is_in_its_prompt_and_nothing_of_a_story() {
        let text = |workload| Prompt::new(1, workload, 0).messages.to_string();
        assert!(text(Workload::Repetitive).len() > 500);
        assert!(text(Workload::Prose).len() < 250);
        assert!(Prompt::new(1, Workload::Tool, 0).tools.is_some());
    }
}

use std::collections::BTreeMap;
use tokio::time::Instant;

use serde_json::{Value, json};

use super::*;
use crate::dialect::Dialect;

fn class(request: &Value) -> RequestClass {
    let turn = Dialect::OpenAi
        .decode(request.to_string().as_bytes())
        .unwrap();
    RequestClass::of(&turn)
}

fn says(text: &str) -> Value {
    json!({"model": "m", "messages": [{"role": "user", "content": text}]})
}

/// The labels were given by reading, one after the other; where two readers could disagree the
/// entry says so and both are right.
#[test]
fn the_corpus_is_classified_as_labelled() {
    let corpus = include_str!("../../../tests/fixtures/spec/classes.json");
    let corpus: Vec<Value> = serde_json::from_str(corpus).unwrap();
    let mut wrong = Vec::new();
    let mut of_class: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
    for entry in &corpus {
        let mut messages = entry["before"].as_array().cloned().unwrap_or_default();
        if let Some(text) = entry["text"].as_str() {
            messages.push(json!({"role": "user", "content": text}));
        }
        let mut request = json!({"model": "m", "messages": messages});
        if let Some(names) = entry["tools"].as_array() {
            let tool =
                |name| json!({"type": "function", "function": {"name": name, "parameters": {}}});
            request["tools"] = names.iter().map(tool).collect();
        }
        let found = class(&request).as_str();
        let label = entry["class"].as_str().unwrap();
        let count = of_class.entry(label).or_default();
        count.1 += 1;
        if found == label || entry["or"] == found {
            count.0 += 1;
        } else {
            wrong.push(format!("{label} taken for {found}: {entry}"));
        }
    }
    let right = corpus.len() - wrong.len();
    assert!(corpus.len() >= 60, "{}", corpus.len());
    assert!(
        right * 100 >= corpus.len() * 90,
        "{right} of {}:\n{}",
        corpus.len(),
        wrong.join("\n")
    );
    for class in RequestClass::ALL {
        let (right, all) = of_class[class.as_str()];
        assert!(
            all >= 8 && right * 4 >= all * 3,
            "{class:?}: {right} of {all}\n{}",
            wrong.join("\n")
        );
    }
}

#[test]
fn empty_and_odd_requests_are_prose() {
    assert_eq!(class(&says("")), RequestClass::Prose);
    assert_eq!(class(&says("ß".repeat(5000).as_str())), RequestClass::Prose);
    let system = json!({"model": "m", "messages": [{"role": "system", "content": "def f(): {"}]});
    assert_eq!(class(&system), RequestClass::Prose);
}

#[test]
fn injected_text_does_not_count() {
    let text = "<system-reminder>\nfn main() {\nlet x = 1;\n}\n</system-reminder>\nHello there";
    assert_eq!(class(&says(text)), RequestClass::Prose);
}

#[test]
fn names_of_tools_are_read_in_words() {
    assert_eq!(words_of_name("str_replace_based_edit_tool")[1], "replace");
    assert_eq!(words_of_name("MultiEdit"), ["multi", "edit"]);
    assert_eq!(words_of_name("applyPatch"), ["apply", "patch"]);
    assert_eq!(words_of_name("creator"), ["creator"]);
}

/// A thousand times the text does not cost a hundred times the work.
#[test]
fn a_long_text_costs_no_more_than_its_ends() {
    let cost = |len: usize| {
        let text = "some words and more of them ".repeat(len);
        let body = says(&text).to_string();
        let turn = Dialect::OpenAi.decode(body.as_bytes()).unwrap();
        let started = Instant::now();
        for _ in 0..20 {
            assert_eq!(RequestClass::of(&turn), RequestClass::Prose);
        }
        started.elapsed()
    };
    cost(300);
    let (short, long) = (cost(300), cost(300_000));
    assert!(long < short * 100, "{long:?} against {short:?}");
}

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

/// How many of each class were classified as labelled, of how many, and what the others were taken for.
#[derive(Default)]
struct Score {
    of_class: BTreeMap<String, (usize, usize)>,
    wrong: Vec<String>,
}

impl Score {
    /// The labels were given by reading, one after the other; where two readers could disagree the
    /// entry says so and both are right.
    fn of(corpus: &str) -> Self {
        let corpus: Vec<Value> = serde_json::from_str(corpus).unwrap();
        let mut score = Self::default();
        for entry in &corpus {
            let found = class(&request(entry)).as_str();
            let label = entry["class"].as_str().unwrap();
            let count = score.of_class.entry(label.to_owned()).or_default();
            count.1 += 1;
            if found == label || entry["or"] == found {
                count.0 += 1;
            } else {
                score
                    .wrong
                    .push(format!("{label} taken for {found}: {entry}"));
            }
        }
        score
    }

    /// Right, of all.
    fn all(&self) -> (usize, usize) {
        let counts = self.of_class.values();
        counts.fold((0, 0), |(right, all), (r, a)| (right + r, all + a))
    }

    fn is_at_least(&self, all_percent: usize, class_percent: usize) {
        let told = self.wrong.join("\n");
        let (right, all) = self.all();
        assert!(
            right * 100 >= all * all_percent,
            "{right} of {all}:\n{told}"
        );
        for class in RequestClass::ALL {
            let (right, all) = self.of_class[class.as_str()];
            let is_enough = all >= 8 && right * 100 >= all * class_percent;
            assert!(is_enough, "{class:?}: {right} of {all}\n{told}");
        }
    }
}

fn request(entry: &Value) -> Value {
    let mut messages = entry["before"].as_array().cloned().unwrap_or_default();
    if let Some(text) = entry["text"].as_str() {
        messages.push(json!({"role": "user", "content": text}));
    }
    let mut request = json!({"model": "m", "messages": messages});
    if let Some(names) = entry["tools"].as_array() {
        let tool = |name| json!({"type": "function", "function": {"name": name, "parameters": {}}});
        request["tools"] = names.iter().map(tool).collect();
    }
    request
}

/// The forms, words and signs were chosen with this one at hand.
const CORPUS: &str = include_str!("../../../tests/fixtures/spec/classes.json");

/// This one was written and labelled before the classifier that is here, and nothing was chosen because of what
/// it is wrong about. When somebody has looked at that, it belongs to the other one, and a new one is to be written.
const HELD_OUT: &str = include_str!("../../../tests/fixtures/spec/classes-held-out.json");

#[test]
fn the_corpus_is_classified_as_labelled() {
    let score = Score::of(CORPUS);
    assert!(score.all().1 >= 200);
    score.is_at_least(97, 90);
}

#[test]
fn requests_it_was_not_made_with_are_classified_as_labelled() {
    let score = Score::of(HELD_OUT);
    assert!(score.all().1 >= 140);
    score.is_at_least(90, 80);
}

#[test]
#[ignore = "make test-statistics runs it, make statistics writes the table"]
fn the_documented_accuracy_is_what_the_corpora_say() {
    let (known, new) = (Score::of(CORPUS), Score::of(HELD_OUT));
    let percent =
        |(right, all): (usize, usize)| format!("{right} of {all} ({} %)", right * 100 / all);
    let mut table = String::from("| class | as it was made | held out |\n|---|---|---|\n");
    for class in RequestClass::ALL {
        let of = |score: &Score| percent(score.of_class[class.as_str()]);
        table += &format!("| `{}` | {} | {} |\n", class.as_str(), of(&known), of(&new));
    }
    table += &format!(
        "| all | {} | {} |\n",
        percent(known.all()),
        percent(new.all())
    );
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/speculative.md");
    crate::spec::simulation_tests::page_has(page, "classes", &table);
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

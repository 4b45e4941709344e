//! Any conversation a client may send, sane or not, is refused as a bad request or becomes a body
//! that llama-server takes.

mod anthropic;
mod openai;
mod responses;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::rules::{LENIENT, STRICT, fault, upstream};
use crate::dialect::Dialect;
use crate::turn::TurnError;

/// A JSON value with null or something of the wrong type now and then.
fn odd(sane: impl Strategy<Value = Value> + 'static) -> BoxedStrategy<Value> {
    let wrong = select(vec![
        Value::Null,
        json!(7),
        json!(true),
        json!([]),
        json!({}),
    ]);
    prop_oneof![100 => sane, 1 => wrong].boxed()
}

fn text() -> BoxedStrategy<Value> {
    let words = [
        "",
        "a",
        "é\u{1f999}",
        "\u{0}\n\"\\",
        "x-anthropic-billing-header: a",
        "Error: no",
    ];
    odd(select(words.map(Value::from).to_vec()))
}

fn arguments() -> BoxedStrategy<Value> {
    let texts = [
        "{}",
        "{\"a\":1}",
        "{\"a\":",
        "",
        "null",
        "[1]",
        "\"x\"",
        " {\"é\": null} ",
        "{}}",
    ];
    select(texts.map(Value::from).to_vec()).boxed()
}

fn input() -> BoxedStrategy<Value> {
    odd(select(vec![
        json!({}),
        json!({"a": 1.5}),
        json!([1]),
        json!("x"),
        json!({"é": {"b": []}}),
    ]))
}

/// An object of some of these members.
fn object(members: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    let members: Vec<_> = members
        .into_iter()
        .map(|(name, value)| (Just(name), prop::option::weighted(0.97, value)))
        .collect();
    members
        .prop_map(|members| {
            let given = members
                .into_iter()
                .filter_map(|(name, value)| Some((name.to_owned(), value?)));
            Value::Object(given.collect())
        })
        .boxed()
}

fn one_of(names: &[&str]) -> BoxedStrategy<Value> {
    select(
        names
            .iter()
            .map(|name| Value::from(*name))
            .collect::<Vec<_>>(),
    )
    .boxed()
}

fn list(item: BoxedStrategy<Value>, most: usize) -> BoxedStrategy<Value> {
    vec(item, 0..=most).prop_map(Value::Array).boxed()
}

fn check(dialect: Dialect, body: &Value) -> Result<(), TestCaseError> {
    let turn = match dialect.decode(body.to_string().as_bytes()) {
        Ok(turn) => turn,
        Err(TurnError::BadRequest { .. }) => return Ok(()),
        Err(other) => return Err(TestCaseError::fail(format!("{other:?}"))),
    };
    for rules in [STRICT, LENIENT] {
        for vision in [false, true] {
            let upstream = upstream(&turn, rules, vision);
            let fault = fault(&upstream, rules, vision);
            prop_assert!(fault.is_none(), "{:?}\nof {body}\nin {upstream}", fault);
            prop_assert!(upstream.get("id_slot").is_none());
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn anthropic_transcripts_are_bad_requests_or_valid_upstream(body in anthropic::body()) {
        check(Dialect::Anthropic, &body)?;
    }

    #[test]
    fn responses_transcripts_are_bad_requests_or_valid_upstream(body in responses::body()) {
        check(Dialect::Responses, &body)?;
    }

    #[test]
    fn openai_transcripts_are_bad_requests_or_valid_upstream(body in openai::body()) {
        check(Dialect::OpenAi, &body)?;
    }
}

/// The generators must mostly yield what is accepted, or they test nothing.
#[test]
fn most_transcripts_are_accepted() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    for (dialect, strategy) in [
        (Dialect::Anthropic, anthropic::body()),
        (Dialect::OpenAi, openai::body()),
        (Dialect::Responses, responses::body()),
    ] {
        let mut runner = TestRunner::deterministic();
        let bodies = (0..400).map(|_| strategy.new_tree(&mut runner).unwrap().current());
        let accepted = bodies.filter(|body| dialect.decode(body.to_string().as_bytes()).is_ok());
        assert!(accepted.count() > 60, "{dialect:?}");
    }
}

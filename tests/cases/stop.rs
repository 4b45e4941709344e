//! Stop sequences, matched by the gateway.

use rstest::rstest;
use serde_json::{Value, json};

use crate::support::script::{chunk, role, timings};
use crate::support::*;

/// A token with running timings, as llama-server sends them on request.
fn token(text: &str, tokens: u64) -> Value {
    let choice = json!([{"finish_reason": null, "index": 0, "delta": {"content": text}}]);
    chunk(choice, json!({"timings": timings(11, 3, tokens)}))
}

fn tokens(texts: &[&str]) -> Reply {
    let reply = Reply::stream().event(&role());
    texts
        .iter()
        .zip(1..)
        .fold(reply, |reply, (text, n)| reply.event(&token(text, n)))
}

/// Tokens, and what may be said of them when `STOP` ends the answer.
const STOPPED: &[(&[&str], &str)] = &[
    (&["go STOP on"], "go "),
    (&["go S", "TO", "P on"], "go "),
    (&["STOP"], ""),
    (&["g", "o", " ", "S", "T", "O", "P"], "go "),
    (&["go STO", " STOP"], "go STO "),
];

#[rstest]
#[tokio::test]
async fn a_stop_sequence_ends_the_answer_and_the_generation(#[values(true, false)] streams: bool) {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    let options = json!({"include_usage": true});
    let more = json!({"stream": streams, "stop": ["STOP", "\u{1f6d1}"], "stream_options": options});
    for (index, (texts, expected)) in STOPPED.iter().enumerate() {
        backend.then(tokens(texts).hang());
        let response = gateway.ask(&chat(more.clone())).await;
        backend.cancelled(index).await;
        let (said, usage, finish) = outcome(&response, streams);
        assert_eq!(
            (said.as_str(), finish.as_str()),
            (*expected, "stop"),
            "{texts:?}"
        );
        assert_eq!(usage["prompt_tokens"], 11, "{usage}");
        assert_eq!(usage["completion_tokens"], texts.len(), "{usage}");
    }
}

fn outcome(response: &Response, streams: bool) -> (String, Value, String) {
    if streams {
        response.assert_complete_stream();
        let usage = response.chunks().pop().unwrap()["usage"].clone();
        return (response.said(), usage, response.finishes().pop().unwrap());
    }
    let body = response.json();
    let choice = &body["choices"][0];
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (
        text(&choice["message"]["content"]),
        body["usage"].clone(),
        text(&choice["finish_reason"]),
    )
}

#[tokio::test]
async fn what_might_become_a_stop_sequence_waits_and_the_rest_does_not() {
    let gate = Gate::new();
    let reply = tokens(&["hello ST"])
        .gate(&gate)
        .event(&token("ILL", 2))
        .ends("stop");
    let backend = Backend::replying(reply).await;
    let gateway = Setup::to(&[&backend]).start().await;
    let mut client = gateway.connect().await;
    client
        .send(&chat(json!({"stream": true, "stop": "STOP"})))
        .await;
    let mut answer = client.answer().await;
    assert_eq!(answer.content().await, "hello ");
    gate.open();
    assert_eq!(answer.content().await, "STILL");
    answer.rest().await.assert_complete_stream();
}

#[tokio::test]
async fn held_text_is_not_lost_at_the_end() {
    let backend = Backend::replying(tokens(&["hello ST"]).ends("stop")).await;
    let gateway = Setup::to(&[&backend]).start().await;
    let response = gateway
        .ask(&chat(json!({"stream": true, "stop": "STOP"})))
        .await;
    response.assert_complete_stream();
    assert_eq!(response.said(), "hello ST");
}

#[tokio::test]
async fn a_stop_sequence_is_not_searched_in_reasoning_or_arguments() {
    let call = script::tool_call(0, "c", "f", r#"{"a":"STOP"}"#);
    let reply = Reply::stream()
        .event(&role())
        .event(&script::delta(json!({"reasoning_content": "STOP"})))
        .event(&call)
        .ends("tool_calls");
    let backend = Backend::replying(reply).await;
    let gateway = Setup::to(&[&backend]).start().await;
    let body = gateway.ask(&chat(json!({"stop": ["STOP"]}))).await.json();
    let message = &body["choices"][0]["message"];
    assert_eq!(message["reasoning_content"], "STOP");
    assert_eq!(
        message["tool_calls"][0]["function"]["arguments"],
        "{\"a\":\"STOP\"}"
    );
    assert_eq!(body["choices"][0]["finish_reason"], "tool_calls");
}

//! Answers in one piece, collected from the backend's stream.

use serde_json::{Value, json};

use crate::support::script::{DONE, delta, finish, role, text, usage};
use crate::support::*;

async fn asked(reply: Reply, more: Value) -> Response {
    let backend = Backend::replying(reply).await;
    let gateway = Setup::to(&[&backend]).start().await;
    gateway.ask(&chat(more)).await
}

#[tokio::test]
async fn a_whole_answer_says_what_the_stream_says() {
    let texts = ["Hel", "lo \u{1f999}", "\n", "{\"a\": 1}"];
    let whole = asked(Reply::says(&texts), json!({})).await;
    let streamed = asked(Reply::says(&texts), json!({"stream": true})).await;
    assert_eq!(whole.status, 200);
    assert_eq!(whole.headers.get("content-type"), Some("application/json"));
    let body = whole.json();
    assert_eq!(body["choices"][0]["message"]["content"], streamed.said());
    assert_eq!(body["choices"][0]["message"]["role"], "assistant");
    assert_eq!(
        body["choices"][0]["finish_reason"],
        streamed.finishes()[0].as_str()
    );
    assert_eq!(
        (&body["object"], &body["model"]),
        (&json!("chat.completion"), &json!("m"))
    );
    assert!(body["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert_eq!(
        body["usage"],
        json!({"prompt_tokens": 11, "completion_tokens": 4, "total_tokens": 15,
               "prompt_tokens_details": {"cached_tokens": 3}})
    );
    assert_eq!(body["timings"]["predicted_n"], 4);
}

#[tokio::test]
async fn tool_calls_are_put_together() {
    let call = |index: u32, id: Option<&str>, name: Option<&str>, arguments: &str| {
        let mut call = json!({"index": index, "function": {"arguments": arguments}});
        if let (Some(id), Some(name)) = (id, name) {
            call["id"] = json!(id);
            call["type"] = json!("function");
            call["function"]["name"] = json!(name);
        }
        delta(json!({"tool_calls": [call]}))
    };
    let reply = Reply::stream()
        .event(&role())
        .event(&call(0, Some("c0"), Some("ls"), "{"))
        .event(&call(0, None, None, "\"dir\": \"\\u00e9\"}"))
        .event(&call(1, Some("c1"), Some("cat"), ""))
        .event(&call(1, None, None, "{\"n\": 1.50}"))
        .ends("tool_calls");
    let body = asked(reply, json!({})).await.json();
    let choice = &body["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    assert_eq!(choice["message"]["content"], Value::Null);
    let expected = json!([
        {"id": "c0", "type": "function", "function": {"name": "ls", "arguments": "{\"dir\": \"\\u00e9\"}"}},
        {"id": "c1", "type": "function", "function": {"name": "cat", "arguments": "{\"n\": 1.50}"}},
    ]);
    assert_eq!(choice["message"]["tool_calls"], expected);
}

#[tokio::test]
async fn calls_without_identifiers_get_distinct_ones() {
    let call = |index: u32| {
        let function = json!({"name": "f", "arguments": "{}"});
        delta(
            json!({"tool_calls": [{"index": index, "id": "", "type": "function", "function": function}]}),
        )
    };
    let reply = Reply::stream()
        .event(&call(0))
        .event(&call(1))
        .ends("tool_calls");
    let body = asked(reply, json!({})).await.json();
    let calls = &body["choices"][0]["message"]["tool_calls"];
    let (one, two) = (
        calls[0]["id"].as_str().unwrap(),
        calls[1]["id"].as_str().unwrap(),
    );
    assert!(!one.is_empty() && !two.is_empty() && one != two);
}

#[tokio::test]
async fn reasoning_is_kept_apart_from_text() {
    let reply = Reply::stream()
        .event(&role())
        .event(&delta(json!({"reasoning_content": "h"})))
        .event(&delta(json!({"reasoning_content": "m"})))
        .event(&text("so"))
        .ends("stop");
    let body = asked(reply, json!({})).await.json();
    let message = &body["choices"][0]["message"];
    assert_eq!(
        (&message["reasoning_content"], &message["content"]),
        (&json!("hm"), &json!("so"))
    );
}

#[tokio::test]
async fn several_choices_come_in_order() {
    let reply = Reply::stream()
        .event(&script::delta_of(1, json!({"content": "one"})))
        .event(&script::delta_of(0, json!({"content": "zero"})))
        .event(&script::finish_of(1, "length"))
        .event(&script::finish_of(0, "stop"))
        .event(&usage(5, 0, 2))
        .event(&usage(5, 5, 3))
        .piece(DONE)
        .end();
    let body = asked(reply, json!({"n": 2})).await.json();
    let said = |n: usize| body["choices"][n]["message"]["content"].clone();
    assert_eq!((said(0), said(1)), (json!("zero"), json!("one")));
    assert_eq!(body["choices"][1]["index"], 1);
    assert_eq!(body["choices"][1]["finish_reason"], "length");
    assert_eq!(body["usage"]["completion_tokens"], 5);
}

#[tokio::test]
async fn token_probabilities_become_one_list() {
    let token = |token: &str| {
        let probability = json!({"content": [{"token": token, "logprob": -0.5}]});
        script::chunk(
            json!([{"finish_reason": null, "index": 0, "delta": {"content": token}, "logprobs": probability}]),
            json!({}),
        )
    };
    let reply = Reply::stream()
        .event(&token("a"))
        .event(&token("b"))
        .ends("stop");
    let body = asked(reply, json!({"logprobs": true})).await.json();
    let list = body["choices"][0]["logprobs"]["content"]
        .as_array()
        .unwrap()
        .clone();
    let tokens: Vec<_> = list.iter().map(|t| t["token"].as_str().unwrap()).collect();
    assert_eq!(tokens, ["a", "b"]);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_an_error_and_not_half_an_answer() {
    let reply = Reply::stream()
        .event(&role())
        .event(&text("half of"))
        .close();
    asked(reply, json!({})).await.assert_error(502);
    let reply = Reply::stream().event(&role()).event(&text("half of")).end();
    asked(reply, json!({})).await.assert_error(502);
}

#[tokio::test]
async fn the_terminator_is_not_needed_once_every_choice_has_finished() {
    let reply = Reply::stream()
        .event(&text("a"))
        .event(&finish("stop"))
        .event(&usage(1, 0, 1))
        .end();
    let response = asked(reply, json!({})).await;
    assert_eq!(response.json()["choices"][0]["message"]["content"], "a");
}

#[tokio::test]
async fn an_error_inside_the_stream_becomes_an_error_answer() {
    let error = json!({"error": {"code": 500, "message": "Context size has been exceeded.", "type": "server_error"}});
    let reply = Reply::stream()
        .event(&role())
        .event(&text("a"))
        .event(&error)
        .end();
    // A cache that is full is the fleet's trouble: the client may come again, and must not compact for it.
    let answer = asked(reply, json!({})).await;
    let error = answer.assert_error(503);
    assert_eq!(error["code"], "kv_overflow");
    assert!(answer.headers.get("retry-after").is_some());
}

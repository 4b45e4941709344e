//! Streams: what comes, comes at once, in shape, and ends exactly once.

use std::time::Duration;

use rstest::rstest;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::support::script::{DONE, chunk, delta, delta_of, finish, finish_of, role, text, usage};
use crate::support::*;

async fn answered(reply: Reply, request: &Request) -> Response {
    let backend = Backend::replying(reply).await;
    let gateway = Setup::to(&[&backend]).start().await;
    gateway.ask(request).await
}

#[tokio::test]
async fn every_token_is_passed_on_before_the_next_is_sent() {
    let gates: Vec<Gate> = (0..4).map(|_| Gate::new()).collect();
    let mut reply = Reply::stream().event(&role());
    for (n, gate) in gates.iter().enumerate() {
        reply = reply.event(&text(&format!("t{n}"))).gate(gate);
    }
    let backend = Backend::replying(reply.ends("stop")).await;
    let gateway = Setup::to(&[&backend]).start().await;
    let mut client = gateway.connect().await;
    client.send(&stream()).await;
    let mut answer = client.answer().await;
    for (n, gate) in gates.iter().enumerate() {
        assert_eq!(answer.content().await, format!("t{n}"));
        gate.open();
    }
    answer.rest().await.assert_complete_stream();
}

#[tokio::test]
async fn tool_arguments_are_passed_on_as_they_come() {
    let call = |function: Value, more: Value| {
        let mut call = json!({"index": 0, "function": function});
        call.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        delta(json!({"tool_calls": [call]}))
    };
    let gate = Gate::new();
    let reply = Reply::stream()
        .event(&role())
        .event(&call(
            json!({"name": "ls", "arguments": "{"}),
            json!({"id": "c1", "type": "function"}),
        ))
        .gate(&gate)
        .event(&call(json!({"arguments": "\"a\":1}"}), json!({})))
        .ends("tool_calls");
    let backend = Backend::replying(reply).await;
    let gateway = Setup::to(&[&backend]).start().await;
    let mut client = gateway.connect().await;
    client.send(&stream()).await;
    let mut answer = client.answer().await;
    let mut seen = Vec::new();
    while !seen
        .iter()
        .any(|data: &String| data.contains(r#""name":"ls""#))
    {
        seen.push(answer.event().await.unwrap().data);
    }
    gate.open();
    let response = answer.rest().await;
    response.assert_complete_stream();
    assert_eq!(response.finishes(), ["tool_calls"]);
    let chunks = response.chunks();
    let calls = chunks
        .iter()
        .filter_map(|c| c["choices"][0]["delta"]["tool_calls"][0].as_object());
    let arguments: String = calls
        .filter_map(|call| call["function"]["arguments"].as_str())
        .collect();
    assert_eq!(arguments, "{\"a\":1}");
}

#[rstest]
#[case::as_usual(Reply::says(&["a", "b"]))]
#[case::role_forgotten(Reply::stream().event(&text("ab")).ends("stop"))]
#[case::nothing_said(Reply::stream().event(&role()).ends("stop"))]
#[case::comments_between(Reply::stream().comment().event(&role()).comment().event(&text("a")).comment().ends("stop"))]
#[tokio::test]
async fn the_role_comes_first_and_once(#[case] reply: Reply) {
    let response = answered(reply, &stream()).await;
    response.assert_complete_stream();
    let chunks = response.chunks();
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    let roles = chunks
        .iter()
        .filter(|c| !c["choices"][0]["delta"]["role"].is_null())
        .count();
    assert_eq!(roles, 1, "{}", response.text());
    assert!(
        !response.text().contains(":\n\n"),
        "comments of the backend stay there"
    );
}

#[tokio::test]
async fn every_chunk_is_in_openai_shape_under_our_name() {
    let response = answered(Reply::says(&["a", "b"]), &stream()).await;
    assert_eq!(
        response.headers.get("content-type"),
        Some("text/event-stream; charset=utf-8")
    );
    assert_eq!(response.headers.get("cache-control"), Some("no-cache"));
    assert_eq!(response.headers.get("x-accel-buffering"), Some("no"));
    let chunks = response.chunks();
    for chunk in &chunks {
        assert_eq!(chunk["object"], "chat.completion.chunk");
        assert_eq!(chunk["id"], chunks[0]["id"]);
        assert_eq!(
            (&chunk["model"], &chunk["created"]),
            (&json!("m"), &chunks[0]["created"])
        );
        assert!(chunk["choices"].is_array());
    }
    assert!(chunks[0]["id"].as_str().unwrap().starts_with("chatcmpl-"));
}

#[tokio::test]
async fn usage_is_told_when_asked_for() {
    let request = chat(json!({"stream": true, "stream_options": {"include_usage": true}}));
    let response = answered(Reply::says(&["a", "b"]), &request).await;
    response.assert_complete_stream();
    let chunks = response.chunks();
    let (last, others) = chunks.split_last().unwrap();
    assert_eq!(last["choices"], json!([]));
    assert_eq!(
        last["usage"],
        json!({"prompt_tokens": 11, "completion_tokens": 4, "total_tokens": 15,
               "prompt_tokens_details": {"cached_tokens": 3}})
    );
    for chunk in others {
        assert_eq!(chunk.get("usage"), Some(&Value::Null), "{chunk}");
    }
}

#[tokio::test]
async fn usage_is_not_told_when_not_asked_for() {
    let response = answered(Reply::says(&["a"]), &stream()).await;
    response.assert_complete_stream();
    for chunk in response.chunks() {
        assert!(chunk.get("usage").is_none(), "{chunk}");
        assert_eq!(chunk["choices"].as_array().unwrap().len(), 1, "{chunk}");
    }
}

#[tokio::test]
async fn usage_comes_from_timings_where_the_backend_reports_none() {
    let done = chunk(
        json!([{"finish_reason": "stop", "index": 0, "delta": {}}]),
        json!({"timings": script::timings(20, 5, 7)}),
    );
    let reply = Reply::stream()
        .event(&text("a"))
        .event(&done)
        .piece(DONE)
        .end();
    let request = chat(json!({"stream": true, "stream_options": {"include_usage": true}}));
    let response = answered(reply, &request).await;
    response.assert_complete_stream();
    let usage = response.chunks().pop().unwrap()["usage"].clone();
    assert_eq!(
        (&usage["prompt_tokens"], &usage["completion_tokens"]),
        (&json!(20), &json!(7))
    );
    assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], 5);
}

#[tokio::test]
async fn several_choices_keep_apart_and_end_once() {
    let reply = Reply::stream()
        .event(&delta_of(0, json!({"role": "assistant", "content": null})))
        .event(&delta_of(1, json!({"role": "assistant", "content": null})))
        .event(&delta_of(1, json!({"content": "one"})))
        .event(&delta_of(0, json!({"content": "zero"})))
        .event(&finish_of(1, "length"))
        .event(&delta_of(0, json!({"content": "!"})))
        .event(&finish_of(0, "stop"))
        .event(&usage(10, 0, 5))
        .event(&usage(10, 10, 6))
        .piece(DONE)
        .end();
    let request = chat(json!({"stream": true, "n": 2, "stream_options": {"include_usage": true}}));
    let response = answered(reply, &request).await;
    response.assert_complete_stream();
    assert_eq!(
        (response.said_by(0).as_str(), response.said_by(1).as_str()),
        ("zero!", "one")
    );
    let mut finishes = response.finishes();
    finishes.sort();
    assert_eq!(finishes, ["length", "stop"]);
    let reports: Vec<Value> = response
        .chunks()
        .into_iter()
        .filter(|c| !c["usage"].is_null())
        .collect();
    assert_eq!(reports.len(), 1, "one request, one report: {reports:?}");
    assert_eq!(reports[0]["usage"]["completion_tokens"], 11);
    assert_eq!(reports[0]["usage"]["prompt_tokens"], 10);
}

#[tokio::test]
async fn token_probabilities_pass_as_they_came() {
    let probabilities = json!({"content": [
        {"id": 7, "token": "a", "bytes": [97], "logprob": -0.25, "top_logprobs": [{"token": "b", "logprob": -2.0}]}
    ]});
    let with = chunk(
        json!([{"finish_reason": null, "index": 0, "delta": {"content": "a"}, "logprobs": probabilities}]),
        json!({}),
    );
    let reply = Reply::stream().event(&role()).event(&with).ends("stop");
    let request = chat(json!({"stream": true, "logprobs": true, "top_logprobs": 1}));
    let response = answered(reply, &request).await;
    response.assert_complete_stream();
    let chunks = response.chunks();
    let told = chunks
        .iter()
        .find_map(|c| c["choices"][0].get("logprobs").filter(|l| !l.is_null()));
    assert_eq!(told, Some(&probabilities));
}

#[tokio::test]
async fn reasoning_and_text_arrive_in_their_own_fields() {
    let reply = Reply::stream()
        .event(&role())
        .event(&delta(json!({"reasoning_content": "hm"})))
        .event(&text("so"))
        .ends("stop");
    let response = answered(reply, &stream()).await;
    response.assert_complete_stream();
    let chunks = response.chunks();
    let thoughts = chunks
        .iter()
        .filter_map(|c| c["choices"][0]["delta"]["reasoning_content"].as_str());
    assert_eq!(thoughts.collect::<String>(), "hm");
    assert_eq!(response.said(), "so");
}

#[tokio::test]
async fn a_cut_answer_says_length() {
    let response = answered(Reply::stream().event(&text("a")).ends("length"), &stream()).await;
    response.assert_complete_stream();
    assert_eq!(response.finishes(), ["length"]);
}

#[tokio::test]
async fn a_promised_call_that_never_came_is_not_announced() {
    let response = answered(
        Reply::stream().event(&text("a")).ends("tool_calls"),
        &stream(),
    )
    .await;
    response.assert_complete_stream();
    assert_eq!(response.finishes(), ["stop"]);
}

#[tokio::test]
async fn a_huge_event_passes_whole() {
    let long = "x\u{e9}".repeat(512 << 10);
    let response = answered(Reply::says(&[&long, "end"]), &stream()).await;
    response.assert_complete_stream();
    assert!(response.said() == format!("{long}end"));
}

#[tokio::test]
async fn characters_cut_between_packets_arrive_whole() {
    let said = "\u{1f999} \u{65e5}\u{672c} e\u{301}";
    let data = format!("data: {}\n\n", text(said)).into_bytes();
    let mut reply = Reply::stream().event(&role());
    for byte in &data {
        reply = reply.piece([*byte]);
    }
    let response = answered(reply.ends("stop"), &stream()).await;
    response.assert_complete_stream();
    assert_eq!(response.said(), said);
}

#[tokio::test]
async fn many_tokens_in_one_packet_are_all_passed_on() {
    let burst: String = (0..64)
        .map(|n| format!("data: {}\n\n", text(&format!("{n},"))))
        .collect();
    let response = answered(
        Reply::stream().event(&role()).piece(burst).ends("stop"),
        &stream(),
    )
    .await;
    response.assert_complete_stream();
    let expected: String = (0..64).map(|n| format!("{n},")).collect();
    assert_eq!(response.said(), expected);
}

/// Flow control: the backend is not read faster than the client reads.
#[tokio::test]
async fn a_slow_client_slows_its_backend() {
    let backend = Backend::replying(Reply::stream().flood().ends("stop")).await;
    let gateway = Setup::to(&[&backend]).start().await;
    let mut client = Client::connect_narrow(gateway.addr).await;
    client.send(&stream()).await;
    let mut answer = client.answer().await;
    for _ in 0..3 {
        answer.content().await;
        // 32 MiB would all be taken from the backend by now if the gateway hoarded.
        sleep(Duration::from_millis(300)).await;
        assert!(
            !backend.requests()[0].answered,
            "the whole answer is held somewhere"
        );
    }
}

#[tokio::test]
async fn what_follows_the_end_of_an_answer_is_ignored() {
    let reply = Reply::stream()
        .event(&text("a"))
        .event(&finish("stop"))
        .event(&text(" late"))
        .event(&usage(1, 0, 1))
        .piece(DONE)
        .end();
    let response = answered(reply, &stream()).await;
    response.assert_complete_stream();
    assert_eq!(response.said(), "a");
    assert_eq!(response.finishes(), ["stop"]);
}

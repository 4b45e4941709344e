//! OpenAI Responses through the real gateway: what Codex needs beyond the other dialects' cases.

use std::time::Duration;

use rstest::rstest;
use serde_json::{Value, json};

use crate::support::script::{delta, role, text};
use crate::support::*;

const OVERFLOW: &str =
    "request (931 tokens) exceeds the available context size (512 tokens), try increasing it";

fn overflow() -> Reply {
    let error = json!({"error": {"code": 400, "type": "exceed_context_size_error", "message": OVERFLOW,
        "n_prompt_tokens": 931, "n_ctx": 512}});
    Reply::json(400, &error)
}

/// The response the last event carries.
fn last(response: &Response) -> (String, Value) {
    let name = response.names().pop().expect("events");
    (name, response.chunks().pop().unwrap()["response"].clone())
}

fn assert_numbered(response: &Response) {
    let numbers: Vec<_> = response
        .chunks()
        .iter()
        .map(|e| e["sequence_number"].as_u64())
        .collect();
    let expected: Vec<_> = (0..numbers.len() as u64).map(Some).collect();
    assert_eq!(numbers, expected, "{}", response.text());
}

#[tokio::test]
async fn a_stream_has_every_event_in_order_and_the_whole_answer_at_its_end() {
    let backend = Backend::replying(Reply::says(&["Hello", " there"])).await;
    let gateway = Setup::to(&[&backend]).start().await;
    let response = gateway.ask(&responses(json!({"stream": true}))).await;
    assert_eq!((response.status, response.end), (200, End::Complete));
    assert_eq!(
        response.names(),
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed",
        ]
    );
    assert_numbered(&response);
    let (_, whole) = last(&response);
    assert_eq!(whole["output"][0]["content"][0]["text"], "Hello there");
    assert_eq!(
        whole["usage"],
        json!({"input_tokens": 11, "input_tokens_details": {"cached_tokens": 3},
        "output_tokens": 4, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 15})
    );
    let collected = gateway.ask(&responses(json!({}))).await;
    assert_eq!(
        collected.headers.get("content-type"),
        Some("application/json")
    );
    let mut collected = collected.json();
    // Only the ids differ.
    for answer in [&mut collected, &mut whole.clone()] {
        answer["output"][0]["id"] = Value::Null;
    }
    for member in ["output", "usage", "status", "tools", "text"] {
        let mut streamed = whole[member].clone();
        if member == "output" {
            streamed[0]["id"] = Value::Null;
        }
        assert_eq!(collected[member], streamed, "{member}");
    }
}

/// The settings an answer repeats may come over several lines; an event ends at the first.
#[tokio::test]
async fn a_request_in_many_lines_is_repeated_in_one() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    let tools = json!([{"type": "function", "name": "f", "description": "a\nb"}]);
    let body = json!({"model": "m", "input": "hi", "stream": true, "tools": tools, "metadata": {"a": "b"}});
    let pretty = serde_json::to_string_pretty(&body).unwrap();
    let response = gateway.ask(&post("/v1/responses", pretty)).await;
    let text = response.text();
    let strange = text.lines().find(|line| {
        !(line.is_empty() || line.starts_with("event: ") || line.starts_with("data: {"))
    });
    assert_eq!(strange, None);
    let (name, whole) = last(&response);
    assert_eq!(name, "response.completed");
    assert_eq!(
        (&whole["tools"], &whole["metadata"]),
        (&tools, &body["metadata"])
    );
}

#[tokio::test]
async fn it_is_counted_and_logged_as_a_dialect_of_its_own() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    let request = responses(json!({"stream": true, "prompt_cache_key": "my-secret"}))
        .header("User-Agent", "codex_exec/0.169.0 (Debian)");
    let response = gateway.ask(&request).await;
    let line = gateway
        .access_line(response.headers.get("x-request-id").unwrap())
        .await;
    assert_eq!(
        (&line["dialect"], &line["path"], &line["outcome"]),
        (&json!("responses"), &json!("/v1/responses"), &json!("ok"))
    );
    let labels = r#"dialect="responses",outcome="ok",pool="default""#;
    assert_eq!(gateway.metric("drover_requests_total", labels).await, 1.0);
    assert_eq!(
        gateway
            .metric("drover_session_source_total", r#"source="meta""#)
            .await,
        1.0
    );
    gateway
        .logs(&["src=meta client=codex_exec/0.169.0 dialect=responses"])
        .await;
    let log = gateway.log().join("\n");
    assert!(!log.contains("my-secret"), "{log}");
}

/// As Codex sends them; call ids and the day change, the conversation stays.
#[tokio::test]
async fn the_turns_of_a_codex_session_are_one_conversation() {
    let (one, two) = (Backend::start().await, Backend::start().await);
    let gateway = Setup::to(&[&one, &two]).start().await;
    let said = |role: &str, text: String| json!({"type": "message", "role": role, "content": [{"type": "input_text", "text": text}]});
    let mut seen = Vec::new();
    for turn in 0..6 {
        let mut input = vec![
            said("developer", format!("You are an agent. It is day {turn}.")),
            said(
                "user",
                "<environment_context>linux</environment_context>".into(),
            ),
            said("user", "fix it".into()),
        ];
        for call in 0..turn {
            let id = format!("call_{turn}_{call}");
            input.push(json!({"type": "reasoning", "summary": [], "encrypted_content": "gAAA"}));
            input.push(
                json!({"type": "function_call", "call_id": id, "name": "exec", "arguments": "{}"}),
            );
            input.push(json!({"type": "function_call_output", "call_id": id, "output": format!("done {call}")}));
        }
        let tools = json!([{"type": "function", "name": "exec"}]);
        let request = responses(json!({"input": input, "tools": tools, "stream": true}))
            .header("session-id", "s")
            .header("thread-id", "s");
        let response = gateway.ask(&request).await;
        let header = |name: &str| response.headers.get(name).unwrap().to_owned();
        seen.push((header("x-drover-session"), header("x-drover-backend")));
    }
    assert!(seen.iter().all(|turn| *turn == seen[0]), "{seen:?}");
    gateway.idle().await;
    let view = gateway
        .admin_get(&format!("/api/sessions/{}", seen[0].0))
        .await
        .json();
    assert_eq!(
        (&view["turns"], &view["lineage_count"], &view["field"]),
        (&json!(6), &json!(1), &json!("session-id"))
    );
}

#[tokio::test]
async fn a_silent_backend_is_covered_by_events_codex_counts() {
    let gate = Gate::new();
    let late = Reply::new()
        .gate(&gate)
        .head()
        .event(&role())
        .event(&text("late"))
        .ends("stop");
    let backend = Backend::replying(late).await;
    let gateway = Setup::to(&[&backend])
        .set("timeouts.ping_first", json!("200ms"))
        .set("timeouts.ping_every", json!("100ms"))
        .start()
        .await;
    let mut client = gateway.connect().await;
    client.send(&responses(json!({"stream": true, "instructions": "long", "tools": [{"type": "function", "name": "f"}]}))).await;
    let mut answer = client.answer().await;
    for number in 0..4 {
        let event = answer.event().await.unwrap().json();
        let expected = if number == 0 {
            "response.created"
        } else {
            "response.in_progress"
        };
        assert_eq!(
            (&event["type"], &event["sequence_number"]),
            (&json!(expected), &json!(number))
        );
        assert_eq!(event["response"]["status"], "in_progress");
        // Tens of kilobytes are not repeated with every sign of life.
        assert_eq!(event["response"]["tools"] != json!([]), number == 0);
    }
    gate.open();
    let response = answer.rest().await;
    assert_numbered(&response);
    assert_eq!(last(&response).0, "response.completed");
    let created = response
        .names()
        .iter()
        .filter(|name| *name == "response.created")
        .count();
    assert_eq!(created, 1);
}

#[rstest]
#[case::error(Reply::stream().event(&text("half")).event(&json!({"error": {"code": 500, "message": "Compute error.", "type": "server_error"}})).end())]
#[case::cut(Reply::stream().event(&text("half")).close())]
#[case::clean_end(Reply::stream().event(&text("half")).end())]
#[case::garbage(Reply::stream().event(&text("half")).piece("data: {nonsense\n\n").hang())]
#[tokio::test]
async fn after_content_a_stream_ends_as_failed(#[case] failure: Reply) {
    let backend = Backend::replying(failure).await;
    let gateway = Setup::to(&[&backend]).start().await;
    let response = gateway.ask(&responses(json!({"stream": true}))).await;
    assert_eq!((response.status, response.end), (200, End::Complete));
    assert_numbered(&response);
    let (name, failed) = last(&response);
    assert_eq!(
        (name.as_str(), &failed["status"]),
        ("response.failed", &json!("failed"))
    );
    // Codex tries again on this code.
    assert_eq!(failed["error"]["code"], "server_error");
    assert_eq!(failed["output"][0]["status"], "incomplete");
    let line = gateway
        .access_line(response.headers.get("x-request-id").unwrap())
        .await;
    assert_eq!(line["outcome"], "cut");
}

/// Codex compacts when its stream fails for the length, and gives up on a 400.
#[rstest]
#[tokio::test]
async fn an_overflow_makes_codex_compact(#[values(true, false)] streams: bool) {
    let backend = Backend::replying(overflow()).await;
    let gateway = Setup::to(&[&backend]).start().await;
    let response = gateway.ask(&responses(json!({"stream": streams}))).await;
    let error = if streams {
        assert_eq!(response.status, 200);
        assert_eq!(
            response.names(),
            [
                "response.created",
                "response.in_progress",
                "response.failed"
            ]
        );
        last(&response).1["error"].clone()
    } else {
        response.assert_error(400)
    };
    assert_eq!(error["code"], "context_length_exceeded");
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("prompt is too long: 931 tokens > 512 maximum")
    );
    assert_eq!(backend.requests().len(), 1);
    let line = gateway
        .access_line(response.headers.get("x-request-id").unwrap())
        .await;
    assert_eq!(
        (&line["outcome"], &line["error"]),
        (&json!("client_error"), &json!("context_overflow"))
    );
}

#[tokio::test]
async fn other_errors_before_the_stream_keep_their_status() {
    let backend = Backend::replying(Reply::error(500, "server_error", "Jinja Exception: no")).await;
    let gateway = Setup::to(&[&backend]).start().await;
    let request = responses(json!({"stream": true}));
    gateway.ask(&request).await.assert_error(400);
    backend.always(Reply::loading());
    let loading = gateway.ask(&request).await;
    loading.assert_error(503);
    assert!(loading.headers.get("retry-after").is_some());
    let bad = gateway
        .ask(&responses(json!({"input": []})))
        .await
        .assert_error(400);
    assert_eq!(bad["param"], "input");
}

#[rstest]
#[case("GET", "/v1/responses/resp_1")]
#[case("DELETE", "/v1/responses/resp_1")]
#[case("POST", "/v1/responses/resp_1/cancel")]
#[case("GET", "/v1/responses/resp_1/input_items")]
#[tokio::test]
async fn stored_responses_are_said_not_to_be_there(
    #[case] method: &'static str,
    #[case] path: &str,
) {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    let request = if method == "POST" {
        post(path, "{}")
    } else {
        get(path).method(method)
    };
    let error = gateway.ask(&request).await.assert_error(404);
    assert_eq!(
        (&error["type"], &error["code"]),
        (&json!("invalid_request_error"), &json!("not_stored"))
    );
}

#[rstest]
#[case(json!({"previous_response_id": "resp_1"}), "previous_response_id")]
#[case(json!({"conversation": "conv_1"}), "conversation")]
#[case(json!({"background": true}), "background")]
#[case(json!({"input": [{"type": "item_reference", "id": "msg_1"}]}), "input[0]")]
#[tokio::test]
async fn stored_state_is_refused_by_name(#[case] more: Value, #[case] param: &str) {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    let error = gateway.ask(&responses(more)).await.assert_error(400);
    assert_eq!(error["param"], param);
    assert!(
        error["message"].as_str().unwrap().contains("stores no"),
        "{error}"
    );
    assert!(backend.requests().is_empty());
}

fn call(name: &str, arguments: &str) -> Value {
    delta(
        json!({"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": {"name": name, "arguments": arguments}}]}),
    )
}

/// The model writes one flat list of functions; the client gets back what it offered.
#[rstest]
#[case::grouped("mcp__echo__say", r#"{"text":"a"}"#, json!({"type": "function_call", "namespace": "mcp__echo", "name": "say", "arguments": r#"{"text":"a"}"#}))]
#[case::its_group_forgotten("say", r#"{"text":"a"}"#, json!({"type": "function_call", "namespace": "mcp__echo", "name": "say", "arguments": r#"{"text":"a"}"#}))]
#[case::free_form("apply_patch", r#"{"input":"*** Begin\n\"x\""}"#, json!({"type": "custom_tool_call", "name": "apply_patch", "input": "*** Begin\n\"x\""}))]
#[tokio::test]
async fn calls_come_back_in_the_form_the_client_knows(
    #[case] name: &str,
    #[case] arguments: &str,
    #[case] expected: Value,
    #[values("standard", "strict", "off")] preset: &str,
    #[values(true, false)] streams: bool,
) {
    if preset == "off" && name == "say" {
        return;
    }
    let reply = Reply::stream()
        .event(&role())
        .event(&call(name, arguments))
        .ends("tool_calls");
    let backend = Backend::replying(reply).await;
    let gateway = Setup::to(&[&backend])
        .set("guard.preset", json!(preset))
        .start()
        .await;
    let schema = json!({"type": "object", "properties": {"text": {"type": "string"}}});
    let tools = json!([
        {"type": "namespace", "name": "mcp__echo", "tools": [{"type": "function", "name": "say", "parameters": schema}]},
        {"type": "custom", "name": "apply_patch", "format": {"type": "grammar", "syntax": "lark", "definition": "start: x"}},
        {"type": "web_search"},
    ]);
    let response = gateway
        .ask(&responses(json!({"tools": tools, "stream": streams})))
        .await;
    let answer = if streams {
        last(&response).1
    } else {
        response.json()
    };
    let mut item = answer["output"][0].clone();
    let own = item.as_object_mut().unwrap();
    assert_eq!(own.remove("call_id"), Some(json!("c1")));
    assert_eq!(own.remove("status"), Some(json!("completed")));
    own.remove("id");
    assert_eq!(item, expected);
    let sent = backend.requests()[0].json();
    let names: Vec<_> = sent["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t["function"]["name"].clone())
        .collect();
    assert_eq!(names, ["mcp__echo__say", "apply_patch"]);
}

/// A call that is not among the allowed tools is asked for again; the list upstream stays whole.
#[tokio::test]
async fn only_allowed_tools_are_called() {
    let backend = Backend::start().await;
    let bad = Reply::stream()
        .event(&role())
        .event(&call("rm", "{}"))
        .ends("tool_calls");
    let good = Reply::says(&[r#"{"name":"ls","arguments":{}}"#]);
    backend.then(bad).then(good);
    let gateway = Setup::to(&[&backend])
        .set("guard.preset", json!("standard"))
        .start()
        .await;
    let tool = |name: &str| json!({"type": "function", "name": name});
    let choice = json!({"type": "allowed_tools", "mode": "auto", "tools": [tool("ls")]});
    let request = responses(json!({"tools": [tool("ls"), tool("rm")], "tool_choice": choice}));
    let answer = gateway.ask(&request).await.json();
    assert_eq!(answer["output"][0]["name"], "ls", "{answer}");
    let sent = backend.requests();
    assert_eq!(sent[0].json()["tools"].as_array().map(Vec::len), Some(2));
    assert_eq!(sent[0].json()["tools"], sent[1].json()["tools"]);
    assert!(
        !sent[1].json()["response_format"]
            .to_string()
            .contains("\"rm\"")
    );
}

#[tokio::test]
async fn a_client_that_leaves_cancels_its_answer() {
    let backend = Backend::replying(Reply::stream().event(&text("a")).hang()).await;
    let gateway = Setup::to(&[&backend]).start().await;
    let mut client = gateway.connect().await;
    client.send(&responses(json!({"stream": true}))).await;
    let mut answer = client.answer().await;
    answer.event().await.unwrap();
    let left = tokio::time::Instant::now();
    drop(client);
    backend.cancelled(0).await;
    assert!(left.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn another_backend_answers_before_content_and_after_pings() {
    let bad = Backend::replying(Reply::new().pause(Duration::from_millis(300)).close()).await;
    let good = Backend::replying(Reply::new().pause(Duration::from_millis(300)).close()).await;
    let gateway = Setup::to(&[&bad, &good])
        .set("timeouts.ping_first", json!("100ms"))
        .set("timeouts.ping_every", json!("100ms"))
        .start()
        .await;
    let mut client = gateway.connect().await;
    client.send(&responses(json!({"stream": true}))).await;
    let mut answer = client.answer().await;
    answer.event().await.unwrap();
    bad.always(Reply::says(&["saved"]));
    good.always(Reply::says(&["saved"]));
    let response = answer.rest().await;
    assert_numbered(&response);
    let (name, whole) = last(&response);
    assert_eq!(name, "response.completed");
    assert_eq!(whole["output"][0]["content"][0]["text"], "saved");
    assert_eq!(
        response.headers.get("x-drover-attempts"),
        Some("1"),
        "known when the first ping was sent"
    );
}

/// What an answer repeats is what its client asked for, whatever was asked of the model instead.
#[tokio::test]
async fn a_summary_repeats_the_clients_own_choice() {
    let tools = ["Bash", "Read"]
        .map(|name| json!({"type": "function", "name": name, "parameters": {"type": "object"}}));
    let mut input = vec![json!({"type": "message", "role": "user", "content": "do it"})];
    for n in 0..9 {
        let (id, arguments) = (format!("c{n}"), r#"{"command":"ls"}"#);
        input.push(
            json!({"type": "function_call", "call_id": id, "name": "Bash", "arguments": arguments}),
        );
        input.push(json!({"type": "function_call_output", "call_id": id, "output": "a b"}));
    }
    let allowed = json!({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "Bash"}]});
    for (choice, stream) in [
        (json!("auto"), true),
        (json!("auto"), false),
        (allowed.clone(), true),
        (allowed, false),
    ] {
        let backend = Backend::start().await;
        let setup = Setup::to(&[&backend]).set("guard.preset", json!("standard"));
        let gateway = setup
            .set("guard.sampling.tool_turn_max_tokens", json!(100))
            .start()
            .await;
        backend.set_health(Health::Roomy);
        let asked = json!({"input": input, "tools": tools, "tool_choice": choice, "stream": stream,
            "max_output_tokens": 500, "parallel_tool_calls": false, "temperature": 0.5, "instructions": "Be brief."});
        let response = gateway.ask(&responses(asked.clone())).await;
        assert_eq!(
            backend.requests()[0].json()["tool_choice"],
            "none",
            "a summary was asked for"
        );
        let answers = match stream {
            false => vec![response.json()],
            true => response
                .chunks()
                .into_iter()
                .map(|event| event["response"].clone())
                .filter(Value::is_object)
                .collect(),
        };
        assert_eq!(answers.len(), if stream { 3 } else { 1 });
        for answer in &answers {
            for setting in [
                "tool_choice",
                "max_output_tokens",
                "parallel_tool_calls",
                "temperature",
            ] {
                assert_eq!(
                    answer[setting], asked[setting],
                    "{setting}, stream: {stream}"
                );
            }
        }
        let whole = answers.last().unwrap();
        assert_eq!(
            (&whole["tools"], &whole["instructions"]),
            (&asked["tools"], &asked["instructions"])
        );
    }
}

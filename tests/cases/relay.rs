//! What reaches a backend, and what does not.

use rstest::rstest;
use serde_json::{Value, json};

use crate::support::*;

const PATH: &str = "/v1/chat/completions";

/// Spaces, number forms, escapes and key order that any re-serialisation would change.
const HISTORY: &str = r#"{"role":"system",  "content":"be\u0020brief"},{"content":"hi \u00e9 \"q\"","role":"user","name":"bob"},{"role":"assistant","content":"","tool_calls":[{"id":"c1","type":"function","function":{"name":"ls","arguments":"{\"b\": 1.0,\t\"a\": [ 1e3 ]}"}}],"x":{"z":1,"a":2}},{"role":"tool","tool_call_id":"c1","content":"a.rs\nb.rs","cache_control":{"type":"ephemeral"}},{"role":"user","content":[{"type":"text","text":"and?"}]}"#;

const TOOLS: &str = r#"{"type":"function","function":{"name":"ls","description":"List  files","strict":true,"parameters":{"type":"object","properties":{"z":{"type":"number","minimum":0.50},"a":{"type":"string"}},"required":["z"]}},"defer_loading":true},{"type":"function","function":{"name":"cat","parameters":{}}}"#;

#[tokio::test]
async fn history_and_tools_keep_their_bytes_and_order() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    let body = format!(r#"{{"model":"m","stream":true,"tools":[{TOOLS}],"messages":[{HISTORY}]}}"#);
    gateway
        .ask(&post(PATH, body))
        .await
        .assert_complete_stream();
    let forwarded = backend.request(0).await;
    assert!(
        forwarded.text().contains(&format!("[{HISTORY}]")),
        "{}",
        forwarded.text()
    );
    assert!(
        forwarded.text().contains(&format!("[{TOOLS}]")),
        "{}",
        forwarded.text()
    );
    assert_eq!(forwarded.line, "POST /v1/chat/completions HTTP/1.1");
}

#[tokio::test]
async fn the_next_turn_extends_the_bytes_of_the_last() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    let more = r#","max_tokens":64,"tool_choice":"auto""#;
    for history in [
        HISTORY.to_owned(),
        format!(r#"{HISTORY},{{"role":"assistant","content":"ok"}}"#),
    ] {
        let body = format!(r#"{{"model":"m","messages":[{history}],"tools":[{TOOLS}]{more}}}"#);
        assert_eq!(gateway.ask(&post(PATH, body)).await.status, 200);
    }
    let (first, second) = (backend.request(0).await, backend.request(1).await);
    let upto = first.text().find("and?").expect("the last message");
    assert_eq!(first.text()[..upto], second.text()[..upto]);
}

#[tokio::test]
async fn dangerous_fields_stop_at_the_gateway() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    let dangerous = json!({
        "id_slot": 0, "slot_id": 0, "speculative.n_max": 16, "speculative": {"n_max": 1},
        "speculative.types": "none", "verbose": true, "lora": [{"id": 0, "scale": 1.0}],
        "grammar_lazy": true, "grammar_triggers": [], "grammar_type": "x",
        "chat_parser": "x", "chat_format": "x", "generation_prompt": "x", "message_delimiters": [],
        "preserved_tokens": ["x"], "n_cmpl": 4, "response_fields": ["x"], "sse_ping_interval": 1,
        "__verbose": true, "reasoning_control": true, "return_tokens": true,
    });
    let response = gateway.ask(&chat(dangerous.clone())).await;
    assert_eq!(
        response.status, 200,
        "refusing makes some clients retry with larger requests"
    );
    let forwarded = backend.request(0).await.json();
    for name in dangerous.as_object().unwrap().keys() {
        assert!(forwarded.get(name).is_none(), "{name} in {forwarded}");
    }
}

#[tokio::test]
async fn dangerous_fields_cannot_be_disguised() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    let message = r#""messages":[{"role":"user","content":"a"}]"#;
    let bodies = [
        format!(r#"{{{message},"id\u005fslot":3}}"#),
        format!(r#"{{{message},"\u0069d_slot":3,"id_slot":3}}"#),
        format!(r#"{{{message},"speculative\u002en_max":3}}"#),
    ];
    for (index, body) in bodies.into_iter().enumerate() {
        assert_eq!(gateway.ask(&post(PATH, body)).await.status, 200);
        let forwarded = backend.request(index).await.json();
        let refused = forwarded
            .get("id_slot")
            .or(forwarded.get("speculative.n_max"));
        assert_eq!(refused, None, "{forwarded}");
    }
    // What llama-server's parser takes and ours does not: a byte order mark, text behind a NUL.
    let hidden = format!(r#"{{{message},"id_slot":3}}"#);
    for body in [format!("\u{feff}{hidden}"), format!("{hidden}\0 and more")] {
        gateway.ask(&post(PATH, body)).await.assert_error(400);
    }
    assert_eq!(backend.requests().len(), 3);
}

#[tokio::test]
async fn fields_the_gateway_does_not_know_pass_as_they_came() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    let harmless = r#""temperature":0.70,"seed":12345678901234567890,"top_p":1,"response_format":{"type":"json_schema","json_schema":{"name":"a","schema":{"b":1,"a":2}}},"logit_bias":{"15":-1.0},"min_p":5e-2,"chat_template_kwargs":{"enable_thinking":false},"reasoning_effort":"low","parallel_tool_calls":false,"user":"u","metadata":{"k":"v"},"from_the_future":[null,{"z":1,"a":2}]"#;
    let body =
        format!(r#"{{"messages":[{{"role":"user","content":"a"}}],{harmless},"model":"m"}}"#);
    assert_eq!(gateway.ask(&post(PATH, body)).await.status, 200);
    let forwarded = backend.request(0).await;
    assert!(forwarded.text().contains(harmless), "{}", forwarded.text());
}

#[rstest]
#[case::whole(json!({}))]
#[case::stream(json!({"stream": true}))]
#[case::stream_without_usage(json!({"stream": true, "stream_options": {"include_usage": false}}))]
#[case::null(json!({"stream": null, "stream_options": null, "max_tokens": null, "stop": null, "n": null}))]
#[tokio::test]
async fn the_backend_always_streams_with_usage(#[case] more: Value) {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    assert_eq!(gateway.ask(&chat(more)).await.status, 200);
    let forwarded = backend.request(0).await.json();
    assert_eq!(forwarded["stream"], true);
    assert_eq!(forwarded["stream_options"]["include_usage"], true);
}

#[tokio::test]
async fn no_client_header_reaches_a_backend() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    let secret = [
        "X-Conversation-Id",
        "x-api-key",
        "Cookie",
        "X-Forwarded-For",
        "anthropic-beta",
    ];
    let mut request = stream().header("Authorization", "Bearer client-secret");
    for name in secret {
        request = request.header(name, "client-secret");
    }
    let request = request
        .header("User-Agent", "client-secret")
        .header("X-Anything", "client-secret");
    gateway.ask(&request).await.assert_complete_stream();
    let forwarded = backend.request(0).await;
    let leaked = forwarded
        .headers
        .0
        .iter()
        .find(|(_, value)| value.contains("client-secret"));
    assert_eq!(leaked, None);
    assert!(!forwarded.text().contains("client-secret"));
    assert_eq!(
        forwarded.headers.get("content-type"),
        Some("application/json")
    );
    assert_eq!(
        forwarded.headers.get("host"),
        backend.url().strip_prefix("http://")
    );
}

#[tokio::test]
async fn no_backend_header_reaches_a_client() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    for request in [stream(), chat(json!({}))] {
        let response = gateway.ask(&request).await;
        assert_eq!(response.headers.get("access-control-allow-origin"), None);
        assert_ne!(response.headers.get("server"), Some("llama.cpp"));
        assert_eq!(response.headers.get("keep-alive"), None);
        assert_eq!(response.headers.get("x-drover-backend"), Some("b0"));
        assert_eq!(response.headers.get("x-drover-attempts"), Some("1"));
        let own: u64 = response
            .headers
            .get("x-drover-overhead-us")
            .unwrap()
            .parse()
            .unwrap();
        assert!(own < 1_000_000);
    }
}

#[tokio::test]
async fn a_backend_has_its_own_key_model_and_path() {
    let backend = Backend::start().await;
    let own = json!({
        "name": "b0", "url": format!("{}/api", backend.url()), "model": "preset-a",
        "api_key_env": "TEST_BACKEND_KEY",
    });
    let pools = json!([{"name": "default", "models": ["*"], "backends": [own]}]);
    let setup = Setup::pools(pools).env("TEST_BACKEND_KEY", "backend-key");
    let gateway = setup.start_unready().await;
    gateway.backend_is("b0", "ready").await;
    let request = stream()
        .header("Authorization", "Bearer mine")
        .header("x-api-key", "mine");
    let response = gateway.ask(&request).await;
    response.assert_complete_stream();
    assert!(
        response.chunks().iter().all(|chunk| chunk["model"] == "m"),
        "{}",
        response.text()
    );
    let forwarded = backend.request(0).await;
    assert_eq!(forwarded.line, "POST /api/v1/chat/completions HTTP/1.1");
    assert_eq!(forwarded.json()["model"], "preset-a");
    let keys: Vec<_> = forwarded.headers.all("authorization").collect();
    assert_eq!(keys, ["Bearer backend-key"]);
    assert_eq!(forwarded.headers.get("x-api-key"), None);
}

#[tokio::test]
async fn more_tokens_than_the_window_holds_are_capped() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    let asked = [
        json!({"max_tokens": 128_000}),
        json!({"max_completion_tokens": 64}),
        json!({}),
    ];
    for (more, expected) in asked
        .into_iter()
        .zip([json!(N_CTX), json!(64), Value::Null])
    {
        let index = backend.requests().len();
        assert_eq!(gateway.ask(&chat(more)).await.status, 200);
        assert_eq!(backend.request(index).await.json()["max_tokens"], expected);
    }
}

#[tokio::test]
async fn stop_sequences_and_developer_messages_are_translated() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    let body = json!({
        "messages": [
            {"role": "developer", "content": "be brief"}, {"role": "user", "content": "hi"},
            {"role": "system", "content": "again"},
        ],
        "stop": ["never said"],
    });
    assert_eq!(gateway.ask(&chat(body)).await.status, 200);
    let forwarded = backend.request(0).await.json();
    assert!(
        forwarded.get("stop").is_none(),
        "the gateway matches them itself: {forwarded}"
    );
    assert_eq!(forwarded["messages"][0]["role"], "system");
    assert_eq!(forwarded["messages"][0]["content"], "be brief");
    assert_eq!(forwarded["messages"][2]["role"], "system");
}

#[tokio::test]
async fn a_named_tool_choice_is_enforced_and_a_plain_one_passes() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    let tools: Value = serde_json::from_str(&format!("[{TOOLS}]")).unwrap();
    let named = json!({"type": "function", "function": {"name": "cat"}});
    for (index, choice) in [named, json!("none"), json!("required")]
        .into_iter()
        .enumerate()
    {
        let response = gateway
            .ask(&chat(json!({"tools": tools, "tool_choice": choice})))
            .await;
        assert_eq!(response.status, 200);
        let forwarded = backend.request(index).await.json();
        let word = if choice == "none" { "none" } else { "required" };
        assert_eq!(forwarded["tool_choice"], word);
        if index == 0 {
            assert_eq!(forwarded["tools"].as_array().unwrap().len(), 1);
            assert_eq!(forwarded["tools"][0]["function"]["name"], "cat");
        }
    }
}

#[tokio::test]
async fn images_pass_inline_only() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    let asks = |url: &str| {
        let part = json!({"type": "image_url", "image_url": {"url": url}});
        chat(json!({"messages": [{"role": "user", "content": [part]}]}))
    };
    let inline = "data:image/png;base64,iVBORw0KGgo=";
    assert_eq!(gateway.ask(&asks(inline)).await.status, 200);
    assert!(backend.request(0).await.text().contains(inline));
    for remote in [
        "http://169.254.169.254/latest",
        "https://a.example/b.png",
        "file:///etc/passwd",
    ] {
        gateway.ask(&asks(remote)).await.assert_error(400);
    }
    assert_eq!(backend.requests().len(), 1);
}

#[tokio::test]
async fn queries_and_the_short_path_are_accepted() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    for path in ["/v1/chat/completions?beta=true", "/chat/completions"] {
        gateway
            .ask(&stream().at(path))
            .await
            .assert_complete_stream();
    }
    assert!(
        backend
            .requests()
            .iter()
            .all(|r| r.line == "POST /v1/chat/completions HTTP/1.1")
    );
}

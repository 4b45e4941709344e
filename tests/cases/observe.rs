//! Access log and metrics.

use serde_json::{Value, json};

use crate::support::script::{role, text};
use crate::support::*;

fn id(response: &Response) -> &str {
    response.headers.get("x-request-id").unwrap()
}

#[tokio::test]
async fn a_served_turn_leaves_one_line_with_its_numbers() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    let request = stream().header("User-Agent", "agent/1");
    let response = gateway.ask(&request).await;
    let line = gateway.access_line(id(&response)).await;
    let expected = json!({
        "method": "POST", "path": "/v1/chat/completions", "dialect": "openai", "client": "agent/1",
        "model": "m", "pool": "default", "backend": "b0", "stream": true, "status": 200,
        "outcome": "ok", "stop_reason": "end", "attempts": 1, "tokens_in": 11,
        "tokens_cached": 3, "tokens_out": 4, "bytes_in": request.body.len(),
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(line.get(name), Some(value), "{name} in {line}");
    }
    assert!(line["ttft_ms"].as_u64() <= line["total_ms"].as_u64());
    assert!(
        line["overhead_us"]
            .as_u64()
            .is_some_and(|us| us < 1_000_000)
    );
    assert!(
        line["bytes_out"]
            .as_u64()
            .is_some_and(|n| n as usize >= response.text().len())
    );
    let mine = gateway
        .log()
        .iter()
        .filter(|line| line.contains(id(&response)) && !line.contains("REQ sess="))
        .count();
    assert_eq!(mine, 1);
}

#[tokio::test]
async fn texts_of_the_conversation_are_not_logged() {
    let backend = Backend::replying(Reply::says(&["generated-secret"])).await;
    let gateway = Setup::to(&[&backend])
        .set("telemetry.level", json!("debug"))
        .start()
        .await;
    let messages = json!([{"role": "user", "content": "prompt-secret"}]);
    let response = gateway.ask(&chat(json!({"messages": messages}))).await;
    gateway.ask(&get("/v1/models?token=query-secret")).await;
    backend.then(Reply::error(500, "server_error", "boom generated-secret"));
    gateway.ask(&chat(json!({"messages": messages}))).await;
    gateway.access_line(id(&response)).await;
    let log = gateway.log().join("\n");
    for secret in ["generated-secret", "prompt-secret", "query-secret"] {
        assert!(!log.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn outcomes_are_told_apart() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    let ok = gateway.ask(&stream()).await;
    let bad = gateway.ask(&post("/v1/chat/completions", "{")).await;
    backend.then(Reply::stream().event(&role()).event(&text("a")).close());
    let cut = gateway.ask(&stream()).await;
    backend.then(Reply::error(500, "server_error", "Compute error."));
    let failed = gateway.ask(&stream()).await;
    backend.then(Reply::loading());
    let loading = gateway.ask(&stream()).await;
    let expected = [
        (&ok, "ok", Value::Null),
        (&bad, "client_error", json!("bad_request")),
        (&cut, "cut", json!("upstream")),
        (&failed, "upstream_error", json!("upstream")),
        (&loading, "unavailable", json!("loading")),
    ];
    for (response, outcome, error) in expected {
        let line = gateway.access_line(id(response)).await;
        assert_eq!(
            (&line["outcome"], &line["error"]),
            (&json!(outcome), &error),
            "{line}"
        );
        assert_eq!(line["status"], response.status);
        let labels = format!(r#"outcome="{outcome}""#);
        assert_eq!(
            gateway.metric("drover_requests_total", &labels).await,
            1.0,
            "{outcome}"
        );
    }
}

#[tokio::test]
async fn tokens_attempts_and_times_are_counted() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    for streams in [true, false, true] {
        assert_eq!(
            gateway.ask(&chat(json!({"stream": streams}))).await.status,
            200
        );
    }
    gateway.idle().await;
    let expected = [
        ("drover_tokens_total", r#"kind="input""#, 24.0),
        ("drover_tokens_total", r#"kind="cached""#, 9.0),
        ("drover_tokens_total", r#"kind="output""#, 12.0),
        ("drover_attempts_total", r#"why="first""#, 3.0),
        ("drover_requests_total", r#"dialect="openai""#, 3.0),
        ("drover_ttft_seconds_count", "", 3.0),
        ("drover_request_seconds_count", r#"dialect="openai""#, 3.0),
        ("drover_backend_state", r#"state="ready""#, 1.0),
        ("drover_backend_state", r#"state="down""#, 0.0),
    ];
    for (name, labels, value) in expected {
        assert_eq!(gateway.metric(name, labels).await, value, "{name} {labels}");
    }
    assert!(
        gateway
            .metric("drover_overhead_seconds_count", r#"stage="total""#)
            .await
            >= 3.0
    );
}

/// Labels come from the configuration, never from a request.
#[tokio::test]
async fn clients_cannot_make_series() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    let ask = async |n: usize| {
        gateway
            .ask(&chat(json!({"model": format!("evil-{n}"), "stream": true})))
            .await;
        gateway.ask(&get(&format!("/x{n}"))).await;
    };
    let count = || async {
        gateway.idle().await;
        gateway.admin_get("/metrics").await.text().lines().count()
    };
    for n in 0..3 {
        ask(n).await;
    }
    let before = count().await;
    for n in 3..20 {
        ask(n).await;
    }
    assert_eq!(count().await, before);
    assert!(!gateway.admin_get("/metrics").await.text().contains("evil"));
}

//! Access log and metrics.

use serde_json::{Value, json};

use crate::support::script::{finish, role, text, usage};
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
        ("drover_decode_tokens_total", r#"backend="b0""#, 9.0),
        ("drover_spec_drafted_tokens_total", "", 0.0),
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

#[tokio::test]
async fn drafts_of_a_stream_are_counted_for_their_backend() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    let mut report = usage(11, 3, 4);
    report["timings"]["draft_n"] = json!(6);
    report["timings"]["draft_n_accepted"] = json!(2);
    let reply = Reply::stream().event(&role()).event(&text("a"));
    let reply = reply.event(&finish("stop")).event(&report);
    backend.then(reply.piece("data: [DONE]\n\n").end());
    assert_eq!(gateway.ask(&stream()).await.status, 200);
    gateway.idle().await;
    let labels = r#"backend="b0",pool="default""#;
    for (kind, value) in [("drafted", 6.0), ("accepted", 2.0), ("rolled_back", 4.0)] {
        let name = format!("drover_spec_{kind}_tokens_total");
        assert_eq!(gateway.metric(&name, labels).await, value, "{name}");
    }
}

/// Labels come from the configuration, never from a request.
#[tokio::test]
async fn clients_cannot_make_series() {
    let backend = Backend::start().await;
    let keys: Vec<_> = (0..8)
        .map(|n| json!({"name": format!("team{n}"), "key": format!("evil-key-{n}")}))
        .collect();
    let gateway = Setup::to(&[&backend])
        .set("auth.keys", json!(keys))
        .start()
        .await;
    let hammer = async |n: usize| {
        let key = format!("Bearer evil-key-{}", n % 10);
        let session = format!("evil-session-{n}");
        let request = |request: Request| {
            let request = request.header("Authorization", &key);
            request
                .header("X-Session-Id", &session)
                .header("User-Agent", &format!("evil-agent-{n}"))
                .header("X-Request-Id", &format!("evil-request-{n}"))
        };
        let model = format!("evil-model-{n}");
        let messages = json!([{"role": "user", "content": format!("evil-text-{n}")}]);
        let body = json!({"model": model, "messages": messages, "stream": n.is_multiple_of(2)});
        for asked in [
            chat(body.clone()),
            post("/v1/messages", body.to_string()),
            post(
                "/v1/responses",
                json!({"model": model, "input": "evil"}).to_string(),
            ),
            post(
                "/v1/embeddings",
                json!({"model": model, "input": "evil"}).to_string(),
            ),
            get(&format!("/evil-path-{n}")),
            get(&format!("/v1/models/{model}")),
        ] {
            gateway.ask(&request(asked)).await;
        }
    };
    let series = || async {
        gateway.idle().await;
        let text = gateway.admin_get("/metrics").await.text();
        assert!(!text.contains("evil"), "{text}");
        text.lines().count()
    };
    // Every path, way to answer and key once, those without a key among them.
    for n in 0..20 {
        hammer(n).await;
    }
    let before = series().await;
    for n in 20..80 {
        hammer(n).await;
    }
    assert_eq!(series().await, before);
}

#[tokio::test]
async fn a_spike_leads_to_the_story_of_a_request() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    for _ in 0..3 {
        gateway.ask(&stream()).await;
    }
    backend.then(Reply::error(500, "server_error", "Compute error."));
    let failed = gateway.ask(&stream()).await;
    gateway.access_line(id(&failed)).await;
    gateway.idle().await;
    let list = async |query: &str| {
        let path = format!("/api/requests?{query}");
        gateway.admin_get(&path).await.json()["requests"].clone()
    };
    let all = list("order=total").await;
    let took = |line: &Value| line["total_ms"].as_u64().unwrap();
    let lines = all.as_array().unwrap();
    assert_eq!(lines.len(), 4);
    assert!(lines.is_sorted_by(|a, b| took(a) >= took(b)), "{all}");
    let wrong = list("outcome=upstream_error&from=0").await;
    assert_eq!(wrong.as_array().unwrap().len(), 1, "{wrong}");
    assert_eq!(wrong[0]["request_id"], id(&failed));
    assert_eq!(list("from=99999999999999").await, json!([]));

    let path = format!("/api/requests/{}", id(&failed));
    let story = gateway.admin_get(&path).await.json();
    assert_eq!(story["request"]["outcome"], "upstream_error", "{story}");
    assert_eq!(story["explained"]["request"], id(&failed), "{story}");
    assert_eq!(story["interventions"], json!([]));
    assert_eq!(gateway.admin_get("/api/requests/nobody").await.status, 404);
}

/// From a bucket of a histogram to the request that fell into it, for those who ask for the format that can say it.
#[tokio::test]
async fn a_bucket_names_its_request() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    let answer = gateway.ask(&stream()).await;
    gateway.access_line(id(&answer)).await;
    gateway.idle().await;
    let accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";
    let asked = get("/metrics").header("Accept", accept);
    let asked = asked.host(&gateway.admin.to_string());
    let open = Client::connect(gateway.admin).await.ask(&asked).await;
    let kind = open.headers.get("content-type").unwrap();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    let text = open.text();
    let named = format!("request_id=\"{}\"", id(&answer));
    for name in ["drover_request_seconds", "drover_ttft_seconds"] {
        let bucket = format!("{name}_bucket{{");
        let mut lines = text.lines().filter(|line| line.starts_with(&bucket));
        assert!(lines.any(|line| line.contains(&named)), "{name} in {text}");
    }
    assert!(text.ends_with("# EOF\n"), "{text}");
    let plain = gateway.admin_get("/metrics").await;
    let kind = plain.headers.get("content-type").unwrap();
    assert!(kind.starts_with("text/plain"), "{kind}");
    assert!(!plain.text().contains(id(&answer)));
}

/// From what accepts least to its requests.
#[tokio::test]
async fn requests_are_found_by_what_their_backend_ran() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    let answer = gateway.ask(&stream()).await;
    let line = gateway.access_line(id(&answer)).await;
    gateway.idle().await;
    let found = async |query: String| {
        let path = format!("/api/requests?{query}");
        let list = gateway.admin_get(&path).await.json();
        list["requests"].as_array().unwrap().len()
    };
    for field in ["profile", "class"] {
        let value = line[field]
            .as_str()
            .unwrap_or_else(|| panic!("no {field} in {line}"));
        assert_eq!(
            found(format!("{field}={value}")).await,
            1,
            "{field}={value}"
        );
        assert_eq!(found(format!("{field}=another")).await, 0, "{field}");
    }
    assert_eq!(found("build=another".into()).await, 0);
}

#[tokio::test]
async fn a_backend_shows_itself_to_endpoint_pickers() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    let text = gateway.admin_get("/metrics/backends/b0").await.text();
    for name in ["running", "waiting"] {
        let series = format!("vllm:num_requests_{name}{{model_name=");
        assert!(text.contains(&series), "{series} in {text}");
    }
    assert!(text.contains("vllm:kv_cache_usage_perc{"), "{text}");
    for name in ["drafts", "draft_tokens", "accepted_tokens"] {
        let series = format!("vllm:spec_decode_num_{name}_total{{model_name=");
        assert!(text.contains(&series), "{series} in {text}");
    }
    assert_eq!(gateway.admin_get("/metrics/backends/b1").await.status, 404);
}

#[tokio::test]
async fn turns_are_counted_under_the_names_of_opentelemetry() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    gateway.ask(&stream()).await;
    gateway.idle().await;
    let labels = r#"gen_ai_operation_name="chat""#;
    for (name, value) in [
        ("gen_ai_server_request_duration_seconds_count", 1.0),
        ("gen_ai_server_time_to_first_token_seconds_count", 1.0),
        ("gen_ai_server_time_per_output_token_seconds_count", 1.0),
        (
            "gen_ai_client_operation_time_per_output_chunk_seconds_count",
            3.0,
        ),
        ("gen_ai_client_token_usage_sum", 15.0),
    ] {
        assert_eq!(gateway.metric(name, labels).await, value, "{name}");
    }
}

#[tokio::test]
async fn the_threads_that_serve_clients_are_watched() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    gateway.ask(&stream()).await;
    eventually("a beat", || async {
        let beats = gateway
            .metric("drover_runtime_delay_seconds_count", "")
            .await;
        (beats > 0.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_cancelled_request_is_followed_until_its_slot_is_idle() {
    let hangs = Reply::stream().event(&role()).event(&text("a")).hang();
    let backend = Backend::replying(hangs).await;
    let gateway = Setup::to(&[&backend]).start().await;
    let mut client = gateway.connect().await;
    client.send(&stream()).await;
    backend.request(0).await;
    client.answer().await.content().await;
    drop(client);
    eventually("the slot to be seen idle", || async {
        let seen = gateway.metric("drover_cancel_idle_seconds_count", r#"backend="b0""#);
        (seen.await == 1.0).then_some(())
    })
    .await;
    assert_eq!(
        gateway
            .metric("drover_upstream_aborts_total", r#"cause="client_gone""#)
            .await,
        1.0
    );
}

#[tokio::test]
async fn the_log_level_changes_while_requests_go_on() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    let shown = gateway.admin_get("/api/log").await.json();
    assert_eq!(shown, json!({"level": "info", "configured": "info"}));
    let answer = gateway.admin_post("/api/log?level=off").await;
    assert_eq!(answer.json()["level"], "off");
    let unlogged = gateway.ask(&stream()).await;
    let wrong = gateway.admin_post("/api/log?level=loud").await;
    assert_eq!(wrong.status, 400, "{}", wrong.text());
    gateway.idle().await;
    let back = gateway.admin_post("/api/log").await.json();
    assert_eq!(back["level"], "info", "{back}");
    let logged = gateway.ask(&stream()).await;
    gateway.access_line(id(&logged)).await;
    let lines = gateway.log().join("\n");
    assert!(!lines.contains(id(&unlogged)), "{lines}");
}

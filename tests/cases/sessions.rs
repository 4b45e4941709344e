//! Sessions: told apart, kept together, and each conversation on the backend that has its cache.

use serde_json::{Value, json};

use crate::support::*;

/// A Claude Code turn after so many calls, with this second's time and call ids.
fn claude(opener: &str, calls: usize, second: usize) -> Request {
    let reminder = format!(
        "<system-reminder>{}</system-reminder>",
        "CLAUDE.md ".repeat(80)
    );
    let mut messages = vec![json!({"role": "user", "content": [
        {"type": "text", "text": reminder}, {"type": "text", "text": opener}]})];
    for call in 0..calls {
        let id = format!("toolu_{second}_{call}");
        let input = json!({"command": format!("step {call}")});
        messages.push(json!({"role": "assistant", "content": [
            {"type": "tool_use", "id": id, "name": "Bash", "input": input}]}));
        messages.push(json!({"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": id, "content": format!("done {call}")}]}));
    }
    let body = json!({
        "model": "m", "max_tokens": 100, "stream": second.is_multiple_of(2), "messages": messages,
        "system": [{"type": "text", "text": format!("It is second {second}.")}],
        "tools": [{"name": "Bash", "input_schema": {"type": "object"}}],
    });
    post("/v1/messages", body.to_string()).header("User-Agent", "claude-cli/2.1 (external, cli)")
}

fn session(response: &Response) -> String {
    assert_eq!(response.status, 200, "{}", response.text());
    response
        .headers
        .get("x-drover-session")
        .expect("a session id")
        .to_owned()
}

fn backend(response: &Response) -> String {
    response
        .headers
        .get("x-drover-backend")
        .expect("a backend")
        .to_owned()
}

/// Who answers; the turn is over then, and its slot free, also for the gateway.
async fn served_by(gateway: &Gateway, request: &Request) -> String {
    let response = gateway.ask(request).await;
    gateway.idle().await;
    backend(&response)
}

async fn view(gateway: &Gateway, session: &str) -> Value {
    gateway
        .admin_get(&format!("/api/sessions/{session}"))
        .await
        .json()
}

#[tokio::test]
async fn thirty_five_turns_are_one_session_on_one_backend() {
    let (one, two) = (Backend::start().await, Backend::start().await);
    let gateway = Setup::to(&[&one, &two]).start().await;
    // Another conversation keeps the turns of the selection moving.
    let mut seen = Vec::new();
    for n in 0..35 {
        let response = gateway.ask(&claude("fix it", n, n)).await;
        seen.push((session(&response), backend(&response)));
        let other = json!({"messages": [{"role": "user", "content": format!("task {n}")}]});
        let other = gateway.ask(&chat(other)).await;
        assert_ne!(session(&other), seen[0].0);
    }
    assert!(seen.iter().all(|turn| *turn == seen[0]), "{seen:?}");
    gateway.idle().await;
    assert_eq!(gateway.metric("drover_sessions", "").await, 36.0);
    assert_eq!(
        gateway
            .metric("drover_session_source_total", r#"source="fp""#)
            .await,
        70.0
    );
    let view = view(&gateway, &seen[0].0).await;
    assert_eq!(
        (&view["turns"], &view["retries"], &view["lineage_count"]),
        (&json!(35), &json!(0), &json!(1))
    );
    assert_eq!(view["lineages"][0]["backend"], seen[0].1);
    assert!(
        view["tokens_out"].as_u64().is_some_and(|n| n == 35 * 4),
        "{view}"
    );
}

/// The backend that had the cache fails: the one that answers instead was expected to have nothing.
#[tokio::test]
async fn a_failover_is_no_wrong_prediction_of_a_cache() {
    let (one, two) = (Backend::start().await, Backend::start().await);
    let gateway = Setup::to(&[&one, &two]).start().await;
    let home = served_by(&gateway, &claude("fix it", 0, 1)).await;
    let (home, other) = match &*home {
        "b0" => (&one, &two),
        _ => (&two, &one),
    };
    home.then(Reply::error(500, "server_error", "Compute error."));
    let response = gateway.ask(&claude("fix it", 1, 3)).await;
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!((home.requests().len(), other.requests().len()), (2, 1));
    gateway.idle().await;
    let tokens = async |result: &str| {
        let label = format!("result=\"{result}\"");
        let metric = gateway.metric("drover_cache_prediction_tokens_total", &label);
        metric.await
    };
    let (missing, surplus) = (tokens("missing").await, tokens("surplus").await);
    assert_eq!(
        (missing, surplus),
        (0.0, 6.0),
        "each answer tells 3 cached tokens"
    );
}

#[tokio::test]
async fn named_sessions_and_their_subagents_are_told_apart() {
    let server = Backend::start().await;
    let gateway = Setup::to(&[&server]).start().await;
    let of = |id: &str| claude("hi", 0, 1).header("X-Claude-Code-Session-Id", id);
    let one = session(&gateway.ask(&of("one-secret")).await);
    let two = session(&gateway.ask(&of("two-secret")).await);
    assert_ne!(one, two);
    let agent = of("one-secret").header("x-claude-code-agent-id", "a1");
    assert_eq!(session(&gateway.ask(&agent).await), one);
    gateway.idle().await;
    let shown = view(&gateway, &one).await;
    let kinds: Vec<_> = shown["lineages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|l| &l["kind"])
        .collect();
    assert_eq!(kinds, ["agent", "tools"]);
    assert_eq!(shown["field"], "x-claude-code-session-id");
    let list = gateway.admin_get("/api/sessions?limit=1").await.json();
    assert_eq!(
        (&list["total"], &list["sessions"][0]["id"]),
        (&json!(2), &json!(one))
    );
    // What clients call their sessions stays with them.
    let texts = [
        shown.to_string(),
        list.to_string(),
        gateway.log().join("\n"),
    ];
    assert!(texts.iter().all(|text| !text.contains("secret")));
}

#[tokio::test]
async fn every_turn_logs_who_and_how_much() {
    let server = Backend::start().await;
    let gateway = Setup::to(&[&server]).start().await;
    gateway.ask(&claude("fix it", 1, 1)).await;
    let response = gateway.ask(&claude("fix it", 2, 2)).await;
    let id = session(&response);
    let line = gateway
        .access_line(response.headers.get("x-request-id").unwrap())
        .await;
    assert_eq!(line["session"], id);
    let expected = format!(
        "REQ sess={id} src=fp client=claude-cli/2.1 dialect=anthropic model=m msgs=6 tools=1 \
         stream=true rate=2/60s"
    );
    eventually("the REQ line", || async {
        gateway
            .log()
            .iter()
            .any(|line| line.contains(&expected))
            .then_some(())
    })
    .await;
}

/// The first `REQ` line with `text`.
async fn req_line(gateway: &Gateway, text: &str) -> String {
    eventually("the REQ line", || async {
        let log = gateway.log();
        let mut lines = log.iter().filter(|line| line.contains("REQ sess="));
        lines.find(|line| line.contains(text)).cloned()
    })
    .await
}

#[tokio::test]
async fn a_count_belongs_to_the_session_it_asks_about_and_is_no_turn() {
    let server = Backend::start().await;
    let gateway = Setup::to(&[&server]).start().await;
    server.then(Reply::json(200, &json!({"input_tokens": 17})));
    let mut count = claude("fix it", 1, 1);
    count.path = "/v1/messages/count_tokens".into();
    let counted = gateway.ask(&count).await;
    let id = session(&counted);
    let request = counted.headers.get("x-request-id").unwrap();
    let line = req_line(&gateway, &format!("req={request}")).await;
    assert!(line.contains(&format!("REQ sess={id} src=fp")), "{line}");
    assert!(line.contains("lineage=- "), "{line}");
    assert_eq!(view(&gateway, &id).await["turns"], 0);
    assert_eq!(session(&gateway.ask(&claude("fix it", 1, 1)).await), id);
    eventually("the turn to count", || async {
        (view(&gateway, &id).await["turns"] == 1).then_some(())
    })
    .await;
    assert_eq!(gateway.access_line(request).await["session"], id);
}

#[tokio::test]
async fn older_paths_have_a_session_if_they_name_one() {
    let server = Backend::start().await;
    let gateway = Setup::to(&[&server]).start().await;
    for (path, body) in [
        ("/v1/completions", r#"{"model":"m","prompt":"fn main"}"#),
        ("/v1/embeddings", r#"{"model":"m","input":"a text"}"#),
    ] {
        if path == "/v1/embeddings" {
            server.always(Reply::json(200, &json!({"data": [{"embedding": [0.5]}]})));
        }
        let unnamed = gateway.ask(&post(path, body)).await;
        assert_eq!(unnamed.status, 200, "{}", unnamed.text());
        assert_eq!(unnamed.headers.get("x-drover-session"), None);
        let request = unnamed.headers.get("x-request-id").unwrap();
        req_line(&gateway, &format!("req={request}")).await;
        let named = post(path, body).header("x-session-id", "editor");
        let (one, two) = (gateway.ask(&named).await, gateway.ask(&named).await);
        assert_eq!(session(&one), session(&two));
    }
    let list = gateway.admin_get("/api/sessions").await.json();
    assert_eq!(list["total"], 1, "{list}");
}

#[tokio::test]
async fn a_conversation_moves_when_its_backend_dies_and_stays_where_it_went() {
    let (one, two) = (Backend::start().await, Backend::start().await);
    let gateway = Setup::to(&[&one, &two]).start().await;
    let first = served_by(&gateway, &claude("fix it", 0, 1)).await;
    assert_eq!(served_by(&gateway, &claude("fix it", 1, 2)).await, first);
    let (dead, other) = if first == "b0" {
        (&one, "b1")
    } else {
        (&two, "b0")
    };
    dead.set_health(Health::Loading);
    gateway.backend_is(&first, "loading").await;
    for n in 2..5 {
        assert_eq!(served_by(&gateway, &claude("fix it", n, n)).await, other);
    }
    dead.set_health(Health::Ok);
    gateway.backend_is(&first, "ready").await;
    // Its cache is here now, so there is no way back.
    for n in 5..8 {
        assert_eq!(served_by(&gateway, &claude("fix it", n, n)).await, other);
    }
}

#[tokio::test]
async fn a_turn_that_fails_over_takes_its_conversation_along() {
    let (one, two) = (Backend::start().await, Backend::start().await);
    let gateway = Setup::to(&[&one, &two]).start().await;
    let first = served_by(&gateway, &claude("fix it", 0, 1)).await;
    let (failing, other) = if first == "b0" {
        (&one, "b1")
    } else {
        (&two, "b0")
    };
    failing.then(Reply::error(500, "server_error", "Compute error."));
    for n in 1..4 {
        assert_eq!(served_by(&gateway, &claude("fix it", n, 1)).await, other);
    }
}

#[tokio::test]
async fn a_turn_that_was_not_answered_is_not_counted() {
    let server = Backend::start().await;
    let gateway = Setup::to(&[&server]).start().await;
    server.then(Reply::error(500, "server_error", "Jinja Exception: no"));
    let failed = gateway.ask(&claude("fix it", 0, 1)).await;
    assert_eq!(failed.status, 400);
    let id = failed.headers.get("x-drover-session").unwrap().to_owned();
    assert_eq!(view(&gateway, &id).await["turns"], 0);
    for (turns, retries) in [(1, 0), (1, 1)] {
        assert_eq!(session(&gateway.ask(&claude("fix it", 0, 2)).await), id);
        gateway.idle().await;
        let view = view(&gateway, &id).await;
        assert_eq!(
            (&view["turns"], &view["retries"]),
            (&json!(turns), &json!(retries))
        );
    }
}

#[tokio::test]
async fn sessions_are_bounded_and_end() {
    let server = Backend::start().await;
    let gateway = Setup::to(&[&server])
        .set("limits.max_sessions", json!(2))
        .set("limits.session_ttl", json!("1s"))
        .start()
        .await;
    for n in 0..5 {
        gateway
            .ask(&claude("hi", 0, 1).header("x-session-id", &n.to_string()))
            .await;
        assert!(gateway.metric("drover_sessions", "").await <= 2.0);
    }
    eventually("the end of idle sessions", || async {
        (gateway.metric("drover_sessions", "").await == 0.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_address_behind_a_trusted_proxy_tells_clients_apart() {
    let server = Backend::start().await;
    let trusted = Setup::to(&[&server]).set("auth.trusted_proxies", json!(["127.0.0.0/8"]));
    let open = Setup::to(&[&server]);
    for (setup, apart) in [(trusted, true), (open, false)] {
        let gateway = setup.start().await;
        let from = |address: &str| claude("hi", 0, 1).header("X-Forwarded-For", address);
        let one = session(&gateway.ask(&from("10.0.0.1")).await);
        let two = session(&gateway.ask(&from("10.0.0.2")).await);
        assert_eq!(one != two, apart);
    }
}

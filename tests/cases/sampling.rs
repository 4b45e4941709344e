//! Token limits, sampling options, and tools as they are sent: in every dialect, streamed and whole.

use serde_json::json;

use crate::support::turns::{acted, agent, ask, gateway, modes, plain, sent};
use crate::support::*;

/// Cases 55 to 60 of the earlier proxy, as corrected.
#[tokio::test]
async fn token_limits_are_the_clients_within_the_window() {
    for (path, stream) in modes() {
        let backend = Backend::start().await;
        let plain = gateway(&backend, &[]).await;
        let limits = [
            ("guard.sampling.max_tokens_floor", json!(1000)),
            ("guard.sampling.tool_turn_max_tokens", json!(2000)),
        ];
        let bounded = gateway(&backend, &limits).await;
        let ask = async |gateway: &Gateway, asked: u64| {
            let request = agent(path, stream, 2, 50, &json!({"max_tokens": asked}));
            assert_eq!(gateway.ask(&request).await.status, 200);
            backend.requests().pop().unwrap().json()["max_tokens"]
                .as_u64()
                .unwrap()
        };
        assert_eq!(ask(&plain, 100).await, 100);
        let all = ask(&plain, 128_000).await;
        assert!(
            (3900..N_CTX).contains(&all),
            "{all}: the window, less the prompt"
        );
        assert_eq!(ask(&bounded, 100).await, 1000);
        assert_eq!(ask(&bounded, 1500).await, 1500);
        assert_eq!(ask(&bounded, 32_000).await, 2000);
        plain.idle().await;
        assert_eq!(acted(&plain, "max_tokens_window").await, 1.0);
        bounded.idle().await;
        assert_eq!(acted(&bounded, "max_tokens_floor").await, 1.0);
        assert_eq!(acted(&bounded, "max_tokens_cap").await, 1.0);
    }
}

/// Cases 61 and 62 of the earlier proxy.
#[tokio::test]
async fn tool_turns_are_cooler_and_do_not_think_where_asked_for() {
    for (path, stream) in modes() {
        let backend = Backend::start().await;
        let settings = [
            ("guard.sampling.tool_turn_temperature", json!(0.3)),
            ("guard.sampling.thinking_off_on_tool_turns", json!(true)),
        ];
        let gateway = gateway(&backend, &settings).await;
        gateway
            .ask(&agent(path, stream, 1, 9, &json!({"temperature": 0.8})))
            .await;
        let tools = backend.requests().pop().unwrap().json();
        assert_eq!(tools["temperature"], 0.3);
        assert_eq!(
            tools["chat_template_kwargs"],
            json!({"enable_thinking": false})
        );
        gateway.ask(&plain(path, stream, "hi")).await;
        let plain = backend.requests().pop().unwrap().json();
        assert_eq!(plain.get("temperature"), None);
        assert_eq!(plain.get("chat_template_kwargs"), None);
        gateway.idle().await;
        assert_eq!(acted(&gateway, "temperature_ceiling").await, 1.0);
        assert_eq!(acted(&gateway, "thinking_off").await, 1.0);
    }
}

#[tokio::test]
async fn schemas_are_sent_without_what_the_grammar_builder_refuses() {
    let schema = json!({"type": "object", "properties": {
        "a": {"type": "string", "pattern": "^(", "minLength": 9999}, "pattern": {"type": "string"}}});
    for (path, stream) in modes() {
        let backend = Backend::start().await;
        let gateway = gateway(&backend, &[]).await;
        let messages = json!([{"role": "user", "content": "hi"}]);
        let request = ask(
            path,
            stream,
            &messages,
            &[("f", schema.clone())],
            &json!({}),
        );
        gateway.ask(&request).await;
        let sent = backend.requests().pop().unwrap().json();
        let expected = json!({"type": "object", "properties": {
            "a": {"type": "string"}, "pattern": {"type": "string"}}});
        assert_eq!(sent["tools"][0]["function"]["parameters"], expected);
        gateway
            .ask(&request.clone().header("x-drover-guard", "off"))
            .await;
        let relayed = backend.requests().pop().unwrap().json();
        assert_eq!(relayed["tools"][0]["function"]["parameters"], schema);
        gateway.idle().await;
        assert_eq!(acted(&gateway, "schema_cleanup").await, 1.0);
    }
}

/// Cases 65 and 66 of the earlier proxy, as corrected.
#[tokio::test]
async fn model_profiles_are_chosen_by_header_pool_or_model() {
    for (path, stream) in modes() {
        let backend = Backend::start().await;
        let profiles = json!([
            {"name": "cold", "temperature": 0.1, "top_k": 7},
            {"name": "warm", "models": ["m*"], "temperature": 0.9},
        ]);
        let gateway = gateway(&backend, &[("guard.sampling.profiles", profiles)]).await;
        let temperature = async |request: Request| {
            assert_eq!(gateway.ask(&request).await.status, 200);
            backend.requests().pop().unwrap().json()["temperature"].clone()
        };
        let request = plain(path, stream, "hi");
        assert_eq!(temperature(request.clone()).await, 0.9);
        for name in ["x-drover-model-profile", "x-uap-model-profile"] {
            assert_eq!(temperature(request.clone().header(name, "cold")).await, 0.1);
        }
        for name in ["lukewarm", "../cold", "/etc/passwd"] {
            let response = gateway
                .ask(&request.clone().header("x-drover-model-profile", name))
                .await;
            assert_eq!(response.status, 400);
            assert!(
                response.text().contains("known: cold, warm"),
                "{}",
                response.text()
            );
        }
    }
}

#[tokio::test]
async fn narrowed_tools_stay_the_same_for_the_conversation() {
    let settings = [
        ("guard.sampling.narrowing", json!(true)),
        ("guard.sampling.narrowing_keep", json!(2)),
        ("guard.sampling.narrowing_min_tools", json!(3)),
    ];
    let schema = json!({"type": "object"});
    let tools = ["read", "edit", "deploy", "test"].map(|name| (name, schema.clone()));
    for (path, stream) in modes() {
        let backend = Backend::start().await;
        let gateway = gateway(&backend, &settings).await;
        let mut messages =
            vec![json!({"role": "user", "content": "please test it, then read the report"})];
        let mut sent = Vec::new();
        for said in ["done", "deploy it", "edit it", "deploy"] {
            let request = ask(path, stream, &json!(messages), &tools, &json!({}));
            assert_eq!(gateway.ask(&request).await.status, 200);
            gateway.idle().await;
            sent.push(backend.requests().pop().unwrap().json()["tools"].to_string());
            messages.push(json!({"role": "assistant", "content": "Hello"}));
            messages.push(json!({"role": "user", "content": said}));
        }
        assert!(
            sent[0].contains("\"read\"") && sent[0].contains("\"test\""),
            "{}",
            sent[0]
        );
        assert!(!sent[0].contains("\"edit\"") && !sent[0].contains("\"deploy\""));
        assert!(sent.iter().all(|tools| *tools == sent[0]), "{sent:?}");
        let breaks = gateway
            .metric("drover_prefix_breaks_total", r#"cause="narrowing""#)
            .await;
        assert_eq!(breaks, 1.0);
    }
}

#[tokio::test]
async fn volatile_fragments_of_the_system_prompt_are_made_the_same() {
    let volatile = json!({"builtin": ["time_of_day"], "patterns": [{"pattern": "load: [0-9.]+", "replacement": "load: -"}]});
    for (path, stream) in modes() {
        let backend = Backend::start().await;
        let gateway = gateway(&backend, &[("guard.context.volatile", volatile.clone())]).await;
        let mut seen = Vec::new();
        for second in 10..13 {
            let system = format!("You help. It is 2026-11-23T18:17:{second}Z, load: 0.{second}");
            let request = match path {
                "/v1/messages" => ask(
                    path,
                    stream,
                    &json!([{"role": "user", "content": "hi"}]),
                    &[],
                    &json!({"system": system}),
                ),
                _ => ask(
                    path,
                    stream,
                    &json!([{"role": "system", "content": system}, {"role": "user", "content": "hi"}]),
                    &[],
                    &json!({}),
                ),
            };
            gateway.ask(&request).await;
            seen.push(sent(&backend)[0]["content"].clone());
        }
        assert_eq!(seen, vec![json!("You help. It is 2026-11-23, load: -"); 3]);
        gateway.idle().await;
        assert_eq!(acted(&gateway, "normalized_prompt").await, 3.0);
    }
}

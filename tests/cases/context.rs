//! Conversations near the end of the window: in every dialect, streamed and whole.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::turns::{acted, agent, gateway, modes, plain, sent, transcript};
use crate::support::window::{
    CHAT, COUNT, MARKER, answer, assert_overflow, count, overflow, paths,
};
use crate::support::*;

/// What follows begins with what was sent before.
#[tokio::test]
async fn a_conversation_near_the_window_is_cut_once_and_stays_so() {
    for (path, stream) in modes() {
        let backend = Backend::start().await;
        let gateway = gateway(&backend, &[]).await;
        backend
            .then(count(3600))
            .then(answer(2000))
            .then(answer(2100));
        let response = gateway.ask(&agent(path, stream, 20, 300, &json!({}))).await;
        assert_eq!(response.status, 200, "{}", response.text());
        assert_eq!(paths(&backend), [COUNT, CHAT], "{path}");
        let whole = backend.requests()[0].json()["messages"].clone();
        assert_eq!(whole.as_array().unwrap().len(), 41, "all of it was counted");

        let first = sent(&backend);
        let task = first[0]["content"].as_str().unwrap();
        assert!(
            task.starts_with("the task") && task.contains(MARKER),
            "{task}"
        );
        assert_eq!(json!(first).to_string().matches(MARKER).count(), 1);
        assert!((9..41).contains(&first.len()), "{} messages", first.len());
        assert_eq!(
            first[1..],
            whole.as_array().unwrap()[41 - (first.len() - 1)..]
        );
        for pair in first[1..].chunks(2) {
            assert_eq!(
                pair[0]["tool_calls"][0]["id"], pair[1]["tool_call_id"],
                "{path}"
            );
        }

        gateway.idle().await;
        gateway.ask(&agent(path, stream, 21, 300, &json!({}))).await;
        assert_eq!(paths(&backend).len(), 3, "nobody is asked again");
        let second = sent(&backend);
        assert_eq!(second[..first.len()], first[..]);
        assert_eq!(second.len(), first.len() + 2);

        gateway.idle().await;
        assert_eq!(acted(&gateway, "prune").await, 1.0);
        assert_eq!(acted(&gateway, "pruned").await, 1.0);
        let breaks = gateway
            .metric("drover_prefix_breaks_total", r#"cause="prune""#)
            .await;
        assert_eq!(breaks, 1.0);
    }
}

#[tokio::test]
async fn retries_and_forks_repeat_the_cut() {
    for (path, stream) in modes() {
        let backend = Backend::replying(answer(2000)).await;
        let gateway = gateway(&backend, &[]).await;
        backend.then(count(3600));
        gateway.ask(&agent(path, stream, 20, 300, &json!({}))).await;
        let first = sent(&backend);
        gateway.idle().await;
        gateway.ask(&agent(path, stream, 20, 300, &json!({}))).await;
        assert_eq!(sent(&backend), first, "a retry");
        // The human goes back three calls and says something else.
        let fork = agent(path, stream, 17, 300, &json!({}));
        let mut fork: Value = serde_json::from_slice(&fork.body).unwrap();
        let said = json!({"role": "user", "content": "something else"});
        fork[transcript(path)].as_array_mut().unwrap().push(said);
        gateway.idle().await;
        let request = post(path, fork.to_string()).header("x-session-id", "s");
        backend.then(answer(1800));
        assert_eq!(gateway.ask(&request).await.status, 200);
        let forked = sent(&backend);
        let common = first
            .iter()
            .zip(&forked)
            .take_while(|(a, b)| a == b)
            .count();
        assert!(common >= first.len() - 7, "{common} of {}", first.len());
        assert_eq!(json!(forked).to_string().matches(MARKER).count(), 1);
    }
}

#[tokio::test]
async fn far_from_the_window_there_is_one_upstream_request_a_turn() {
    let backend = Backend::start().await;
    let gateway = gateway(&backend, &[]).await;
    for rounds in 0..8 {
        gateway
            .ask(&agent(CHAT, rounds % 2 == 0, rounds, 300, &json!({})))
            .await;
    }
    assert_eq!(paths(&backend), [CHAT; 8]);
    let all = backend.requests();
    assert_eq!(all[7].json()["messages"].as_array().unwrap().len(), 15);
    gateway.idle().await;
    assert_eq!(gateway.metric("drover_interventions_total", "").await, 0.0);
}

#[tokio::test]
async fn what_is_new_near_the_window_is_counted_alone() {
    let backend = Backend::start().await;
    let gateway = gateway(&backend, &[]).await;
    backend.then(answer(3300));
    gateway.ask(&agent(CHAT, true, 10, 300, &json!({}))).await;
    gateway.idle().await;
    backend
        .then(Reply::json(200, &json!({"tokens": [1, 2, 3]})))
        .then(answer(3400));
    gateway.ask(&agent(CHAT, true, 11, 300, &json!({}))).await;
    assert_eq!(paths(&backend), [CHAT, "/tokenize", CHAT]);
    let asked = backend.requests()[1].json();
    let content = asked["content"].as_str().unwrap();
    assert!(
        content.contains("10:xxx") && !content.contains("9:xxx"),
        "{content}"
    );
    assert_eq!(sent(&backend).len(), 23, "3,300 and 15 are below 3,481");
}

#[tokio::test]
async fn a_prompt_that_cannot_fit_is_refused_so_that_clients_compact() {
    for (path, stream) in modes() {
        let backend = Backend::start().await;
        let gateway = gateway(&backend, &[]).await;
        backend.then(count(5000));
        let response = gateway.ask(&plain(path, stream, &"x".repeat(9000))).await;
        assert_overflow(&response, path, 5000, N_CTX);
        assert_eq!(paths(&backend), [COUNT], "nothing was generated");
    }
}

#[tokio::test]
async fn a_client_that_leaves_during_a_count_is_not_counted_for() {
    for (path, stream) in modes() {
        let backend = Backend::replying(Reply::new().hang()).await;
        let patience = [("guard.context.count_timeout", json!("60s"))];
        let gateway = gateway(&backend, &patience).await;
        let mut client = gateway.connect().await;
        client.send(&agent(path, stream, 20, 300, &json!({}))).await;
        assert_eq!(
            backend.request(0).await.line,
            format!("POST {COUNT} HTTP/1.1")
        );
        drop(client);
        backend.cancelled(0).await;
        gateway.idle().await;
        assert_eq!(paths(&backend), [COUNT]);
    }
}

/// Case 45 of the earlier proxy, corrected.
#[tokio::test]
async fn a_backend_that_refuses_the_prompt_gets_a_shorter_one_or_the_client_is_told() {
    for (path, stream) in modes() {
        let backend = Backend::start().await;
        let gateway = gateway(&backend, &[]).await;
        backend.then(overflow(5000, N_CTX));
        let response = gateway.ask(&agent(path, stream, 10, 300, &json!({}))).await;
        assert_eq!(response.status, 200, "{}", response.text());
        assert_eq!(response.headers.get("x-drover-attempts"), Some("2"));
        assert!(sent(&backend).len() < 21);
        gateway.idle().await;
        let again = gateway
            .metric("drover_attempts_total", r#"why="prune""#)
            .await;
        assert_eq!(again, 1.0);

        backend.always(overflow(5000, N_CTX));
        let helpless = gateway.ask(&plain(path, stream, "x")).await;
        assert_overflow(&helpless, path, 5000, N_CTX);
        let asked = backend.requests().len();
        let long = gateway.ask(&agent(path, stream, 11, 300, &json!({}))).await;
        assert_overflow(&long, path, 5000, N_CTX);
        assert!(
            backend.requests().len() - asked <= 6,
            "within the turn's budget"
        );
    }
}

#[tokio::test]
async fn pruning_can_be_left_to_the_client() {
    for (path, stream) in modes() {
        let backend = Backend::start().await;
        let gateway = gateway(&backend, &[("guard.context.prune", json!(false))]).await;
        backend.then(count(4000)).then(overflow(4100, N_CTX));
        let response = gateway.ask(&agent(path, stream, 20, 300, &json!({}))).await;
        assert_overflow(&response, path, 4100, N_CTX);
        assert_eq!(sent(&backend).len(), 41);
    }
}

#[tokio::test]
async fn presets_decide_whether_anything_is_done() {
    for (preset, asked, observed) in [
        ("off", vec![CHAT], 0.0),
        ("observe", vec![COUNT, CHAT], 1.0),
    ] {
        let backend = Backend::start().await;
        let gateway = gateway(&backend, &[("guard.preset", json!(preset))]).await;
        if preset == "observe" {
            backend.then(count(3600));
        }
        let request = agent(CHAT, true, 20, 300, &json!({"max_tokens": 128_000}));
        assert_eq!(gateway.ask(&request).await.status, 200);
        assert_eq!(paths(&backend), asked, "{preset}");
        assert_eq!(sent(&backend).len(), 41);
        assert_eq!(
            backend.requests().pop().unwrap().json()["max_tokens"],
            N_CTX
        );
        gateway.idle().await;
        for kind in ["prune", "max_tokens_window"] {
            let labels = format!(r#"kind="{kind}",mode="observe""#);
            let count = gateway.metric("drover_interventions_total", &labels).await;
            assert_eq!(count, observed, "{preset} {kind}");
        }
    }
}

#[tokio::test]
async fn a_backend_that_does_not_count_costs_little_and_an_estimate_has_to_do() {
    for silent in [
        Reply::new().hang(),
        Reply::error(404, "not_found_error", "File Not Found"),
    ] {
        let backend = Backend::start().await;
        let patience = [("guard.context.count_timeout", json!("200ms"))];
        let gateway = gateway(&backend, &patience).await;
        backend.then(silent);
        let request = agent(CHAT, false, 40, 300, &json!({}));
        let response = tokio::time::timeout(Duration::from_secs(5), gateway.ask(&request)).await;
        assert_eq!(response.expect("in time").status, 200);
        assert_eq!(paths(&backend), [COUNT, CHAT]);
        assert!(json!(sent(&backend)).to_string().contains(MARKER));
    }
}

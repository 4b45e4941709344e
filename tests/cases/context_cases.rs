//! The earlier system's cases about the context window, by their numbers, in every dialect and mode. Where
//! it did harm, the corrected behaviour is asserted.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::support::agent::Protocol;
use crate::support::agent::talk::{Talk, everywhere};
use crate::support::window::{CHAT, COUNT, MARKER, answer, assert_overflow, count, paths};
use crate::support::*;

/// A window that the backend does not know of.
const WINDOW: u64 = 10_000;

async fn in_a_window_of(tokens: u64, protocol: Protocol, stream: bool) -> Talk {
    Talk::with(protocol, stream, Health::Roomy, |setup| {
        setup.window(tokens)
    })
    .await
}

/// Useful turns with results of so many bytes.
fn fill(talk: &mut Talk, turns: usize, bytes: usize) {
    for _ in 0..turns {
        let n = talk.calls;
        talk.bash(&format!("step {n}"), &format!("{n} {}", "x".repeat(bytes)));
    }
}

fn messages(asked: &Value) -> &[Value] {
    asked["messages"].as_array().expect("messages")
}

everywhere! {
    async fn case_104_from_the_threshold_the_first_message_a_note_and_the_last_ones_are_sent(protocol: Protocol, stream: bool) {
        // From 0.90 on more has to go: of the last ones 4 are certain to stay, and no longer 8.
        for (tokens, kept) in [(8_600, 8), (9_100, 4)] {
            let mut talk = in_a_window_of(WINDOW, protocol, stream).await;
            fill(&mut talk, 20, 200);
            fill(&mut talk, 4, 2000);
            talk.backend.then(count(tokens));
            let (_, asked) = talk.ask().await;
            assert_eq!(paths(&talk.backend), [COUNT, CHAT]);
            let (whole, sent) = (messages(&asked[0]), messages(&asked[1]));
            let task = sent[1]["content"].as_str().unwrap();
            assert!(task.starts_with("do it") && task.contains(MARKER), "{task}");
            assert_eq!(whole.len(), 2 + 48);
            assert_eq!(sent[2..], whole[whole.len() - kept..], "{tokens}");
        }
    }
}

/// Calls and results stand in pairs, one behind the other, and nobody speaks twice in a row.
fn assert_sound(messages: &[Value]) {
    let mut open = HashSet::new();
    let mut before = "";
    for message in messages {
        let role = message["role"].as_str().unwrap();
        if role == "tool" {
            let id = message["tool_call_id"].as_str().unwrap();
            assert!(open.remove(id), "a result without its call: {messages:#?}");
        } else {
            assert!(open.is_empty(), "calls without results: {messages:#?}");
            assert_ne!(role, before, "twice in a row: {messages:#?}");
        }
        for call in message["tool_calls"].as_array().into_iter().flatten() {
            open.insert(call["id"].as_str().unwrap());
        }
        before = role;
    }
    assert!(open.is_empty());
}

/// Single calls, several in one answer, and a human in between.
fn mixed(talk: &mut Talk, round: usize) {
    let result = |n: usize| format!("{round} {n} {}", "x".repeat(1200));
    let bash = |n: usize| ("Bash", json!({"command": format!("step {round} {n}")}));
    match round % 3 {
        0 => {
            let [one, two, three] = [0, 1, 2].map(|n| (bash(n), result(n)));
            let call = |((name, arguments), _): &((&'static str, Value), String)| {
                (*name, arguments.clone())
            };
            let [a, b, c] = [call(&one), call(&two), call(&three)];
            talk.act_together(&[(a.0, a.1, &one.1), (b.0, b.1, &two.1), (c.0, c.1, &three.1)]);
        }
        1 => talk.bash(&format!("step {round}"), &result(0)),
        _ => {
            talk.text(&format!("That was step {round}."));
            talk.user(&format!("Go on with {}.", round + 1));
        }
    }
}

everywhere! {
    async fn case_105_a_cut_parts_no_pair_and_roles_alternate(protocol: Protocol, stream: bool) {
        let mut talk = in_a_window_of(WINDOW, protocol, stream).await;
        for rounds in 9..24 {
            talk.items.clear();
            talk.user(&format!("task {rounds}"));
            (0..rounds).for_each(|round| mixed(&mut talk, round));
            talk.backend.then(count(9_500));
            let (_, asked) = talk.ask().await;
            let (whole, sent) = (messages(&asked[0]), messages(&asked[1]));
            assert!(sent.len() < whole.len(), "{rounds} rounds");
            assert_sound(whole);
            assert_sound(sent);
        }
    }
}

everywhere! {
    async fn case_106_the_last_prompts_true_size_decides(protocol: Protocol, stream: bool) {
        let mut talk = in_a_window_of(WINDOW, protocol, stream).await;
        fill(&mut talk, 12, 300);
        talk.backend.then(answer(9_000));
        let (_, asked) = talk.ask().await;
        assert_eq!(asked.len(), 1, "by its bytes it is far from the window");
        fill(&mut talk, 1, 300);
        talk.backend.then(Reply::json(200, &json!({"tokens": [1, 2, 3]})));
        let (_, asked) = talk.ask().await;
        assert_eq!(paths(&talk.backend), [CHAT, "/tokenize", CHAT]);
        let sent = messages(&asked[1]);
        assert!(sent.len() < 2 + 26, "{} messages", sent.len());
        assert!(sent[1]["content"].as_str().unwrap().contains(MARKER));
    }
}

/// The window of the only backend, as the admin API shows it once its slots have been read.
async fn shown_window(gateway: &Gateway) -> Value {
    eventually("the slots of a backend", || async {
        let backends = gateway.admin_get("/api/backends").await.json();
        let backend = &backends["backends"][0];
        backend["idle_slots"]
            .is_u64()
            .then(|| backend["n_ctx"].clone())
    })
    .await
}

everywhere! {
    async fn case_109_a_configured_window_stays(protocol: Protocol, stream: bool) {
        let set = |setup: Setup| setup.window(1 << 20);
        let mut talk = Talk::with(protocol, stream, Health::Ok, set).await;
        assert_eq!(shown_window(&talk.gateway).await, 1 << 20, "the server says 4096");
        fill(&mut talk, 60, 300);
        let (_, asked) = talk.ask().await;
        assert_eq!((asked.len(), messages(&asked[0]).len()), (1, 2 + 120));

        let mut talk = in_a_window_of(4096, protocol, stream).await;
        assert_eq!(shown_window(&talk.gateway).await, 4096, "the server says more");
        fill(&mut talk, 60, 300);
        talk.backend.then(count(6000));
        let (_, asked) = talk.ask().await;
        assert!(messages(&asked[1]).len() < 2 + 120);
        let models = talk.gateway.ask(&get("/v1/models")).await.json();
        assert_eq!(models["data"][0]["meta"]["n_ctx"], 4096);
    }
}

everywhere! {
    async fn case_110_a_server_that_comes_back_with_another_window_is_asked_for_it(protocol: Protocol, stream: bool) {
        // With the intervals of the default configuration.
        let set = |setup: Setup| setup.set("fleet.health", json!({}));
        let mut talk = Talk::with(protocol, stream, Health::Roomy, set).await;
        fill(&mut talk, 60, 300);
        let (_, asked) = talk.ask().await;
        assert_eq!((asked.len(), messages(&asked[0]).len()), (1, 2 + 120));
        talk.backend.set_health(Health::Loading);
        talk.gateway.backend_is("b0", "loading").await;
        talk.backend.set_health(Health::Ok);
        // Patience is shorter than the 60 s that the earlier system took.
        talk.gateway.backend_is("b0", "ready").await;
        talk.backend.then(count(6000));
        fill(&mut talk, 1, 300);
        let (_, asked) = talk.ask().await;
        let sent = messages(asked.last().unwrap());
        assert!(sent.len() < 2 + 120, "{} messages", sent.len());
        assert_eq!(shown_window(&talk.gateway).await, N_CTX);
    }
}

everywhere! {
    async fn one_result_longer_than_the_window_is_refused_so_that_the_client_shortens_it(protocol: Protocol, stream: bool) {
        for turns_before in [0, 20] {
            let mut talk = in_a_window_of(WINDOW, protocol, stream).await;
            fill(&mut talk, turns_before, 100);
            talk.bash("cat core", &"core ".repeat(12_000));
            talk.backend.then(count(30_000));
            let (response, asked) = talk.send(&[]).await;
            assert_overflow(&response, protocol.path(), 30_000, WINDOW);
            assert_eq!(paths(&talk.backend), [COUNT], "nothing is generated, and no part of it sent");
            assert_eq!(messages(&asked[0]).len(), 2 + 2 * (turns_before + 1));
            // The client does what its users expect of it: it summarises, or leaves the result out.
            talk.items.clear();
            talk.user("This session is being continued from a previous conversation: a core was looked at.");
            let (heard, asked) = talk.ask().await;
            assert_eq!((heard.text.as_str(), asked.len()), ("Hello there!", 1));
        }
    }
}

everywhere! {
    async fn an_old_result_longer_than_the_window_goes_with_its_call(protocol: Protocol, stream: bool) {
        let mut talk = in_a_window_of(WINDOW, protocol, stream).await;
        talk.bash("cat core", &"core ".repeat(12_000));
        fill(&mut talk, 10, 100);
        talk.backend.then(count(30_000));
        let (heard, asked) = talk.ask().await;
        assert_eq!(heard.text, "Hello there!");
        let sent = messages(&asked[1]);
        assert_sound(sent);
        let text = asked[1].to_string();
        assert!(!text.contains("core") && text.contains(MARKER), "{text}");
        assert!(text.contains("step 10"), "the latest stay as they are");
    }
}

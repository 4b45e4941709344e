//! What loop protection does to a turn and to its session: summaries, stops, resets, the view.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::agent::talk::{Talk, call, everywhere, last, ls, names};
use crate::support::agent::{Item, Protocol};
use crate::support::*;

everywhere! {
    async fn case_103_calls_in_a_summary_are_dropped(protocol: Protocol, stream: bool) {
        let mut talk = Talk::new(protocol, stream, &[]).await;
        for _ in 0..9 {
            talk.bash("ls", "a b");
        }
        let textual = r#"<tool_call>{"name":"Bash","arguments":{"command":"ls"}}</tool_call>"#;
        talk.backend.then(Reply::says(&["It is half done.", textual])).then(Reply::says(&[textual]));
        let (heard, asked) = talk.ask().await;
        assert_eq!((heard.text.as_str(), asked.len()), ("It is half done.", 1));
        assert!(names(&heard).is_empty());
        // Nothing is left of it: our own words.
        talk.text("…");
        talk.user("do it");
        talk.bash("ls", "a b");
        let (heard, asked) = talk.ask().await;
        assert_eq!(asked[0]["tool_choice"], "none");
        assert!(heard.text.contains("`Bash` with `{\"command\":\"ls\"}` was called 10 times"), "{heard:?}");
    }
}

/// One turn whose tool call cannot be used, however often the model is asked.
async fn bad_turn(talk: &mut Talk, n: usize) {
    talk.work(1);
    for _ in 0..3 {
        talk.backend.then(call("Bash", &json!({"wrong": n})));
    }
    let (heard, _) = talk.ask().await;
    assert!(heard.text.contains("could not be used"), "{heard:?}");
}

everywhere! {
    async fn case_107_a_contaminated_view_is_reset(protocol: Protocol, stream: bool) {
        let mut talk = Talk::new(protocol, stream, &[]).await;
        talk.work(12);
        for n in 0..3 {
            bad_turn(&mut talk, n).await;
        }
        talk.work(1);
        talk.backend.then(ls());
        let (heard, asked) = talk.ask().await;
        assert_eq!(names(&heard), ["Bash"]);
        let messages = asked[0]["messages"].as_array().unwrap();
        assert!(messages.len() <= 2 + 1 + 9, "{}", messages.len());
        let text = asked[0].to_string();
        assert!(text.contains("[SESSION RESET") && text.contains("do it"), "{text}");
        let calls = text.matches("\"tool_calls\"").count();
        assert_eq!(calls, text.matches("\"tool_call_id\"").count(), "pairs are whole");
        // The next turn begins with the same bytes.
        talk.work(1);
        talk.backend.then(ls());
        let (_, next) = talk.ask().await;
        let next = next[0]["messages"].as_array().unwrap();
        assert_eq!(&next[..messages.len()], &messages[..]);
        let breaks = talk.gateway.metric("drover_prefix_breaks_total", "session_reset").await;
        assert_eq!(breaks, 1.0);
    }
}

everywhere! {
    async fn case_108_after_three_resets_one_summary(protocol: Protocol, stream: bool) {
        let settings = [("guard.loops.contamination_max_resets", json!(0))];
        let mut talk = Talk::new(protocol, stream, &settings).await;
        talk.work(12);
        for n in 0..3 {
            bad_turn(&mut talk, n).await;
        }
        talk.work(1);
        let (_, asked) = talk.ask().await;
        assert_eq!(asked[0]["tool_choice"], "none");
        assert!(last(&asked[0]).contains("plain text only"));
        talk.text("This is what is done.");
        talk.user("Now do something else.");
        talk.backend.then(ls());
        let (heard, asked) = talk.ask().await;
        assert_eq!((names(&heard), asked[0].get("tool_choice")), (vec!["Bash"], None));
    }
}

everywhere! {
    async fn a_stop_takes_no_generation_and_says_why(protocol: Protocol, stream: bool) {
        let settings = [("guard.loops.finalize_session_hard_cap", json!(1))];
        let mut talk = Talk::new(protocol, stream, &settings).await;
        for _ in 0..9 {
            talk.bash("ls", "a b");
        }
        talk.ask().await;
        talk.text("Hello there!");
        talk.user("do it");
        talk.ask().await;
        talk.bash("ls", "a b");
        let (heard, asked) = talk.ask().await;
        assert!(asked.is_empty(), "nothing is generated");
        assert_eq!(heard.stop, protocol.end_turn());
        for part in ["`Bash`", "10 times", "turns and", "generated tokens", "send a message"] {
            assert!(heard.text.contains(part), "{part}: {}", heard.text);
        }
        talk.gateway.logs(&["session hard cap reached (1/1)"]).await;
        let stops = talk.gateway.metric("drover_loop_transitions_total", r#"to="stop""#).await;
        assert_eq!(stops, 1.0);
        talk.text(&heard.text);
        talk.user("Look into b.");
        talk.backend.then(ls());
        let (heard, asked) = talk.ask().await;
        assert_eq!((names(&heard), asked.len()), (vec!["Bash"], 1));
    }
}

everywhere! {
    async fn observing_shows_what_would_have_been_done(protocol: Protocol, stream: bool) {
        let mut talk = Talk::new(protocol, stream, &[("guard.preset", json!("observe"))]).await;
        talk.backend.always(ls());
        for _ in 0..10 {
            talk.bash("ls", "a b");
            let (heard, asked) = talk.ask().await;
            assert_eq!((names(&heard), asked.len()), (vec!["Bash"], 1));
            assert_eq!(last(&asked[0]), "a b");
            assert_eq!(asked[0].get("tool_choice"), None);
        }
        for kind in ["loop_hint", "loop_narrow", "loop_finalize"] {
            let labels = format!(r#"kind="{kind}",mode="observe""#);
            assert!(talk.gateway.metric("drover_interventions_total", &labels).await > 0.0, "{kind}");
        }
    }
}

/// `/api/sessions/{id}` of the only session.
async fn view(talk: &Talk) -> Value {
    let sessions = talk.gateway.admin_get("/api/sessions").await.json();
    let id = sessions["sessions"][0]["id"].as_str().unwrap();
    let path = format!("/api/sessions/{id}");
    talk.gateway.admin_get(&path).await.json()
}

/// What people look for with grep: the lines of the earlier system.
#[tokio::test]
async fn every_change_of_phase_is_in_the_log_with_its_reason() {
    let settings = [("guard.loops.finalize_session_hard_cap", json!(1))];
    let mut talk = Talk::new(Protocol::Anthropic, true, &settings).await;
    for _ in 0..9 {
        talk.bash("ls", "a b");
        talk.ask().await;
    }
    talk.text("Hello there!");
    talk.user("do it");
    talk.ask().await;
    talk.bash("ls", "a b");
    talk.ask().await;
    talk.text("It goes round in circles.");
    talk.user("Look into b.");
    talk.ask().await;
    let phases = [
        "act -> review (act -> hint) reason=same_call turn=3 ",
        "review -> review (hint -> narrow) reason=repeat_threshold turn=5 ",
        "review -> act (narrow -> act) reason=review_complete turn=7 ",
        "act -> review (act -> hint) reason=same_call turn=7 ",
        "review -> review (hint -> narrow) reason=repeat_threshold turn=8 ",
        "review -> finalize (narrow -> finalize) reason=stagnation_limit turn=9 ",
        "finalize -> act (finalize -> act) reason=finalize_complete turn=9 ",
        "act -> finalize (act -> stop) reason=hard_cap turn=10 ",
        "finalize -> act (stop -> act) reason=fresh_user_text turn=10 ",
    ];
    talk.gateway.logs(&[phases[phases.len() - 1]]).await;
    let log = talk.gateway.log();
    let lines = log
        .iter()
        .filter_map(|line| line.split("TOOL STATE MACHINE: phase ").nth(1));
    let lines: Vec<&str> = lines.collect();
    assert_eq!(lines.len(), phases.len(), "{lines:#?}");
    for (line, phase) in lines.iter().zip(phases) {
        assert!(line.starts_with(phase), "{line}");
        let capped = line.contains("session hard cap reached (1/1)");
        assert_eq!(capped, phase.contains("hard_cap"), "{line}");
    }
}

/// Members of an object, in order of the alphabet.
fn members(object: &Value) -> Vec<&str> {
    object
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

/// The same call with the same result is seen to be the same, in every dialect; nothing of either is told.
#[tokio::test]
async fn the_session_view_shows_calls_and_results_as_hashes() {
    for protocol in Protocol::ALL {
        let mut talk = Talk::new(protocol, true, &[]).await;
        for result in ["one thing", "one thing", "another thing"] {
            talk.bash("ls secret-folder", result);
            talk.ask().await;
        }
        talk.text("Done.");
        talk.user("Thank you.");
        talk.ask().await;
        let view = view(&talk).await;
        let calls = view["calls"].as_array().unwrap();
        assert_eq!(calls.len(), 3, "{view}");
        let of = |key: &'static str| {
            let calls = calls.iter();
            calls.map(move |call| call[key].as_str().unwrap())
        };
        assert!(of("tool").all(|tool| tool == "Bash"), "{view}");
        let hashes: Vec<&str> = of("call").chain(of("result")).collect();
        let is_hash = |hash: &&str| hash.len() == 16 && hash.chars().all(|c| c.is_ascii_hexdigit());
        assert!(hashes.iter().all(is_hash), "{hashes:?}");
        let [a, b, c, latest, second, first] = hashes[..] else {
            panic!("{hashes:?}")
        };
        assert!(
            a == b && b == c && first == second && first != latest,
            "{hashes:?}"
        );
        let text = view.to_string();
        assert!(
            !text.contains("secret-folder") && !text.contains("one thing"),
            "{text}"
        );
        let request = calls[0]["request_id"].as_str().unwrap();
        let path = format!("/api/requests/{request}");
        assert_eq!(talk.gateway.admin_get(&path).await.status, 200);
    }
}

#[tokio::test]
async fn the_session_view_shows_the_ladder() {
    let mut talk = Talk::new(Protocol::Anthropic, true, &[]).await;
    for _ in 0..9 {
        talk.bash("ls", "a b");
        talk.ask().await;
    }
    let view = view(&talk).await;
    assert_eq!(
        members(&view),
        [
            "calls",
            "field",
            "first_seen",
            "id",
            "intervention_count",
            "interventions",
            "last_seen",
            "lineage_count",
            "lineages",
            "principal",
            "requests_per_minute",
            "retries",
            "source",
            "tokens_cached",
            "tokens_in",
            "tokens_out",
            "turns",
        ]
    );
    assert_eq!(
        (&view["source"], &view["field"]),
        (&json!("hdr"), &json!("x-session-id"))
    );
    assert!(
        view["principal"]
            .as_str()
            .unwrap()
            .starts_with("addr:127.0.0.1")
    );
    // A turn takes 11 tokens, 3 of them cached, and gives 4.
    let spent = |of: &Value| {
        ["turns", "tokens_in", "tokens_cached", "tokens_out"].map(|key| of[key].as_u64().unwrap())
    };
    assert_eq!(spent(&view), [9, 99, 27, 36]);
    let done: Vec<&str> = view["interventions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|done| done["kind"].as_str().unwrap())
        .collect();
    for kind in ["loop_hint", "loop_narrow", "loop_finalize"] {
        assert!(done.contains(&kind), "{done:?}");
    }
    assert_eq!(view["intervention_count"], done.len());

    let lineage = &view["lineages"][0];
    assert_eq!(spent(lineage), [9, 99, 27, 36]);
    assert_eq!(
        (&lineage["backend"], &lineage["kind"], &lineage["messages"]),
        (&json!("b0"), &json!("tools"), &json!(19))
    );
    let mut loops = lineage["loop_protection"].clone();
    let phases = loops.as_object_mut().unwrap().remove("phases").unwrap();
    let counters = json!({
        "banned_tools": 0,
        "completion_recovery_attempts": 0,
        "consecutive_forced_count": 0,
        "contamination_resets": 0,
        "finalize_fired": true,
        "finalize_hard_stop_count": 1,
        "finalize_since_human_text": 1,
        "forced_auto_cooldown_turns": 0,
        "loop_repeat_count": 9,
        "malformed_tool_streak": 0,
        "no_progress_streak": 0,
        "required_tool_miss_streak": 0,
        "rung": "finalize",
        "tokens_since_human_text": 36,
        "tokens_since_progress": 36,
        "tool_state_review_cycles": 2,
        "tool_state_stagnation_streak": 8,
        "tool_state_transitions": 6,
        "tool_state_unproductive_exhaustion_streak": 0,
        "tool_turn_phase": "finalize",
        "tool_turns": 9,
        "turns_since_human_text": 9,
    });
    assert_eq!(loops, counters);
    // The last four.
    let expected = json!([
        {"from": "narrow", "to": "finalize", "reason": "stagnation_limit", "turn": 9},
        {"from": "hint", "to": "narrow", "reason": "repeat_threshold", "turn": 8},
        {"from": "act", "to": "hint", "reason": "same_call", "turn": 7},
        {"from": "narrow", "to": "act", "reason": "review_complete", "turn": 7},
    ]);
    assert_eq!(phases, expected);
}

/// What a failed turn would have changed is not remembered.
#[tokio::test]
async fn a_turn_that_fails_leaves_no_trace() {
    let mut talk = Talk::new(
        Protocol::OpenAi,
        false,
        &[("guard.loops.finalize_session_hard_cap", json!(1))],
    )
    .await;
    for _ in 0..9 {
        talk.bash("ls", "a b");
    }
    for _ in 0..3 {
        talk.backend
            .then(Reply::error(400, "invalid_request_error", "no"));
        let request = talk
            .protocol
            .request("m", "You are an agent.", &talk.items, &[], false)
            .header("x-session-id", "the session");
        assert_eq!(talk.gateway.ask(&request).await.status, 400);
    }
    let (_, asked) = talk.ask().await;
    assert_eq!(
        asked[0]["tool_choice"], "none",
        "the first summary, not the end"
    );
}

/// Requests of one session side by side, with the same and with different transcripts.
#[tokio::test]
async fn parallel_requests_of_one_session_do_not_disturb_each_other() {
    let talk = Arc::new(Talk::new(Protocol::OpenAi, false, &[]).await);
    let request = |lineage: usize, turns: usize| {
        let mut items = vec![
            talk.protocol
                .item(&Item::User(format!("task {lineage}")))
                .to_string(),
        ];
        for n in 0..turns {
            let id = format!("c{n}");
            let arguments = json!({"command": "ls"}).to_string();
            items.push(
                talk.protocol
                    .item(&Item::Call {
                        id: id.clone(),
                        name: "Bash".into(),
                        arguments,
                    })
                    .to_string(),
            );
            items.push(
                talk.protocol
                    .item(&Item::Result {
                        id,
                        text: "a b".into(),
                    })
                    .to_string(),
            );
        }
        talk.protocol
            .request("m", "", &items, &[], false)
            .header("x-session-id", "the session")
    };
    for turns in 0..=9 {
        let requests: Vec<Request> = (0..4)
            .flat_map(|lineage| [request(lineage, turns), request(lineage, turns)])
            .collect();
        let mut answers = JoinSet::new();
        for request in requests {
            let talk = Arc::clone(&talk);
            answers.spawn(async move { talk.gateway.ask(&request).await.status });
        }
        assert!(answers.join_all().await.iter().all(|status| *status == 200));
    }
    talk.gateway.idle().await;
    let view = view(&talk).await;
    for lineage in view["lineages"].as_array().unwrap() {
        let loops = &lineage["loop_protection"];
        assert_eq!(
            (&loops["rung"], &loops["finalize_hard_stop_count"]),
            (&json!("finalize"), &json!(1)),
            "{lineage}"
        );
    }
    assert_eq!(view["lineages"].as_array().unwrap().len(), 4);
}

everywhere! {
    async fn a_spent_budget_ends_a_session_until_somebody_says_something(protocol: Protocol, stream: bool) {
        // An answer has 4 tokens.
        for (budget, limit) in [("turns", 2), ("generated_tokens", 8)] {
            let mut talk = Talk::new(protocol, stream, &[(&format!("guard.budgets.{budget}"), json!(limit))]).await;
            talk.backend.always(ls());
            for _ in 0..2 {
                let (heard, _) = talk.ask().await;
                assert_eq!(names(&heard), ["Bash"]);
                talk.work(1);
            }
            for _ in 0..2 {
                let (heard, asked) = talk.ask().await;
                assert!(asked.is_empty() && heard.text.contains("spent its budget"), "{heard:?}");
                assert_eq!(heard.stop, protocol.end_turn());
            }
            talk.text("I have stopped here.");
            talk.user("Go on.");
            for _ in 0..3 {
                let (heard, asked) = talk.ask().await;
                assert_eq!((names(&heard), asked.len()), (vec!["Bash"], 1));
                talk.work(1);
            }
            assert!(talk.ask().await.1.is_empty());
        }
    }
}

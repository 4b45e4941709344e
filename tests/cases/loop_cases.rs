//! The earlier system's cases about loops, by their numbers, in every dialect and mode. Where it did
//! harm, the corrected behaviour is asserted.

use serde_json::json;

use crate::support::agent::talk::{Talk, call, everywhere, last, ls, names};
use crate::support::agent::{Item, Protocol};

everywhere! {
    async fn case_70_the_first_message_is_never_forced(protocol: Protocol, stream: bool) {
        for force in ["off", "required"] {
            let talk = Talk::new(protocol, stream, &[("guard.loops.force_tools", json!(force))]).await;
            let (_, asked) = talk.ask().await;
            assert_eq!(asked[0].get("tool_choice"), None);
        }
    }
}

everywhere! {
    async fn case_71_work_is_forced_on_request_only(protocol: Protocol, stream: bool) {
        for (force, choice) in [("off", None), ("nudge", None), ("required", Some(&json!("required")))] {
            let mut talk = Talk::new(protocol, stream, &[("guard.loops.force_tools", json!(force))]).await;
            talk.work(3);
            let (_, asked) = talk.ask().await;
            assert_eq!(asked[0].get("tool_choice"), choice, "{force}");
            assert_eq!(last(&asked[0]).contains("make the next tool call now"), force == "nudge");
        }
    }
}

everywhere! {
    async fn case_72_an_ordinary_second_turn_is_not_forced(protocol: Protocol, stream: bool) {
        let mut talk = Talk::new(protocol, stream, &[("guard.loops.force_tools", json!("required"))]).await;
        talk.text("hello");
        talk.user("what is 2+2?");
        let (heard, asked) = talk.ask().await;
        assert_eq!((asked.len(), asked[0].get("tool_choice")), (1, None));
        assert_eq!(heard.text, "Hello there!");
    }
}

everywhere! {
    async fn case_73_a_repeated_call_is_hinted_at_and_then_denied(protocol: Protocol, stream: bool) {
        let mut talk = Talk::new(protocol, stream, &[]).await;
        for _ in 0..3 {
            talk.bash("ls", "a b");
        }
        let (_, asked) = talk.ask().await;
        assert!(last(&asked[0]).starts_with("a b\n\n[Note: `Bash` was called 3 times"), "{}", last(&asked[0]));
        assert!(last(&asked[0]).contains("Use a DIFFERENT tool"));
        assert_eq!(asked[0]["tools"].as_array().unwrap().len(), 4, "the list stays as it is");
        for _ in 0..2 {
            talk.bash("ls", "a b");
        }
        talk.backend.then(ls()).then(call("Read", &json!({"file_path": "a"})));
        let (heard, asked) = talk.ask().await;
        assert_eq!(names(&heard), ["Read"], "the client never sees the denied call");
        assert_eq!(asked.len(), 2);
        assert!(last(&asked[1]).contains("The call was denied: `Bash` is withheld"), "{}", last(&asked[1]));
        assert_eq!(asked[0]["tools"], asked[1]["tools"]);
        // Narrowing is over and nothing has changed: a second review.
        for _ in 0..2 {
            talk.bash("ls", "a b");
            talk.ask().await;
        }
        let (_, asked) = talk.ask().await;
        let told = last(&asked[0]);
        assert!(told.contains("CRITICAL") && told.contains("2 review rounds"), "{told}");
    }
}

everywhere! {
    async fn case_73_earlier_thresholds_withhold_at_once(protocol: Protocol, stream: bool) {
        let mut talk = Talk::new(protocol, stream, &[("guard.preset", json!("uap-legacy"))]).await;
        for _ in 0..3 {
            talk.bash("ls", "a b");
        }
        talk.backend.then(ls());
        let (heard, asked) = talk.ask().await;
        assert!(names(&heard).is_empty() && heard.text == "Hello there!", "{heard:?}");
        assert!(last(&asked[0]).contains("`Bash`") && last(&asked[0]).contains("DIFFERENT tool"));
    }
}

everywhere! {
    async fn case_74_reading_tools_go_together(protocol: Protocol, stream: bool) {
        let (reads, writes) = (["Read", "Grep"], ["Bash", "Write", "Edit"]);
        let asked_for = |name: &str| {
            let arguments = match name {
                "Bash" => json!({"command": "x"}),
                _ => json!({"file_path": "x"}),
            };
            call(name, &arguments)
        };
        let mut talk = Talk::new(protocol, stream, &[]).await;
        for _ in 0..5 {
            talk.read("a", "text");
        }
        talk.backend.then(asked_for(reads[0]));
        assert!(names(&talk.ask().await.0).is_empty());
        for name in writes {
            let mut talk = Talk::new(protocol, stream, &[]).await;
            for _ in 0..5 {
                talk.read("a", "text");
            }
            talk.backend.then(asked_for(name));
            assert_eq!(names(&talk.ask().await.0), [name]);
        }
        let mut talk = Talk::new(protocol, stream, &[]).await;
        for _ in 0..5 {
            talk.bash("ls", "a b");
        }
        talk.backend.then(asked_for("Read"));
        assert_eq!(names(&talk.ask().await.0), ["Read"]);
    }
}

everywhere! {
    async fn case_75_a_withheld_tool_comes_back_with_progress(protocol: Protocol, stream: bool) {
        let mut talk = Talk::new(protocol, stream, &[]).await;
        for _ in 0..5 {
            talk.bash("ls", "a b");
        }
        talk.ask().await;
        talk.backend.then(ls());
        assert!(names(&talk.ask().await.0).is_empty(), "still withheld when it is asked again");
        talk.read("a", "something new");
        talk.backend.then(call("Bash", &json!({"command": "make"})));
        assert_eq!(names(&talk.ask().await.0), ["Bash"]);
    }
}

everywhere! {
    async fn case_76_the_same_file_read_three_times(protocol: Protocol, stream: bool) {
        let mut talk = Talk::new(protocol, stream, &[]).await;
        for other in ["b", "c"] {
            talk.read("a", "text of a");
            talk.read(other, &format!("text of {other}"));
        }
        assert!(!last(&talk.ask().await.1[0]).contains("DIFFERENT"));
        talk.read("a", "text of a");
        assert!(last(&talk.ask().await.1[0]).contains("read the same thing again"));
        let mut talk = Talk::new(protocol, stream, &[]).await;
        for file in ["a", "b", "c"] {
            talk.read(file, &format!("text of {file}"));
        }
        assert!(!last(&talk.ask().await.1[0]).contains("DIFFERENT"));
    }
}

everywhere! {
    async fn case_77_three_detections_are_a_ban_that_ends(protocol: Protocol, stream: bool) {
        let mut talk = Talk::new(protocol, stream, &[]).await;
        talk.ask().await;
        for round in 0..3 {
            for _ in 0..3 {
                talk.bash("ls", "a b");
                talk.ask().await;
            }
            for n in 0..5 {
                talk.read(&format!("{round}/{n}"), &format!("text {round}/{n}"));
                talk.ask().await;
            }
        }
        // Five of the ten turns have passed; it holds in every attempt of a turn.
        talk.backend.then(ls()).then(ls());
        let (heard, asked) = talk.ask().await;
        assert!(names(&heard).is_empty(), "{heard:?}");
        assert_eq!(asked.len(), 3);
        for n in 0..5 {
            talk.read(&format!("later/{n}"), &format!("later text {n}"));
            talk.ask().await;
        }
        talk.backend.then(ls());
        assert_eq!(names(&talk.ask().await.0), ["Bash"]);
    }
}

everywhere! {
    async fn case_78_never_all_tools(protocol: Protocol, stream: bool) {
        let mut talk = Talk::new(protocol, stream, &[]).await;
        for _ in 0..5 {
            talk.bash("ls", "a b");
        }
        talk.backend.then(ls());
        let (heard, asked) = talk.ask_with(&["Bash"]).await;
        assert_eq!((names(&heard), asked.len()), (vec!["Bash"], 1));
    }
}

everywhere! {
    async fn case_79_too_many_reviews_ask_for_a_summary(protocol: Protocol, stream: bool) {
        let settings = [("guard.loops.review_cycle_limit", json!(1))];
        let mut talk = Talk::new(protocol, stream, &settings).await;
        for _ in 0..3 {
            talk.bash("ls", "a b");
        }
        talk.ask().await;
        talk.bash("ls", "a b");
        let (heard, asked) = talk.ask().await;
        assert_eq!(asked[0]["tool_choice"], "none");
        assert!(last(&asked[0]).contains("plain text only"), "{}", last(&asked[0]));
        assert_eq!((heard.text.as_str(), heard.stop.as_str()), ("Hello there!", protocol.end_turn()));
    }
}

everywhere! {
    async fn case_80_sixty_useful_turns_are_untouched(protocol: Protocol, stream: bool) {
        let mut talk = Talk::new(protocol, stream, &[]).await;
        talk.backend.always(call("Bash", &json!({"command": "next"})));
        for _ in 0..60 {
            talk.work(1);
            let (heard, asked) = talk.ask().await;
            assert_eq!((names(&heard), asked.len()), (vec!["Bash"], 1));
            assert_eq!(asked[0].get("tool_choice"), None);
            assert!(last(&asked[0]).starts_with("did ") && !last(&asked[0]).contains('['));
        }
    }
}

everywhere! {
    async fn case_81_new_text_opens_everything(protocol: Protocol, stream: bool) {
        let mut talk = Talk::new(protocol, stream, &[]).await;
        for _ in 0..9 {
            talk.bash("ls", "a b");
        }
        let (_, asked) = talk.ask().await;
        assert_eq!(asked[0]["tool_choice"], "none");
        talk.text("I am stuck.");
        talk.user("Look into b instead.");
        talk.backend.then(ls());
        let (heard, asked) = talk.ask().await;
        assert_eq!((names(&heard), asked[0].get("tool_choice")), (vec!["Bash"], None));
    }
}

/// `force_tools: required`, and so many forced turns.
async fn forced(protocol: Protocol, stream: bool, turns: usize) -> Talk {
    let settings = [("guard.loops.force_tools", json!("required"))];
    let mut talk = Talk::new(protocol, stream, &settings).await;
    talk.work(2);
    for _ in 0..turns {
        talk.work(1);
        talk.backend.then(ls());
        let (_, asked) = talk.ask().await;
        assert_eq!(asked[0]["tool_choice"], "required");
    }
    talk
}

everywhere! {
    async fn case_82_starvation_releases_without_asking_again(protocol: Protocol, stream: bool) {
        let mut talk = forced(protocol, stream, 5).await;
        talk.text("I have nothing to call.");
        talk.user("do it");
        let (heard, asked) = talk.ask().await;
        assert_eq!((asked.len(), &asked[0]["tool_choice"]), (1, &json!("none")));
        assert_eq!(heard.text, "Hello there!");
    }
}

everywhere! {
    async fn case_83_a_bad_answer_under_force_is_dampened(protocol: Protocol, stream: bool) {
        let mut talk = forced(protocol, stream, 4).await;
        talk.work(1);
        for _ in 0..3 {
            talk.backend.then(call("Bash", &json!({"wrong": 1})));
        }
        talk.ask().await;
        for expected in [None, None, Some(&json!("required"))] {
            talk.work(1);
            talk.backend.then(ls());
            let (_, asked) = talk.ask().await;
            assert_eq!(asked[0].get("tool_choice"), expected);
        }
    }
}

everywhere! {
    async fn case_84_an_unfinished_task_is_put_off_three_times(protocol: Protocol, stream: bool) {
        let settings = [("guard.loops.force_tools", json!("required"))];
        let mut talk = Talk::new(protocol, stream, &settings).await;
        talk.ask().await;
        let mut recovered = 0;
        for _ in 0..60 {
            talk.bash("ls", "a b");
            talk.backend.then(ls());
            let (_, asked) = talk.ask_with(&["Bash"]).await;
            if last(&asked[0]).contains("The task is not complete") {
                assert_eq!(asked[0].get("tool_choice"), None, "auto");
                recovered += 1;
            }
            if asked[0]["tool_choice"] == "none" {
                assert_eq!(recovered, 3);
                return;
            }
        }
        panic!("it never really finalized");
    }
}

everywhere! {
    async fn case_85_86_a_summary_may_be_followed_by_a_call_that_does_nothing(protocol: Protocol, stream: bool) {
        let settings = [("guard.loops.synthetic_continuation", json!(true))];
        let mut talk = Talk::new(protocol, stream, &settings).await;
        for _ in 0..9 {
            talk.bash("ls", "a b");
        }
        let (heard, _) = talk.ask().await;
        assert_eq!((names(&heard), heard.text.as_str()), (vec!["Read"], "Hello there!"));
        assert!(heard.calls[0].2.contains("/dev/null"));
        assert_ne!(heard.stop, protocol.end_turn());
        let (id, name, arguments) = heard.calls[0].clone();
        talk.text("Hello there!");
        talk.push(&Item::Call { id: id.clone(), name, arguments });
        talk.push(&Item::Result { id, text: String::new() });
        for _ in 0..2 {
            let (_, asked) = talk.ask().await;
            let text = asked[0].to_string();
            assert!(!text.contains("/dev/null") && !text.contains("drover_continue"), "{text}");
            assert!(text.contains("Continue working on the task."));
            talk.work(1);
        }
    }
}

everywhere! {
    async fn case_87_a_plain_answer_takes_one_generation(protocol: Protocol, stream: bool) {
        let mut talk = Talk::new(protocol, stream, &[]).await;
        talk.work(5);
        let (heard, asked) = talk.ask().await;
        assert_eq!((asked.len(), heard.text.as_str()), (1, "Hello there!"));
        assert_eq!(heard.stop, protocol.end_turn());
        let attempts = talk.gateway.metric("drover_attempts_total", "").await;
        assert_eq!(attempts, 1.0);
    }
}

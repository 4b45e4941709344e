//! What is done about it.

use super::*;

#[test]
fn the_cap_is_told_in_the_log() {
    let mut session = Session::new();
    loop {
        same_call(&mut session, 0);
        let (plan, pending) = session.plan(false);
        if plan.rung == Phase::Stop {
            let settled = pending.settle(&Effects::default());
            let lines: Vec<String> = settled.lines().collect();
            assert!(
                lines.join("\n").contains("session hard cap reached (6/6)"),
                "{lines:?}"
            );
            assert!(
                plan.summary.contains("`Bash` with `{\"command\":\"ls\"}`"),
                "{}",
                plan.summary
            );
            return;
        }
        session.rung();
    }
}

#[test]
fn withheld_tools_are_never_all_and_take_their_class_along() {
    let mut session = Session::new();
    timeline(&mut session, 4, same_call);
    same_call(&mut session, 0);
    let names = |plan: &Plan| {
        plan.withheld
            .iter()
            .map(|w| w.name.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&session.answer(Effects::default())), ["Bash"]);
    let mut session = Session::new();
    let read =
        |session: &mut Session, _: usize| session.act("Read", r#"{"file_path":"a"}"#, "text");
    timeline(&mut session, 4, read);
    read(&mut session, 0);
    assert_eq!(names(&session.answer(Effects::default())), ["Read"]);
    let mut session = Session::new();
    let all = |session: &mut Session, n: usize| session.act(TOOLS[n % 4], "{}", "same");
    let changes = timeline(&mut session, 13, all);
    assert!(
        changes.iter().any(|(_, rung)| *rung == Phase::Finalize),
        "{changes:?}"
    );
}

#[test]
fn a_call_denied_in_three_turns_is_a_repetition() {
    let mut session = Session::new();
    session.rung();
    for n in 0..3 {
        session.act(
            "Read",
            &format!(r#"{{"file_path":"{n}"}}"#),
            &format!("text {n}"),
        );
        session.answer(Effects {
            denied: vec![call_hash("Bash", "{}")],
            ..Effects::default()
        });
    }
    session.act("Bash", r#"{"command":"x"}"#, "");
    assert_eq!(session.rung(), Phase::Hint);
}

#[test]
fn budgets_end_a_session_until_somebody_says_something() {
    let budgets = [
        Budgets {
            turns: Some(5),
            ..Budgets::default()
        },
        Budgets {
            generated_tokens: Some(500),
            ..Budgets::default()
        },
        Budgets {
            wall: Some(Duration::from_secs(60)),
            ..Budgets::default()
        },
    ];
    for budgets in budgets {
        let mut session = Session::new();
        session.budgets = budgets;
        assert_eq!(session.rung(), Phase::Act);
        session.spent = Spent {
            turns: 5,
            generated: 500,
            wall: Duration::from_secs(60),
        };
        session.act("Read", r#"{"file_path":"x"}"#, "news");
        let plan = session.answer(Effects::default());
        assert_eq!(plan.rung, Phase::Stop);
        assert!(plan.summary.contains("budget"));
        session.says("go on");
        let (plan, pending) = session.plan(false);
        assert_eq!((plan.rung, pending.frees_budget), (Phase::Act, true));
    }
    let mut session = Session::new();
    session.budgets.tokens_without_progress = Some(25);
    let changes = timeline(&mut session, 6, |session, n| {
        session.act("Bash", &format!(r#"{{"command":"{n}"}}"#), "");
    });
    assert_eq!(changes, [(3, Phase::Stop)]);
}

#[test]
fn a_contaminated_view_is_reset_with_whole_pairs() {
    let bad = || Effects {
        bad: true,
        ..Effects::default()
    };
    let mut session = Session::new();
    session.rung();
    for n in 0..12 {
        session.act(
            "Read",
            &format!(r#"{{"file_path":"{n}"}}"#),
            &format!("text {n}"),
        );
        session.rung();
    }
    for round in 1..=3 {
        for n in 0..3 {
            session.says(&format!("again {round} {n}"));
            session.answer(bad());
        }
        for n in 0..5 {
            session.act(
                "Read",
                &format!(r#"{{"file_path":"{round} {n}"}}"#),
                &format!("text {round} {n}"),
            );
        }
        let plan = session.answer(Effects {
            called: true,
            ..Effects::default()
        });
        assert_eq!(
            (plan.rung, plan.kinds.as_slice()),
            (Phase::Act, ["session_reset"].as_slice())
        );
        let mut turn = session.turn();
        plan.apply(&mut turn);
        assert_eq!(turn.messages[1].parts(), session.messages[1].parts());
        let Part::Text(marker) = &turn.messages[2].parts()[0] else {
            panic!()
        };
        assert!(marker.starts_with("[SESSION RESET"));
        assert!(turn.messages.len() <= 3 + 9, "{}", turn.messages.len());
        assert_eq!(turn.messages[3].role(), Role::Assistant);
        // The next turn begins with the same view.
        session.act(
            "Read",
            &format!(r#"{{"file_path":"{round} x"}}"#),
            &format!("x {round}"),
        );
        let plan = session.answer(Effects {
            called: true,
            ..Effects::default()
        });
        let mut next = session.turn();
        plan.apply(&mut next);
        for (before, after) in turn.messages.iter().zip(&next.messages) {
            assert_eq!(before.parts(), after.parts());
        }
    }
    for n in 0..3 {
        session.says(&format!("again 4 {n}"));
        session.answer(bad());
    }
    session.says("and now");
    let plan = session.answer(Effects::default());
    assert_eq!(plan.rung, Phase::Finalize);
    let mut turn = session.turn();
    plan.apply(&mut turn);
    let Part::Text(marker) = &turn.messages[2].parts()[0] else {
        panic!()
    };
    assert!(
        marker.starts_with("[SESSION RESET"),
        "the view stays: {marker}"
    );
    session.says("something else");
    assert_eq!(session.rung(), Phase::Act, "one turn only");
}

#[test]
fn forcing_lets_go() {
    let mut session = Session::new();
    session.loops.force_tools = ForceTools::Required;
    session.rung();
    let choice = |session: &mut Session, effects: Effects| {
        let plan = session.answer(effects);
        let mut turn = session.turn();
        plan.apply(&mut turn);
        turn.tool_choice
    };
    let called = || Effects {
        called: true,
        ..Effects::default()
    };
    let work = |session: &mut Session, n: usize| {
        session.act(
            "Read",
            &format!(r#"{{"file_path":"{n}"}}"#),
            &format!("text {n}"),
        );
    };
    work(&mut session, 0);
    assert_eq!(
        choice(&mut session, called()),
        ToolChoice::Auto,
        "too early"
    );
    for n in 1..=5 {
        work(&mut session, n);
        let effects = if n == 5 {
            Effects {
                bad: true,
                ..Effects::default()
            }
        } else {
            called()
        };
        if n > 1 {
            assert_eq!(choice(&mut session, effects), ToolChoice::Required);
        } else {
            choice(&mut session, effects);
        }
    }
    for n in 6..8 {
        work(&mut session, n);
        assert_eq!(choice(&mut session, called()), ToolChoice::Auto, "dampened");
    }
    for n in 8..13 {
        work(&mut session, n);
        assert_eq!(choice(&mut session, called()), ToolChoice::Required);
    }
    session.says("fix it");
    assert_eq!(
        choice(&mut session, Effects::default()),
        ToolChoice::None,
        "starved"
    );
}

#[test]
fn what_we_called_ourselves_is_never_sent_upstream() {
    let mut session = Session::new();
    session.loops.synthetic_continuation = true;
    let tools = session.turn().tools;
    let [crate::turn::Delta::ToolOpen { id, name, .. }, _] = continuation(&tools, "x", 0).unwrap()
    else {
        panic!()
    };
    assert_eq!(name, "Read");
    let call = ToolCall {
        id: id.clone(),
        name,
        arguments: "{}".into(),
    };
    let parts = vec![Part::Text("summary".into()), Part::ToolCall(call)];
    session.messages.push(Message::new(Role::Assistant, parts));
    let result = ToolResult {
        call_id: id,
        content: vec![Content::Text(String::new())],
        is_error: false,
    };
    session
        .messages
        .push(Message::new(Role::Tool, vec![Part::ToolResult(result)]));
    let plan = session.answer(Effects::default());
    let mut turn = session.turn();
    plan.apply(&mut turn);
    let last = turn.messages.last().unwrap();
    assert_eq!(
        (last.role(), last.parts()),
        (
            Role::User,
            [Part::Text("Continue working on the task.".into())].as_slice()
        )
    );
    assert_eq!(turn.messages[2].parts(), [Part::Text("summary".into())]);
}

#[test]
fn observing_changes_nothing_and_records_everything() {
    let mut session = Session::new();
    session.preset = Preset::Observe;
    let mut kinds = Vec::new();
    for n in 0..60 {
        same_call(&mut session, n);
        let plan = session.answer(Effects::default());
        kinds.extend(plan.kinds.iter().copied());
        let (before, mut turn) = (session.turn(), session.turn());
        plan.apply(&mut turn);
        assert_eq!(turn.tool_choice, before.tool_choice);
        assert_eq!(turn.messages.len(), before.messages.len());
        assert!(
            turn.messages
                .iter()
                .zip(&before.messages)
                .all(|(a, b)| a.parts() == b.parts())
        );
        assert!(plan.withheld.is_empty() && !plan.acts);
    }
    for kind in ["loop_hint", "loop_narrow", "loop_finalize", "loop_stop"] {
        assert!(kinds.contains(&kind), "{kind}");
    }
}

//! Which rung, when.

use super::*;

#[test]
fn useful_work_goes_on_for_ever() {
    for forgets in [Forgets::Nothing, Forgets::TheHotPart, Forgets::Everything] {
        let mut session = Session {
            forgets,
            ..Session::new()
        };
        let turns = if forgets == Forgets::Nothing { 600 } else { 80 };
        let changes = timeline(&mut session, turns, |session, n| match n % 4 {
            0 => session.act(
                "Bash",
                &format!(r#"{{"command":"step {n}"}}"#),
                &format!("did {n}"),
            ),
            1 => session.act(
                "Edit",
                &format!(r#"{{"file_path":"a","new":"{n}"}}"#),
                "updated",
            ),
            2 => session.act(
                "Bash",
                r#"{"command":"cargo test"}"#,
                &format!("{} failed in {n}.2s", n / 40),
            ),
            _ => session.act(
                "Read",
                &format!(r#"{{"file_path":"f{n}"}}"#),
                &format!("text {n}"),
            ),
        });
        assert_eq!(changes, []);
    }
}

#[test]
fn the_same_call_climbs_the_whole_ladder() {
    each(|mut session| {
        let changes = timeline(&mut session, 9, same_call);
        use Phase::*;
        assert_eq!(
            changes,
            [
                (3, Hint),
                (5, Narrow),
                (7, Hint),
                (8, Narrow),
                (9, Finalize)
            ]
        );
    });
}

#[test]
fn two_calls_in_turns_end_before_the_seventeenth() {
    each(|mut session| {
        let changes = timeline(&mut session, 17, |session, n| match n % 2 {
            0 => session.act("Bash", r#"{"command":"ls"}"#, "a"),
            _ => session.act("Edit", r#"{"file_path":"a"}"#, "updated"),
        });
        assert_eq!(changes[0], (6, Phase::Hint));
        let end = changes.iter().find(|(_, rung)| *rung == Phase::Finalize);
        assert_eq!(end, Some(&(10, Phase::Finalize)), "{changes:?}");
    });
}

#[test]
fn fruitless_calls_end_with_the_twelfth() {
    each(|mut session| {
        let changes = timeline(&mut session, 12, |session, n| {
            session.act("Bash", &format!(r#"{{"command":"grep x{n}"}}"#), "");
        });
        assert_eq!(changes, [(12, Phase::Finalize)]);
        assert_eq!(
            session.state.unwrap().view().phases[0].reason,
            "unproductive_exhaustion"
        );
    });
}

#[test]
fn editing_back_and_forth_is_a_repetition() {
    each(|mut session| {
        let changes = timeline(&mut session, 24, |session, n| match n % 6 {
            0 => session.act("Edit", r#"{"old":"a","new":"b"}"#, "updated"),
            3 => session.act("Edit", r#"{"old":"b","new":"a"}"#, "updated"),
            1 | 4 => session.act("Bash", r#"{"command":"make"}"#, ""),
            k => session.act("Bash", r#"{"command":"make test"}"#, &format!("FAILED {k}")),
        });
        assert!(
            changes.iter().any(|(_, rung)| *rung == Phase::Finalize),
            "{changes:?}"
        );
    });
}

#[test]
fn something_new_brings_the_ladder_down() {
    each(|mut session| {
        timeline(&mut session, 5, same_call);
        session.act("Read", r#"{"file_path":"x"}"#, "news");
        assert_eq!(session.rung(), Phase::Act);
        let view = session.state.as_ref().unwrap().view();
        assert_eq!(
            (view.tool_state_stagnation_streak, view.phases[0].reason),
            (0, "progress")
        );
    });
}

#[test]
fn the_hard_cap_stops_and_a_new_text_goes_on() {
    each(|mut session| {
        let mut finalized = 0;
        let mut stopped = None;
        for n in 0..200 {
            same_call(&mut session, n);
            match session.rung() {
                Phase::Finalize => finalized += 1,
                Phase::Stop => {
                    stopped = Some(n);
                    break;
                }
                _ => {}
            }
        }
        assert!(stopped.is_some());
        assert_eq!(finalized, 6);
        session.says("fix it");
        assert_eq!(session.rung(), Phase::Stop, "the same text again");
        session.says("fix something else");
        let plan = session.answer(Effects::default());
        assert_eq!(
            (plan.rung, plan.kinds.as_slice()),
            (Phase::Act, [].as_slice())
        );
        let view = session.state.clone().unwrap().view();
        assert_eq!(
            (
                view.finalize_hard_stop_count,
                view.finalize_since_human_text
            ),
            (6, 0)
        );
        let changes = timeline(&mut session, 2, same_call);
        assert_eq!(
            changes,
            [],
            "everything seen before is known, and counted anew"
        );
    });
}

#[test]
fn polling_is_legitimate() {
    let poll = |session: &mut Session, outcome: &str| {
        session.act("Bash", r#"{"command":"sleep 5; gh run view"}"#, outcome);
    };
    let mut session = Session::new();
    let changes = timeline(&mut session, 100, |session, n| {
        poll(session, &format!("{n}% done"))
    });
    assert_eq!(changes, []);
    // Unchanged it escalates, but later than another call would.
    let mut session = Session::new();
    let changes = timeline(&mut session, 40, |session, n| {
        poll(session, &format!("running for {n}s"))
    });
    assert_eq!(changes[0].1, Phase::Hint);
    assert!(changes[0].0 > 6, "{changes:?}");
    assert!(
        changes.iter().any(|(_, rung)| *rung == Phase::Finalize),
        "{changes:?}"
    );
    let mut session = Session::new();
    session.loops.polling_tools = vec!["Job*".parse().unwrap()];
    let changes = timeline(&mut session, 100, |session, _| {
        session.act("JobState", "{}", "running")
    });
    assert_eq!(changes, []);
}

#[test]
fn text_beside_every_result_is_the_agents_own() {
    each(|mut session| {
        let changes = timeline(&mut session, 12, |session, n| {
            same_call(session, n);
            let text = format!("{n} of 30 requests used, todo: item {n}");
            session.messages.push(Message::text(Role::User, text));
        });
        let end = changes.iter().find(|(_, rung)| *rung == Phase::Finalize);
        assert_eq!(end, Some(&(10, Phase::Finalize)), "{changes:?}");
    });
}

#[test]
fn earlier_thresholds_end_loops_too() {
    let mut session = Session::new();
    session.preset = Preset::UapLegacy;
    session.loops = Loops::default().as_earlier();
    let changes = timeline(&mut session, 20, same_call);
    assert_eq!(
        changes[0],
        (3, Phase::Narrow),
        "withheld as soon as it is seen"
    );
    let end = changes.iter().find(|(_, rung)| *rung == Phase::Finalize);
    assert!(end.is_some_and(|(turn, _)| *turn <= 10), "{changes:?}");
}

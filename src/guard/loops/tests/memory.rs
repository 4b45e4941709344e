//! What is remembered, and what the transcript tells.

use super::*;

#[test]
fn nothing_remembered_still_ends() {
    let mut session = Session {
        forgets: Forgets::Everything,
        ..Session::new()
    };
    let changes = timeline(&mut session, 9, same_call);
    assert!(changes.contains(&(9, Phase::Finalize)), "{changes:?}");
}

#[test]
fn a_retry_counts_once() {
    let mut session = Session::new();
    timeline(&mut session, 2, same_call);
    same_call(&mut session, 0);
    let first = session.rung();
    for _ in 0..5 {
        let (plan, pending) = session.plan(true);
        assert_eq!((plan.rung, first), (Phase::Hint, Phase::Hint));
        let settled = pending.settle(&Effects {
            finalized: true,
            ..Effects::default()
        });
        assert_eq!(Some(&settled.state), session.state.as_ref());
        assert!(settled.transitions.is_empty());
    }
}

#[test]
fn compaction_hides_nothing() {
    let mut session = Session::new();
    timeline(&mut session, 2, same_call);
    session.messages = vec![Message::text(
        Role::User,
        "This session is being continued from a previous conversation: 2 turns.",
    )];
    session.covered = None;
    session.rung();
    same_call(&mut session, 0);
    session.rung();
    let view = session.state.clone().unwrap().view();
    assert_eq!(view.tool_state_stagnation_streak, 2, "it is still known");
}

/// One of a few steps, so that repetitions, cycles and news mix.
fn step(session: &mut Session, kind: u8, n: usize) {
    match kind {
        0 => same_call(session, n),
        1 => session.act("Edit", r#"{"file_path":"a"}"#, "updated"),
        2 => session.act("Bash", &format!(r#"{{"command":"grep {n}"}}"#), ""),
        3 => session.act(
            "Bash",
            &format!(r#"{{"command":"step {n}"}}"#),
            &format!("did {n}"),
        ),
        4 => session.act("Read", r#"{"file_path":"a"}"#, "text"),
        _ => session.says(&format!("more {n}")),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Forgetting the hot part changes nothing as long as no summary was asked for.
    #[test]
    fn the_transcript_tells_what_was_forgotten(kinds in prop::collection::vec(0_u8..6, 1..40)) {
        let mut whole = Session::new();
        let mut cold = Session { forgets: Forgets::TheHotPart, ..Session::new() };
        whole.rung();
        cold.rung();
        for (n, kind) in kinds.into_iter().enumerate() {
            step(&mut whole, kind, n);
            step(&mut cold, kind, n);
            let (one, two) = (whole.rung(), cold.rung());
            prop_assert_eq!(one, two);
        }
    }

    /// However a session goes: something new said by a human always opens everything.
    #[test]
    fn a_human_always_gets_through(kinds in prop::collection::vec(0_u8..5, 0..80)) {
        let mut session = Session::new();
        session.rung();
        for (n, kind) in kinds.into_iter().enumerate() {
            step(&mut session, kind, n);
            session.rung();
        }
        session.says("something nobody said before");
        let plan = session.answer(Effects::default());
        prop_assert_eq!(plan.rung, Phase::Act);
        prop_assert!(plan.withheld.is_empty());
    }
}

/// 1 MB in 400 messages: once from nothing, then the next turn. The figures of docs/loops.md are printed
/// by `cargo test --profile quick --lib loops::tests::memory::cost -- --nocapture`; a debug build is
/// about 20 times slower.
#[test]
fn cost_is_linear_and_the_next_turn_is_cheap() {
    let transcript = |turns: usize| {
        let mut session = Session::new();
        for n in 0..turns {
            let line =
                format!("src/file{n}.rs:{n}: some words and 12 numbers at 10:11:12, took {n}ms\n");
            session.act(
                "Read",
                &format!(r#"{{"file_path":"f{n}"}}"#),
                &line.repeat(5_200 / line.len()),
            );
        }
        session
    };
    let took = |session: &mut Session| {
        let best = (0..9).map(|_| {
            let turn = session.turn();
            let remembered = Remembered {
                state: session.state.clone(),
                ledger: session.ledger.clone(),
                covered: session.covered,
                ..Remembered::default()
            };
            let setting = Setting {
                loops: &session.loops,
                budgets: &session.budgets,
                preset: session.preset,
            };
            let began = tokio::time::Instant::now();
            std::hint::black_box(plan(&turn, remembered, setting));
            began.elapsed()
        });
        best.min().unwrap()
    };
    let mut session = transcript(200);
    let cold = took(&mut session);
    session.rung();
    session.act("Bash", r#"{"command":"next"}"#, "news");
    let next = took(&mut session);
    println!("1 MB, 400 messages: {cold:?} from nothing, {next:?} for the next turn");
    // Ten times the 3 ms that are wanted, so that a busy machine is not taken for slow code.
    let limit = if cfg!(debug_assertions) { 2000 } else { 30 };
    assert!(cold < Duration::from_millis(limit), "{cold:?}");
    assert!(next < cold / 4, "{next:?}");
    let tenth = took(&mut transcript(20));
    assert!(
        cold < tenth.max(Duration::from_micros(100)) * 40,
        "linear, ten times and not a hundred: {tenth:?} for a tenth of it, {cold:?} for all"
    );
}

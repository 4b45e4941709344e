use proptest::prelude::*;

use super::*;

fn claim(session: &str, worktree: &str, call: &str, action: Action, target: &str) -> Claim {
    Claim {
        repository: "/r".into(),
        session: session.into(),
        worktree: worktree.into(),
        call: call.into(),
        wants: vec![Want {
            action,
            target: target.into(),
            digest: 1,
            window: Duration::from_secs(5),
        }],
    }
}

fn push(session: &str, call: &str) -> Claim {
    claim(session, "/r", call, Action::Push, "branch main")
}

#[test]
fn one_holder_at_a_time() {
    let mut table = Table::default();
    assert_eq!(table.claim(1000, &push("a", "1")), Answer::Granted);
    let held = table.claim(3000, &push("b", "2"));
    let expected = Answer::Held {
        by: push("a", "1").holder(),
        own: false,
        since: Duration::from_secs(2),
        retry_after: Duration::from_secs(3),
    };
    assert_eq!(held, expected);
    assert!(held.reason().contains("retry_after 3 s") && !held.reason().contains(" a "));
    // Another branch, and the same holder's next step, are free.
    let other = claim("b", "/r", "3", Action::Push, "branch topic");
    assert_eq!(table.claim(3000, &other), Answer::Granted);
    let merge = claim("a", "/r", "4", Action::Merge, "branch main");
    assert_eq!(table.claim(3000, &merge), Answer::Granted);
    // The window ends by itself.
    assert_eq!(table.claim(9000, &push("b", "2")), Answer::Granted);
}

/// Regression: a session that its own lease held up was told of another session.
#[test]
fn a_session_is_told_when_its_own_lease_is_in_its_way() {
    let mut table = Table::default();
    let from = |session: &str, tree: &str, call: &str| {
        claim(session, tree, call, Action::Merge, "branch main")
    };
    assert_eq!(table.claim(0, &from("a", "/r/w", "1")), Answer::Granted);
    let own = table.claim(10, &from("a", "/r", "2"));
    assert!(matches!(own, Answer::Held { own: true, .. }), "{own:?}");
    assert!(own.hint().contains("your own session") && !own.hint().contains("nother session"));
    assert!(own.reason().contains("(this session)"), "{}", own.reason());
    let others = table.claim(10, &from("b", "/r", "3"));
    assert!(
        others.hint().starts_with("Another session") && !others.reason().contains("this session")
    );
}

#[test]
fn a_result_frees_and_the_same_push_again_is_for_nothing() {
    let mut table = Table::default();
    assert_eq!(table.claim(0, &push("a", "1")), Answer::Granted);
    assert!(matches!(
        table.claim(10, &push("a", "2")),
        Answer::Coalesced { .. }
    ));
    assert!(table.free(20, "a", Freed::Done("1")));
    assert!(matches!(
        table.claim(30, &push("a", "2")),
        Answer::Coalesced { .. }
    ));
    // Somebody else has something else to push.
    let mut others = table.clone();
    assert_eq!(others.claim(30, &push("b", "9")), Answer::Granted);
    // So has the holder after a commit, or when the push had failed.
    let commit = claim("a", "/r", "3", Action::Commit, "head of /r");
    assert_eq!(table.claim(40, &commit), Answer::Granted);
    assert_eq!(table.claim(50, &push("a", "4")), Answer::Granted);
    assert!(table.free(60, "a", Freed::Dropped("4")));
    assert_eq!(table.claim(70, &push("a", "5")), Answer::Granted);
    assert!(!table.free(70, "b", Freed::Ended));
    assert!(table.free(70, "a", Freed::Ended));
    assert_eq!(table, Table::default());
}

#[test]
fn a_workflow_counts_for_everybody_who_wants_it() {
    let mut table = Table::default();
    let run = |session: &str| claim(session, "/r", session, Action::Workflow, "workflow ci.yml");
    assert_eq!(table.claim(0, &run("a")), Answer::Granted);
    assert!(matches!(
        table.claim(1, &run("b")),
        Answer::Coalesced { .. }
    ));
    table.free(2, "a", Freed::Done("a"));
    assert!(matches!(
        table.claim(3, &run("b")),
        Answer::Coalesced { .. }
    ));
    assert_eq!(table.claim(6000, &run("b")), Answer::Granted);
}

#[test]
fn what_may_be_anywhere_is_against_everything() {
    let mut table = Table::default();
    let all = claim("a", "/r", "1", Action::Push, EVERYTHING);
    assert_eq!(table.claim(0, &push("b", "2")), Answer::Granted);
    assert!(matches!(table.claim(1, &all), Answer::Held { .. }));
    table.free(2, "b", Freed::Ended);
    assert_eq!(table.claim(3, &all), Answer::Granted);
    assert!(matches!(
        table.claim(4, &push("b", "2")),
        Answer::Held { .. }
    ));
}

#[test]
fn a_repository_has_a_bounded_number() {
    let mut table = Table::default();
    let answers = (0..300).map(|n| {
        let call = claim(
            "a",
            "/r",
            &n.to_string(),
            Action::Deploy,
            &format!("env {n}"),
        );
        table.claim(0, &call)
    });
    let answers: Vec<_> = answers.collect();
    assert_eq!(
        answers.iter().filter(|a| **a == Answer::Full).count(),
        300 - MAX_LEASES
    );
}

proptest! {
    /// Whatever happens in whatever order: nobody is granted what another holder has, and a granted lease
    /// ends with its window at the latest.
    #[test]
    fn holders_never_overlap(steps in proptest::collection::vec((0u8..4, 0u8..3, 0u8..4, 0u8..5, 0u64..4000), 1..60)) {
        let mut table = Table::default();
        // Targets with who has them, and until when: the plainest model there is.
        let mut model: Vec<(String, String, String, u64)> = Vec::new();
        let mut now = 0;
        for (n, (who, target, kind, step, wait)) in steps.into_iter().enumerate() {
            now += wait;
            model.retain(|(.., until)| *until > now);
            let session = ["a", "b", "c", "d"][usize::from(who)];
            let call = n.to_string();
            if step == 4 {
                table.free(now, session, Freed::Ended);
                model.retain(|(holder, ..)| holder != session);
                continue;
            }
            if step == 3 {
                if let Some((_, _, call, _)) = model.iter().find(|(holder, ..)| holder == session).cloned() {
                    let freed = if kind % 2 == 0 { Freed::Done(&call) } else { Freed::Dropped(&call) };
                    table.free(now, session, freed);
                    model.retain(|(_, _, known, _)| *known != call);
                }
                continue;
            }
            let action = [Action::Commit, Action::Push, Action::Merge, Action::Deploy][usize::from(kind)];
            let target = ["x", "y", EVERYTHING][usize::from(target)];
            let taken = model.iter().any(|(holder, known, ..)| holder != session && overlap(known, target));
            match table.claim(now, &claim(session, "/r", &call, action, target)) {
                Answer::Granted => {
                    prop_assert!(!taken, "two at once");
                    model.push((session.into(), target.into(), call, now + 5000));
                }
                Answer::Held { retry_after, .. } => {
                    prop_assert!(taken, "held by nobody");
                    prop_assert!(retry_after <= Duration::from_secs(5));
                }
                Answer::Coalesced { .. } => prop_assert_eq!(action, Action::Push),
                Answer::Full => prop_assert!(false),
            }
        }
    }
}

//! The ways a rollout can go.

use proptest::prelude::*;
use serde_json::json;

use super::super::judge::Trigger;
use super::super::phase::{Capacity, Command, Fairness, Look};
use super::*;
use crate::config::RequestClass;
use crate::config::RollbackSignature;
use crate::spec::observe::tests::{answer, place};
use crate::spec::{Drafts, StopKind, Stratum};

const MINUTE: u64 = 60_000;

fn plan(more: serde_json::Value) -> Rollout {
    let mut plan = json!({
        "name": "r", "pool": "p", "baseline": "none", "candidate": "ngram-mod", "control": "c",
        "steps": ["25%", "50%"], "hardware_equal": true,
        "step": {"min_sessions": 4, "min_turns": 20, "min_time": "1m", "max_time": "1h"},
    });
    for (key, value) in more.as_object().unwrap() {
        plan[key] = value.clone();
    }
    serde_json::from_value(plan).unwrap()
}

/// A rollout, somebody's clock, and turns.
struct Trial {
    plan: Rollout,
    state: State,
    look: Look,
    turns: u32,
}

impl Trial {
    fn new(more: serde_json::Value) -> Self {
        let plan = plan(more);
        let mut trial = Self {
            state: State::new(&plan),
            plan,
            look: Look::fair(
                Capacity {
                    candidate: 4,
                    all: 8,
                },
                "one server",
            ),
            turns: 0,
        };
        trial.order(Command::Start);
        trial.look();
        trial
    }

    fn order(&mut self, command: Command) -> Vec<Event> {
        self.state
            .order(&self.plan, command, self.look.now_ms)
            .unwrap()
    }

    fn look(&mut self) -> Vec<Event> {
        self.state.look(&self.plan, &self.look)
    }

    fn later(&mut self, minutes: u64) -> Vec<Event> {
        self.look.now_ms += minutes * MINUTE;
        self.look()
    }

    /// So many turns on both sides, at these speeds.
    fn turns(&mut self, count: u32, candidate: f64, control: f64) {
        self.shaped(count, candidate, control, |_| {});
    }

    fn shaped(
        &mut self,
        count: u32,
        candidate: f64,
        control: f64,
        shape: impl Fn(&mut crate::spec::Observation),
    ) {
        let routing = self.state.routing(&self.plan);
        for _ in 0..count {
            self.turns += 1;
            let wobble = 1.0 + f64::from(self.turns * 7 % 11) * 0.01;
            let session = format!("s{}", self.turns % 8);
            let stratum = Stratum::new(RequestClass::Edit, 1);
            let mut seen = answer(
                &place("b", "ngram-mod", "b1"),
                stratum,
                100,
                candidate * wobble,
            );
            shape(&mut seen);
            self.state.push(&routing, Arm::Candidate, &session, &seen);
            let seen = answer(&place("c", "none", "b1"), stratum, 100, control * wobble);
            self.state.push(&routing, Arm::Control, &session, &seen);
        }
    }

    fn verdicts(&self) -> Vec<Verdict> {
        self.state.verdicts().map(|judged| judged.verdict).collect()
    }
}

#[test]
fn what_is_better_is_promoted_step_by_step() {
    let mut trial = Trial::new(json!({}));
    assert_eq!(trial.state.phase(), Phase::Running);
    assert_eq!(
        trial.state.shares(),
        Shares {
            candidate: 0.25,
            control: 0.25
        }
    );
    trial.turns(60, 40.0, 20.0);
    assert_eq!(trial.look(), [], "the time is not over");
    let events = trial.later(2);
    assert!(
        matches!(&events[..], [Event { what: What::Verdict(judged), .. }]
        if judged.verdict == Verdict::Successful && judged.reason.contains("edit")),
        "{events:?}"
    );
    trial.look();
    assert_eq!(
        (trial.state.step(), trial.state.shares().candidate),
        (1, 0.5)
    );
    assert_eq!(
        trial.state.sides().0.turns(),
        0,
        "a step begins with nothing"
    );
    trial.turns(60, 40.0, 20.0);
    trial.later(2);
    assert_eq!(trial.state.phase(), Phase::Promoted);
    assert_eq!(trial.state.routing(&trial.plan).mode, Mode::Promoted);
    assert_eq!(trial.verdicts(), [Verdict::Successful; 2]);
}

#[test]
fn what_is_worse_is_rolled_back_at_once_with_its_numbers() {
    let mut trial = Trial::new(json!({}));
    trial.turns(60, 15.0, 20.0);
    let events = trial.look();
    let [
        Event {
            what: What::Verdict(judged),
            ..
        },
        Event {
            what: What::RolledBack { reason },
            ..
        },
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!(judged.verdict, Verdict::Failed);
    assert_eq!(judged.harms[0].trigger, Trigger::DecodeTps);
    assert!(
        reason.contains("edit, 1 busy") && reason.contains('%'),
        "{reason}"
    );
    assert_eq!(trial.state.routing(&trial.plan).mode, Mode::Baseline);
    assert_eq!(trial.later(600), [], "that is the end");
}

#[test]
fn errors_roll_back_whatever_the_speed() {
    for trigger in [Trigger::ErrorRate, Trigger::ErrorBound] {
        let never = match trigger {
            Trigger::ErrorBound => json!({"error_rate": null}),
            _ => json!({}),
        };
        let mut trial = Trial::new(json!({"never_worse": never}));
        trial.shaped(40, 40.0, 20.0, |seen| seen.stop = StopKind::Failed);
        trial.look();
        assert_eq!(trial.state.phase(), Phase::RolledBack);
        let judged = trial.state.verdicts().next().unwrap();
        assert!(
            judged.harms.iter().any(|harm| harm.trigger == trigger),
            "{judged:?}"
        );
    }
}

/// Every turn of both sides fails: the bound is above what the control has.
#[test]
fn an_absolute_bound_is_above_the_control() {
    let mut trial = Trial::new(json!({}));
    let routing = trial.state.routing(&trial.plan);
    for n in 0..200 {
        for arm in [Arm::Candidate, Arm::Control] {
            let mut seen = answer(
                &place("x", "x", "x"),
                Stratum::new(RequestClass::Edit, 1),
                100,
                20.0,
            );
            if n % 3 == 0 {
                seen.stop = StopKind::Failed;
            }
            trial.state.push(&routing, arm, &n.to_string(), &seen);
        }
        assert_eq!(trial.look(), []);
    }
}

#[test]
fn drafts_that_are_accepted_no_longer_roll_back() {
    let mut trial = Trial::new(json!({"never_worse": {"decode_tps": null, "ttft": null}}));
    let steps = |steps: u64| {
        move |seen: &mut crate::spec::Observation| {
            seen.drafts = Drafts {
                drafted: 100,
                accepted: 60,
                steps,
            };
        }
    };
    trial.shaped(40, 40.0, 20.0, steps(20));
    assert_eq!(trial.look(), []);
    trial.shaped(48, 40.0, 20.0, steps(60));
    trial.look();
    let judged = trial.state.verdicts().last().unwrap();
    let expected = Trigger::Signature(RollbackSignature::AcceptanceCollapse);
    assert_eq!(judged.harms[0].trigger, expected, "{judged:?}");
}

#[test]
fn no_traffic_never_promotes() {
    for (on, phase) in [("hold", Phase::Held), ("rollback", Phase::RolledBack)] {
        let mut trial = Trial::new(json!({"on_inconclusive": on}));
        trial.later(59);
        assert_eq!(trial.state.phase(), Phase::Running);
        trial.later(2);
        assert_eq!(
            (trial.state.phase(), &trial.verdicts()[..]),
            (phase, &[Verdict::Inconclusive][..])
        );
        assert!(trial.state.reason().unwrap().contains("0 of 20 turns"));
        assert_eq!(trial.later(6000), []);
    }
}

#[test]
fn a_held_step_still_rolls_back_and_can_be_resumed() {
    let mut trial = Trial::new(json!({}));
    trial.turns(30, 20.0, 20.0);
    trial.later(70);
    assert_eq!(trial.state.phase(), Phase::Held);
    trial.order(Command::Resume);
    trial.look();
    assert_eq!(trial.state.phase(), Phase::Running);
    assert_eq!(
        trial.state.sides().0.turns(),
        30,
        "what is known stays known"
    );
    trial.later(70);
    assert_eq!(trial.state.phase(), Phase::Held);
    trial.turns(200, 10.0, 20.0);
    trial.look();
    assert_eq!(trial.state.phase(), Phase::RolledBack);
}

#[test]
fn a_difference_that_may_be_the_hardwares_is_inconclusive() {
    let mut trial = Trial::new(json!({}));
    trial.look.fairness = Fairness::Unequal("they are different servers".into());
    trial.turns(60, 40.0, 20.0);
    trial.later(2);
    assert_eq!(trial.state.phase(), Phase::Held);
    let reason = trial.state.reason().unwrap();
    assert!(
        reason.contains("better in edit") && reason.contains("different servers"),
        "{reason}"
    );
    trial.order(Command::Promote);
    trial.look();
    assert_eq!(
        (trial.state.phase(), trial.state.step()),
        (Phase::Running, 1)
    );
}

#[test]
fn a_step_waits_until_there_are_enough_slots() {
    let mut trial = Trial::new(json!({"steps": ["25%", "100%"]}));
    trial.turns(60, 40.0, 20.0);
    trial.later(2);
    let events = trial.look();
    let [
        Event {
            what: What::Waiting { missing },
            ..
        },
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert!(missing.contains("4 more of the pool's 8"), "{missing}");
    assert_eq!(trial.state.shares().candidate, 0.25, "the last step's");
    assert_eq!(trial.later(600), [], "told once");
    trial.look.capacity.candidate = 8;
    trial.look();
    assert_eq!(
        trial.state.shares(),
        Shares {
            candidate: 1.0,
            control: 0.0
        }
    );
    // Nothing is left to compare with but the control of the step before.
    trial.turns(30, 40.0, 20.0);
    trial.later(2);
    assert_eq!(trial.state.phase(), Phase::Promoted);
}

#[test]
fn the_last_step_is_compared_with_the_control_of_the_one_before() {
    let mut trial = Trial::new(json!({"steps": ["50%", "100%"]}));
    trial.turns(60, 40.0, 20.0);
    trial.later(2);
    trial.look.capacity.candidate = 8;
    trial.look();
    assert_eq!(trial.state.step(), 1);
    trial.turns(40, 10.0, 20.0);
    trial.look();
    assert_eq!(trial.state.phase(), Phase::RolledBack);
}

#[test]
fn a_pause_stops_the_clock_and_not_the_guard() {
    let mut trial = Trial::new(json!({}));
    trial.turns(60, 40.0, 20.0);
    trial.order(Command::Pause);
    assert_eq!(trial.later(600), []);
    trial.order(Command::Resume);
    trial.look();
    assert_eq!(trial.later(0), [], "a minute is asked for");
    assert!(!trial.later(1).is_empty());
    trial.look();
    trial.order(Command::Pause);
    trial.turns(100, 10.0, 20.0);
    trial.look();
    assert_eq!(trial.state.phase(), Phase::RolledBack);
}

#[test]
fn signs_roll_back_where_they_are_listed() {
    for (listed, phase) in [
        (json!(["slot_wedged"]), Phase::RolledBack),
        (json!([]), Phase::Running),
    ] {
        let mut trial = Trial::new(json!({"rollback_when": {"signatures": listed}}));
        trial
            .look
            .signs
            .push((RollbackSignature::SlotWedged, "b is wedged".into()));
        trial.look();
        assert_eq!(trial.state.phase(), phase);
    }
}

#[test]
fn trouble_is_an_error_and_rolls_back() {
    let mut trial = Trial::new(json!({}));
    trial.look.trouble = Some("the control is gone".into());
    trial.look();
    assert_eq!(
        (trial.state.phase(), trial.verdicts()),
        (Phase::RolledBack, vec![Verdict::Error])
    );
}

#[test]
fn orders_that_make_no_sense_are_refused_by_name() {
    let plan = plan(json!({}));
    let mut state = State::new(&plan);
    for command in [
        Command::Pause,
        Command::Resume,
        Command::Promote,
        Command::Abort,
    ] {
        let error = state.order(&plan, command, 1).unwrap_err().to_string();
        assert!(error.contains("pending"), "{error}");
    }
    state.order(&plan, Command::Start, 1).unwrap();
    assert!(state.order(&plan, Command::Start, 1).is_err());
    state.order(&plan, Command::Abort, 2).unwrap();
    assert_eq!(state.routing(&plan).mode, Mode::Baseline);
    state.order(&plan, Command::Start, 3).unwrap();
    assert_eq!(state.run(), 2);
}

#[test]
fn turns_of_another_step_or_run_are_of_no_use() {
    let mut trial = Trial::new(json!({}));
    let old = trial.state.routing(&trial.plan);
    trial.order(Command::Promote);
    trial.look();
    let seen = answer(
        &place("b", "x", "x"),
        Stratum::new(RequestClass::Edit, 1),
        100,
        20.0,
    );
    trial.state.push(&old, Arm::Candidate, "s", &seen);
    assert_eq!(trial.state.sides().0.turns(), 0);
}

#[test]
fn another_configuration_begins_anew() {
    let mut trial = Trial::new(json!({}));
    assert_eq!(trial.state.reconcile(&trial.plan, 5), []);
    let told = plan(json!({"webhooks": [{"url": "http://x/"}]}));
    assert_eq!(
        trial.state.reconcile(&told, 5),
        [],
        "nothing that was found out changes"
    );
    let other = plan(json!({"candidate": "ngram-cache"}));
    let events = trial.state.reconcile(&other, 5);
    assert_eq!(events[0].what, What::Reset);
    assert_eq!(
        (trial.state.phase(), trial.state.run()),
        (Phase::Pending, 1)
    );
}

proptest! {
    /// Whatever happens: what is written down goes on as if nothing had been, shares are shares, a rollback is an end until
    /// somebody starts anew, and nobody is promoted without turns but by hand.
    #[test]
    fn nothing_is_lost_and_nothing_is_promoted_by_chance(
        deeds in prop::collection::vec((0u8..10, 0u32..60, 0u64..90), 1..30),
    ) {
        let mut trial = Trial::new(json!({"steps": ["25%", "50%", "100%"]}));
        let (mut by_hand, mut any) = (false, false);
        for (deed, count, minutes) in deeds {
            let before = trial.state.phase();
            let commands = [Command::Start, Command::Pause, Command::Resume, Command::Promote, Command::Abort];
            let events = match deed {
                0..=4 => {
                    let command = commands[usize::from(deed)];
                    by_hand |= command == Command::Promote;
                    trial.state.order(&trial.plan, command, trial.look.now_ms).unwrap_or_default()
                }
                5 => { trial.turns(count, 20.0, 20.0); any |= count > 0; Vec::new() }
                6 => { trial.turns(count, 40.0, 20.0); any |= count > 0; Vec::new() }
                7 => { trial.look.capacity.candidate = count % 9; Vec::new() }
                _ => trial.later(minutes),
            };
            let text = serde_json::to_vec(&trial.state).unwrap();
            let again: State = serde_json::from_slice(&text).unwrap();
            prop_assert_eq!(again.phase(), trial.state.phase());
            prop_assert_eq!(again.routing(&trial.plan), trial.state.routing(&trial.plan));
            prop_assert_eq!(again.sides().0.turns(), trial.state.sides().0.turns());
            trial.state = again;
            let shares = trial.state.shares();
            prop_assert!(shares.candidate + shares.control <= 1.0);
            if before == Phase::RolledBack && deed != 0 {
                prop_assert_eq!(trial.state.phase(), Phase::RolledBack);
            }
            let promoted = events.iter().any(|event| event.what == What::Promoted);
            prop_assert!(!promoted || by_hand || any);
        }
    }
}

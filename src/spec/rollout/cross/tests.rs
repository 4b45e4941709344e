//! Two servers of different speed that exchange their profiles.

use serde_json::json;

use super::*;
use crate::config::RequestClass;
use crate::spec::observe::tests::{answer, place};
use crate::spec::rollout::{Arm, Capacity, Command, Site, Verdict};
use crate::spec::{Runs, Stratum};

const MINUTE: u64 = 60_000;

/// Server `b` has the candidate at first, and `c` is the control.
struct Trial {
    plan: Rollout,
    state: State,
    look: Look,
    turns: u32,
}

impl Trial {
    fn new(more: &serde_json::Value) -> Self {
        let mut plan = json!({
            "name": "r", "pool": "p", "baseline": "none", "candidate": "ngram-mod", "control": "c",
            "steps": ["25%", "50%"], "crossover": true,
            "step": {"min_sessions": 4, "min_turns": 40, "min_time": "2m", "max_time": "1h"},
        });
        for (key, value) in more.as_object().unwrap() {
            plan[key] = value.clone();
        }
        let plan: Rollout = serde_json::from_value(plan).unwrap();
        let mut trial = Self {
            state: State::new(&plan),
            plan,
            look: Look::fair(
                Capacity {
                    candidate: 4,
                    all: 8,
                },
                "crossover",
            ),
            turns: 0,
        };
        trial.order(Command::Start);
        trial.look();
        trial
    }

    fn order(&mut self, command: Command) {
        let now = self.look.now_ms;
        self.state.order(&self.plan, command, now).unwrap();
    }

    fn look(&mut self) -> Vec<Event> {
        self.state.look(&self.plan, &self.look)
    }

    fn later(&mut self, minutes: u64) -> Vec<Event> {
        self.look.now_ms += minutes * MINUTE;
        self.look()
    }

    /// So many turns on both sides; the profile makes it so many times faster, and server `b` is twice as fast as `c`.
    fn turns(&mut self, count: u32, effect: f64) {
        let routing = self.state.routing(&self.plan);
        for _ in 0..count {
            self.turns += 1;
            let wobble = 1.0 + f64::from(self.turns * 7 % 11) * 0.01;
            let session = format!("s{}", self.turns % 8);
            let (fast, slow) = (40.0 * wobble, 20.0 * wobble);
            let (candidate, control) = match *routing.control == *"c" {
                true => (fast, slow),
                false => (slow, fast),
            };
            let stratum = Stratum::new(RequestClass::Edit, 1);
            let seen = |tps| answer(&place("x", "x", "b1"), stratum, 100, tps);
            self.state.push(
                &routing,
                Arm::Candidate,
                &session,
                &seen(candidate * effect),
            );
            self.state
                .push(&routing, Arm::Control, &session, &seen(control));
        }
    }

    /// Whoever is to have another profile has it.
    fn exchange(&mut self) -> Vec<Event> {
        let look = &mut self.look;
        std::mem::swap(&mut look.candidates, &mut look.baselines);
        self.look()
    }

    fn verdicts(&self) -> Vec<Verdict> {
        self.state.verdicts().map(|judged| judged.verdict).collect()
    }
}

#[test]
fn what_is_no_better_is_not_promoted_for_the_faster_server_nor_rolled_back_for_the_slower_one() {
    let mut trial = Trial::new(&json!({}));
    trial.turns(20, 1.0);
    let events = trial.later(1);
    assert_eq!(trial.state.phase(), Phase::WaitingCrossover, "{events:?}");
    let reason = trial.state.reason().unwrap().to_owned();
    assert!(
        reason.contains("b has to run profile none") && reason.contains("set_profile"),
        "{reason}"
    );
    trial.turns(20, 0.2);
    assert_eq!(
        trial.state.turns(),
        (20, 20),
        "what comes meanwhile is no part of it"
    );
    assert_eq!(trial.later(5), [], "it waits, and says so once");
    trial.exchange();
    assert_eq!(trial.state.phase(), Phase::Running);
    assert_eq!(trial.state.control(&trial.plan), "b");
    trial.turns(40, 1.0);
    trial.later(1);
    assert_eq!(trial.verdicts(), [], "the faster server has had both");
    let routing = trial.state.routing(&trial.plan);
    let site = |backend, runs| Site {
        backend,
        runs,
        build: None,
    };
    let (plain, fast) = (Runs::Plain, Runs::named("ngram-mod"));
    assert!(routing.counts(Arm::Control, site("b", &plain)));
    assert!(routing.counts(Arm::Candidate, site("c", &fast)));
    assert!(!routing.counts(Arm::Control, site("c", &plain)));
    assert!(
        !routing.counts(Arm::Candidate, site("d", &fast)),
        "no part of the pair"
    );
}

#[test]
fn a_gain_is_promoted_and_the_next_step_crosses_back() {
    let mut trial = Trial::new(&json!({}));
    for step in 0..2 {
        assert_eq!(trial.state.step(), step);
        trial.turns(30, 1.3);
        trial.later(1);
        assert_eq!(trial.state.phase(), Phase::WaitingCrossover);
        trial.exchange();
        trial.turns(30, 1.3);
        trial.later(1);
        assert_eq!(trial.verdicts().len(), step + 1);
        trial.look();
    }
    assert_eq!(trial.verdicts(), [Verdict::Successful; 2]);
    assert_eq!(trial.state.phase(), Phase::Promoted);
    assert_eq!(trial.state.control(&trial.plan), "c", "exchanged twice");
    let judged = trial.state.verdicts().next().unwrap();
    assert_eq!(
        (judged.turns, judged.sessions),
        ((60, 60), (8, 8)),
        "of both halves"
    );
}

#[test]
fn a_loss_is_found_after_the_exchange_and_failures_before_it() {
    let mut trial = Trial::new(&json!({}));
    trial.turns(20, 0.6);
    assert_eq!(trial.look(), [], "may be the server's");
    trial.later(1);
    trial.exchange();
    trial.turns(30, 0.6);
    trial.look();
    assert_eq!(trial.state.phase(), Phase::RolledBack);
    let reason = trial.state.reason().unwrap();
    assert!(reason.contains("servers exchanged"), "{reason}");

    let mut trial = Trial::new(&json!({}));
    let routing = trial.state.routing(&trial.plan);
    for n in 0..200 {
        let mut seen = answer(
            &place("b", "x", "b1"),
            Stratum::new(RequestClass::Edit, 1),
            100,
            20.0,
        );
        trial.state.push(&routing, Arm::Control, "s", &seen);
        if n % 2 == 0 {
            seen.stop = crate::spec::StopKind::Failed;
        }
        trial.state.push(&routing, Arm::Candidate, "s", &seen);
    }
    trial.look();
    assert_eq!(
        trial.state.phase(),
        Phase::RolledBack,
        "failures are not the server's speed"
    );
}

#[test]
fn a_pause_does_not_lose_the_exchange_and_what_is_missing_is_told_in_turn() {
    let hook = json!({"hooks": {"set_profile": ["restart"]}});
    let mut trial = Trial::new(&hook);
    trial.turns(20, 1.0);
    trial.later(1);
    assert_eq!(
        trial.state.to_set(&trial.plan, &trial.look),
        Some(("b", "none"))
    );
    trial.order(Command::Pause);
    trial.look();
    trial.order(Command::Resume);
    assert_eq!(trial.state.phase(), Phase::WaitingCrossover);
    (trial.look.candidates, trial.look.baselines) =
        (Vec::new(), vec!["b".to_owned(), "c".to_owned()]);
    let events = trial.look();
    assert!(
        matches!(&events[..], [Event { what: What::Crossing { missing }, .. }] if missing.contains("c has to run profile ngram-mod")),
        "{events:?}"
    );
    assert_eq!(
        trial.state.to_set(&trial.plan, &trial.look),
        Some(("c", "ngram-mod"))
    );
    // What was written down goes on there.
    let text = serde_json::to_string(&trial.state).unwrap();
    trial.state = serde_json::from_str(&text).unwrap();
    (trial.look.candidates, trial.look.baselines) = (vec!["c".to_owned()], vec!["b".to_owned()]);
    trial.look();
    assert_eq!(trial.state.phase(), Phase::Running);
    // Begun anew, it knows who is who.
    trial.order(Command::Abort);
    trial.order(Command::Start);
    trial.look();
    assert_eq!(trial.state.control(&trial.plan), "b");
}

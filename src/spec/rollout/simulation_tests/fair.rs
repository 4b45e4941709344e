//! Servers of unequal speed: a crossover, and what is recorded of both, keep α as equal servers do.

use serde_json::json;
use statrs::distribution::{ContinuousCDF as _, StudentsT};

use super::super::{Arm, Capacity, Command, Hardware, Look, Phase, Ratios, State, recorded_share};
use super::{EQUAL, World, normal, turn};
use crate::config::{RequestClass, Rollout};
use crate::sim::rng::Rng;
use crate::spec::sequential::{Interval, Sample};

/// The candidate's server is so many times as fast as the control's.
const SERVER: f64 = 1.4;

fn plan(crossover: bool) -> Rollout {
    let plan = json!({
        "name": "r", "pool": "p", "baseline": "none", "candidate": "ngram-mod", "control": "c",
        "steps": ["25%", "50%"], "crossover": crossover,
        "step": {"min_sessions": 20, "min_turns": 200, "min_time": "1m", "max_time": "1h"},
        // How soon an answer begins is the sum of more than one speed.
        "never_worse": {"ttft": null},
    });
    serde_json::from_value(plan).unwrap()
}

/// What a benchmark of both servers tells: 24 prompts of each class, the same on both, whose ratio varies by 3 %.
fn recorded(plan: &Rollout, rng: &mut Rng) -> Hardware {
    let alpha = plan.alpha * recorded_share(plan) / (RequestClass::ALL.len() * 3 * 2) as f64;
    let mut of = || {
        let mut ratios = Sample::default();
        (0..24).for_each(|_| ratios.push(SERVER.ln() + 0.03 * normal(rng)));
        let t = StudentsT::new(0.0, 1.0, 23.0)
            .unwrap()
            .inverse_cdf(1.0 - alpha / 2.0);
        let half = t * (ratios.variance() / 24.0).sqrt();
        let decode = Interval {
            low: ratios.mean() - half,
            high: ratios.mean() + half,
        };
        Ratios {
            decode,
            prefill: Interval::ANY,
            ttft: Interval::ANY,
        }
    };
    let classes = [RequestClass::Prose, RequestClass::Edit];
    Hardware(classes.into_iter().map(|class| (class, of())).collect())
}

/// Where a rollout on unequal servers is after so many turns of each side, or as soon as a step is successful, and
/// after how many that is.
fn run(plan: &Rollout, world: &World, known: bool, seed: u64, most: u32) -> (Phase, u32) {
    let mut rng = Rng::seeded(&[seed, 31]);
    let mut state = State::new(plan);
    let hardware = if known {
        recorded(plan, &mut rng)
    } else {
        Hardware::default()
    };
    let mut look = Look {
        hardware,
        ..Look::fair(
            Capacity {
                candidate: 8,
                all: 8,
            },
            "simulated",
        )
    };
    state.order(plan, Command::Start, look.now_ms).unwrap();
    state.look(plan, &look);
    for turns in 0..most {
        let crossed = look.candidates[0] == "c";
        for arm in [Arm::Candidate, Arm::Control] {
            let on_fast = (arm == Arm::Candidate) != crossed;
            let server = if on_fast { SERVER } else { 1.0 };
            let speed = if arm == Arm::Candidate {
                world.speed
            } else {
                1.0
            };
            let seen = turn(&mut rng, world, 0.5, server * speed);
            let routing = state.routing(plan);
            let session = format!("s{}", rng.below(400));
            state.push(&routing, arm, &session, &seen);
            look.now_ms += 500;
            state.look(plan, &look);
        }
        if state.phase() == Phase::WaitingCrossover {
            std::mem::swap(&mut look.candidates, &mut look.baselines);
            state.look(plan, &look);
        }
        if state.step() > 0 {
            return (Phase::Promoted, turns + 1);
        }
        if !state.phase().is_active() {
            return (state.phase(), turns + 1);
        }
    }
    (state.phase(), most)
}

/// Parts of the rollouts of an equal that are rolled back, and that get as far as the next step.
fn misled(crossover: bool, known: bool, runs: u64, most: u32) -> (f64, f64) {
    let plan = plan(crossover);
    let ends: Vec<Phase> = (0..runs)
        .map(|seed| run(&plan, &EQUAL, known, seed, most).0)
        .collect();
    let part = |phase| ends.iter().filter(|end| **end == phase).count() as f64 / runs as f64;
    (part(Phase::RolledBack), part(Phase::Promoted))
}

fn delays(crossover: bool, speed: f64, runs: u64) -> (u32, u32) {
    let plan = plan(crossover);
    let world = World { speed, ..EQUAL };
    let mut found: Vec<u32> = (0..runs)
        .map(|seed| run(&plan, &world, !crossover, seed, 4000).1)
        .collect();
    found.sort_unstable();
    let at = |part: f64| found[(part * (found.len() - 1) as f64) as usize];
    (at(0.5), at(0.9))
}

/// For the page.
pub(super) fn table() -> String {
    let mut table = String::from(
        "\n| one server is 1.4 times as fast, 400 turns of each side | crossover | recorded |\n|---|---|---|\n",
    );
    let (crossed, known) = (
        misled(true, false, 1000, 400),
        misled(false, true, 1000, 400),
    );
    for (name, crossed, known) in [
        ("an equal is rolled back, of 1000", crossed.0, known.0),
        ("an equal gets to the next step", crossed.1, known.1),
    ] {
        table += &format!(
            "| {name} | {:.2} % | {:.2} % |\n",
            crossed * 100.0,
            known * 100.0
        );
    }
    for (name, speed) in [("−20 %", 0.8), ("−50 %", 0.5)] {
        let (crossed, known) = (delays(true, speed, 200), delays(false, speed, 200));
        table += &format!(
            "| {name}: rolled back after turns of each side (median, nine in ten) | {}, {} | {}, {} |\n",
            crossed.0, crossed.1, known.0, known.1
        );
    }
    table
}

/// The same with thousands is `make test-statistics`.
#[test]
fn an_equal_on_a_slower_server_is_seldom_rolled_back_and_on_a_faster_one_seldom_promoted() {
    for (crossover, known) in [(true, false), (false, true)] {
        let (back, promoted) = misled(crossover, known, 40, 250);
        assert!(
            back <= 0.05 && promoted <= 0.05,
            "{crossover}: {back} {promoted}"
        );
    }
}

/// The simulation can fail: with nothing taken away the faster server is promoted.
#[test]
fn what_is_not_taken_away_misleads() {
    let (_, promoted) = misled(false, false, 10, 400);
    assert!(promoted > 0.5, "{promoted}");
}

#[test]
fn a_loss_is_found_though_the_servers_differ() {
    for crossover in [true, false] {
        let plan = plan(crossover);
        let world = World {
            speed: 0.5,
            ..EQUAL
        };
        let found = (0..20)
            .filter(|seed| run(&plan, &world, !crossover, *seed, 400).0 == Phase::RolledBack);
        assert!(found.count() >= 18, "{crossover}");
    }
}

#[test]
#[ignore = "long; make test-statistics runs it"]
fn thousands_of_rollouts_on_unequal_servers_mislead_at_most_one_time_in_twenty() {
    for (crossover, known) in [(true, false), (false, true)] {
        let (back, promoted) = misled(crossover, known, 2000, 400);
        assert!(
            back <= 0.05 && promoted <= 0.05,
            "{crossover}: {back} {promoted}"
        );
    }
}

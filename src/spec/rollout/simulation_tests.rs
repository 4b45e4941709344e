//! Rollouts by the thousand, with a look after every turn.
//!
//! `make test-statistics` runs the long ones; `make statistics` writes the table of `docs/speculative.md`.

use std::f64::consts::TAU;

use serde_json::json;

use super::{Arm, Capacity, Command, Look, Phase, State, What};
use crate::config::{RequestClass, Rollout};
use crate::sim::rng::Rng;
use crate::spec::observe::tests::{answer, place};
use crate::spec::simulation_tests::page_has;
use crate::spec::{Drafts, Observation, StopKind, Stratum};

mod fair;

/// Spread of ln(tokens/s) among turns of one stratum: about 20 %.
const SPREAD: f64 = 0.2;

/// What turns are like.
#[derive(Clone, Copy)]
struct World {
    /// The candidate's tokens/s are so many times the control's.
    speed: f64,
    /// From this turn of the rollout on; equal before.
    from: u32,
    /// Chance that a turn is prose and not an edit, on the candidate and on the control.
    prose: (f64, f64),
    /// The same in the later half of the turns.
    later: (f64, f64),
    /// Chance that a turn fails, on both.
    errors: f64,
}

/// Nothing differs.
const EQUAL: World = World {
    speed: 1.0,
    from: 0,
    prose: (0.5, 0.5),
    later: (0.5, 0.5),
    errors: 0.01,
};

fn plan(steps: &[&str]) -> Rollout {
    let plan = json!({
        "name": "r", "pool": "p", "baseline": "none", "candidate": "ngram-mod", "control": "c",
        "steps": steps, "hardware_equal": true,
        "step": {"min_sessions": 20, "min_turns": 200, "min_time": "1m", "max_time": "1h"},
    });
    serde_json::from_value(plan).unwrap()
}

fn normal(rng: &mut Rng) -> f64 {
    (-2.0 * (1.0 - rng.unit()).ln()).sqrt() * (TAU * rng.unit()).cos()
}

fn turn(rng: &mut Rng, world: &World, prose: f64, speed: f64) -> Observation {
    let (class, level) = match rng.chance(prose) {
        true => (RequestClass::Prose, 20.0),
        false => (RequestClass::Edit, 60.0),
    };
    let stratum = Stratum::new(class, if rng.chance(0.3) { 2 } else { 1 });
    let tps = level * speed * (SPREAD * normal(rng)).exp();
    let mut seen = answer(&place("b", "x", "b1"), stratum, 100, tps);
    // Reads a prompt in half a second or so.
    let ttft = 0.5 * (0.4 * normal(rng)).exp();
    seen.ttft = std::time::Duration::try_from_secs_f64(ttft).ok();
    let steps = 20 + (10.0 * rng.unit()) as u64;
    seen.drafts = Drafts {
        drafted: 100,
        accepted: 60,
        steps,
    };
    if rng.chance(world.errors) {
        seen.stop = StopKind::Failed;
    }
    seen.malformed = rng.chance(0.01);
    seen.looping = rng.chance(0.01);
    seen
}

/// How a rollout ended, and after how many turns of each side.
struct End {
    phase: Phase,
    step: usize,
    turns: u32,
    why: String,
}

/// At most so many turns of each side, all in the first step unless it is successful.
fn run(plan: &Rollout, world: &World, seed: u64, most: u32) -> End {
    let mut rng = Rng::seeded(&[seed, 23]);
    let mut state = State::new(plan);
    let mut look = Look::fair(
        Capacity {
            candidate: 8,
            all: 8,
        },
        "simulated",
    );
    state.order(plan, Command::Start, look.now_ms).unwrap();
    state.look(plan, &look);
    let mut why = String::new();
    let mut turns = 0;
    while turns < most && state.phase().is_active() {
        let prose = if turns < most / 2 {
            world.prose
        } else {
            world.later
        };
        let speed = if turns < world.from { 1.0 } else { world.speed };
        for (arm, prose, speed) in [
            (Arm::Candidate, prose.0, speed),
            (Arm::Control, prose.1, 1.0),
        ] {
            let seen = turn(&mut rng, world, prose, speed);
            let routing = state.routing(plan);
            let session = format!("s{}", rng.below(400));
            state.push(&routing, arm, &session, &seen);
            // Long enough for a step in 200 turns, and never too long.
            look.now_ms += 500;
            for event in state.look(plan, &look) {
                if let What::RolledBack { reason } = event.what {
                    why = reason;
                }
            }
        }
        turns += 1;
    }
    End {
        phase: state.phase(),
        step: state.step(),
        turns,
        why,
    }
}

/// The part of rollouts that are rolled back, and that get as far as the next step or are promoted.
fn ends(plan: &Rollout, world: &World, runs: u64, most: u32) -> (f64, f64) {
    let (mut back, mut promoted) = (0u64, 0u64);
    for seed in 0..runs {
        let end = run(plan, world, seed, most);
        back += u64::from(end.phase == Phase::RolledBack);
        promoted += u64::from(end.phase == Phase::Promoted || end.step > 0);
    }
    (back as f64 / runs as f64, promoted as f64 / runs as f64)
}

/// Turns of each side until a loss is found: median and 90th percentile.
fn delays(speed: f64, runs: u64) -> (u32, u32) {
    let plan = plan(&["5%", "25%", "50%", "100%"]);
    let world = World { speed, ..EQUAL };
    let mut found: Vec<u32> = (0..runs)
        .map(|seed| run(&plan, &world, seed, 4000).turns)
        .collect();
    found.sort_unstable();
    let at = |part: f64| found[(part * (found.len() - 1) as f64) as usize];
    (at(0.5), at(0.9))
}

/// The same with thousands is `make test-statistics`.
#[test]
fn a_rollout_of_an_equal_is_seldom_rolled_back() {
    let (back, promoted) = ends(&plan(&["5%", "50%"]), &EQUAL, 60, 250);
    assert!(back <= 0.05 && promoted <= 0.05, "{back} {promoted}");
}

#[test]
fn other_work_alone_fires_nothing() {
    // The candidate has mostly prose, and then the control has.
    let world = World {
        prose: (0.9, 0.1),
        later: (0.1, 0.9),
        errors: 0.0,
        ..EQUAL
    };
    for seed in 0..40 {
        let end = run(&plan(&["50%"]), &world, seed, 250);
        assert_eq!(end.phase, Phase::Running, "{seed}: {}", end.why);
    }
}

#[test]
fn a_loss_is_found_soon_and_a_gain_is_promoted() {
    let plan = plan(&["50%"]);
    for (speed, within) in [(0.5, 60), (0.8, 400)] {
        let world = World { speed, ..EQUAL };
        let found =
            (0..20).filter(|seed| run(&plan, &world, *seed, within).phase == Phase::RolledBack);
        assert!(found.count() >= 18, "{speed}");
    }
    let late = World {
        speed: 0.5,
        from: 150,
        ..EQUAL
    };
    let found = (0..20).filter(|seed| run(&plan, &late, *seed, 300).phase == Phase::RolledBack);
    assert!(found.count() >= 18, "after many good turns");
    let world = World {
        speed: 1.5,
        ..EQUAL
    };
    let promoted = (0..20).filter(|seed| run(&plan, &world, *seed, 400).phase == Phase::Promoted);
    assert!(promoted.count() >= 18);
}

fn table() -> String {
    let (one, four) = (plan(&["50%"]), plan(&["5%", "25%", "50%", "100%"]));
    let mut table = String::from(
        "| decode tokens/s of the candidate | rolled back after turns of each side (median, nine in ten) |\n|---|---|\n",
    );
    for (name, speed) in [("−10 %", 0.9), ("−20 %", 0.8), ("−50 %", 0.5)] {
        let (median, most) = delays(speed, 200);
        table += &format!("| {name} | {median}, {most} |\n");
    }
    let late = World {
        speed: 0.5,
        from: 150,
        ..EQUAL
    };
    let mut found: Vec<u32> = (0..200)
        .map(|seed| run(&one, &late, seed, 4000).turns - late.from)
        .collect();
    found.sort_unstable();
    table += &format!(
        "| −50 % after 150 turns without | {}, {} |\n",
        found[100], found[180]
    );
    table += "\n| nothing differs, a look after every turn, 300 turns of each side | rolled back, of 1000 | promoted, or on to the next step |\n|---|---|---|\n";
    for (name, world) in [
        ("two classes, two loads, one turn in a hundred fails", EQUAL),
        (
            "one turn in five fails on both sides",
            World {
                errors: 0.2,
                ..EQUAL
            },
        ),
        (
            "nine in ten turns of the candidate are prose, one in ten of the control's",
            World {
                prose: (0.9, 0.1),
                later: (0.9, 0.1),
                ..EQUAL
            },
        ),
        (
            "the same, and the other way round after half the turns",
            World {
                prose: (0.9, 0.1),
                later: (0.1, 0.9),
                ..EQUAL
            },
        ),
    ] {
        let (back, promoted) = ends(&four, &world, 1000, 300);
        table += &format!(
            "| {name} | {:.2} % | {:.2} % |\n",
            back * 100.0,
            promoted * 100.0
        );
    }
    table + &fair::table()
}

#[test]
#[ignore = "long; make test-statistics runs it"]
fn thousands_of_rollouts_of_equals_mislead_at_most_one_time_in_twenty() {
    for steps in [&["50%"][..], &["5%", "25%", "50%", "100%"]] {
        let (back, promoted) = ends(&plan(steps), &EQUAL, 2000, 300);
        assert!(
            back <= 0.05 && promoted <= 0.05,
            "{steps:?}: {back} {promoted}"
        );
    }
}

#[test]
#[ignore = "long; make test-statistics runs it"]
fn the_documented_table_is_what_the_simulation_says() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/speculative.md");
    page_has(page, "rollouts", &table());
}

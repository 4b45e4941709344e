//! What the tests of this room do to turns by the thousand, with somebody looking after every turn.
//!
//! `UPDATE_DOCS=1 cargo test --lib spec::simulation` writes the table of `docs/speculative.md`.

use std::f64::consts::TAU;

use super::sequential::{BURN_IN, Sample, difference};
use crate::sim::rng::Rng;

/// Spread of ln(tokens/s) among turns of one stratum: about 20 %.
const SPREAD: f64 = 0.2;

/// α of one test, as `regress` shares it out: 0.05 over 24 strata and 6 tests.
const SHARE: f64 = 0.05 / 144.0;

/// How turns vary.
#[derive(Clone, Copy, Debug)]
enum Shape {
    /// Log-normal, as measured.
    Normal,
    /// One turn in twenty is five times as far off.
    Tails,
    /// Mostly near the top, some far below: waiting behind others.
    Skewed,
}

fn draw(rng: &mut Rng, shape: Shape) -> f64 {
    let (radius, angle) = ((-2.0 * (1.0 - rng.unit()).ln()).sqrt(), TAU * rng.unit());
    let normal = radius * angle.cos();
    SPREAD
        * match shape {
            Shape::Normal => normal,
            Shape::Tails if rng.chance(0.05) => 5.0 * normal,
            Shape::Tails => normal,
            Shape::Skewed => 1.0 + (1.0 - rng.unit()).ln(),
        }
}

/// Turns on each side until a loss is found; none within `most`.
fn run(seed: u64, shape: Shape, effect: f64, noise: f64, alpha: f64, most: u64) -> Option<u64> {
    let mut rng = Rng::seeded(&[seed, 7]);
    let (mut now, mut before) = (Sample::default(), Sample::default());
    for turn in 1..=most {
        before.push(draw(&mut rng, shape));
        now.push(effect + noise * draw(&mut rng, shape));
        let interval = difference(&now, &before, alpha);
        // Either way is a false alarm when nothing differs.
        if interval.is_below(0.0) || (effect == 0.0 && interval.is_above(0.0)) {
            return Some(turn);
        }
    }
    None
}

/// The part of A/A comparisons in which somebody who looks after every turn is ever misled.
fn misled(shape: Shape, noise: f64, alpha: f64, runs: u64, turns: u64) -> f64 {
    let wrong = (0..runs).filter(|seed| run(*seed, shape, 0.0, noise, alpha, turns).is_some());
    wrong.count() as f64 / runs as f64
}

#[test]
fn looking_after_every_turn_misleads_at_most_one_time_in_twenty() {
    for (shape, noise) in [
        (Shape::Normal, 1.0),
        (Shape::Normal, 2.0),
        (Shape::Tails, 1.0),
        (Shape::Skewed, 1.0),
    ] {
        let wrong = misled(shape, noise, 0.05, 2000, 400);
        assert!(wrong <= 0.05, "{shape:?}, noise {noise}: {wrong}");
    }
}

/// The simulation can fail: a fixed-size test, looked at as often, misleads most of the time.
#[test]
fn a_test_of_fixed_size_would_mislead() {
    let misled = (0..300).filter(|seed| {
        let mut rng = Rng::seeded(&[*seed, 11]);
        let (mut now, mut before) = (Sample::default(), Sample::default());
        (1..=400u32).any(|_| {
            before.push(draw(&mut rng, Shape::Normal));
            now.push(draw(&mut rng, Shape::Normal));
            let n = now.n() as f64;
            let error = ((now.variance() + before.variance()) / n).sqrt();
            now.n() >= BURN_IN && (now.mean() - before.mean()).abs() > 1.96 * error
        })
    });
    assert!(misled.count() > 60);
}

/// Of runs with a real loss: turns on each side until it is found, as median and 90th percentile.
fn delays(effect: f64, alpha: f64) -> (u64, u64) {
    let mut found: Vec<u64> = (0..300)
        .map(|seed| run(seed, Shape::Normal, effect, 1.0, alpha, 4000).unwrap_or(4000))
        .collect();
    found.sort_unstable();
    (found[150], found[270])
}

fn table() -> String {
    let mut table = String::from(
        "| loss of decode speed | α 0.05, one test: turns until found (median, 90 %) | α 0.05 over all strata and metrics |\n|---|---|---|\n",
    );
    for (name, factor) in [("10 %", 0.9f64), ("20 %", 0.8), ("50 %", 0.5)] {
        let cell = |alpha| {
            let (median, most) = delays(factor.ln(), alpha);
            format!("{median}, {most}")
        };
        table += &format!("| {name} | {} | {} |\n", cell(0.05), cell(SHARE));
    }
    let rate = |shape, noise| misled(shape, noise, 0.05, 2000, 400) * 100.0;
    table += "\n| A/A, 400 turns on each side, a look after every turn | misled, of 2000 runs |\n|---|---|\n";
    for (name, shape, noise) in [
        ("log-normal", Shape::Normal, 1.0),
        (
            "log-normal, one side varies twice as much",
            Shape::Normal,
            2.0,
        ),
        (
            "one turn in twenty five times as far off",
            Shape::Tails,
            1.0,
        ),
        ("skewed", Shape::Skewed, 1.0),
    ] {
        table += &format!("| {name} | {:.2} % |\n", rate(shape, noise));
    }
    table
}

#[test]
fn the_documented_table_is_what_the_simulation_says() {
    const BEGIN: &str = "<!-- simulation: begin -->\n";
    const END: &str = "<!-- simulation: end -->";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/speculative.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (head, rest) = page.split_once(BEGIN).unwrap();
    let (shown, tail) = rest.split_once(END).unwrap();
    let table = table();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, format!("{head}{BEGIN}{table}{END}{tail}")).unwrap();
        return;
    }
    assert_eq!(
        shown, table,
        "UPDATE_DOCS=1 cargo test --lib spec::simulation"
    );
}

/// Other work alone is no finding: strata are compared with themselves.
#[test]
fn a_shift_of_the_mix_fires_nothing() {
    use super::observe::tests::{answer, place};
    use super::{Book, Comparison, Limits, Stratum, findings};
    use crate::config::RequestClass;

    let classes = [
        (RequestClass::Prose, 20.0),
        (RequestClass::Repetitive, 80.0),
    ];
    for seed in 0..200 {
        let mut rng = Rng::seeded(&[seed, 13]);
        let mut book = Book::default();
        let (old, new) = (place("b", "m", "b1"), place("b", "m", "b2"));
        for (place, prose) in [(&old, 0.2), (&new, 0.9)] {
            for _ in 0..300 {
                let (class, level) = classes[usize::from(!rng.chance(prose))];
                let tps = level * draw(&mut rng, Shape::Normal).exp();
                book.push(&answer(place, Stratum::new(class, 1), 100, tps));
            }
        }
        let pair = Comparison {
            now: (&new, book.at(&new).unwrap()),
            before: (&old, book.at(&old).unwrap()),
        };
        assert_eq!(findings(pair, &Limits::default()), [], "seed {seed}");
    }
}

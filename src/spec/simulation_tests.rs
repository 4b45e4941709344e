//! What the tests of this room do to turns by the thousand, with somebody looking after every turn.
//!
//! `make test-statistics` runs the long ones, `make statistics` writes the tables of `docs/speculative.md`.

use std::f64::consts::TAU;

use super::sequential::{BURN_IN, Sample, difference};
use crate::sim::rng::Rng;

mod family;

/// Spread of ln(tokens/s) among turns of one stratum: about 20 %.
const SPREAD: f64 = 0.2;

/// α of one test, as `regress` shares it out: half of 0.05 over 24 strata and 9 tests.
const SHARE: f64 = 0.05 / 2.0 / 216.0;

/// How turns vary.
#[derive(Clone, Copy, Debug)]
enum Shape {
    /// Log-normal, as measured.
    Normal,
    /// One turn in twenty is five times as far off.
    Tails,
    /// Mostly near the top, some far below: waiting behind others.
    Skewed,
    /// One turn in ten is far slower than the others.
    Queued,
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
            Shape::Queued if rng.chance(0.1) => normal - 3.6,
            Shape::Queued => normal + 0.4,
        }
}

/// Two sides to compare, and somebody who looks after every turn of the later one.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    shape: Shape,
    /// How many times as much the later side varies.
    noise: f64,
    /// Turns of the earlier side that were there before; with none the sides grow together.
    known: u64,
}

impl Case {
    const fn new(name: &'static str, shape: Shape, noise: f64, known: u64) -> Self {
        Self {
            name,
            shape,
            noise,
            known,
        }
    }

    /// Turns of the later side until a difference is found; none within `most`.
    fn run(&self, seed: u64, effect: f64, alpha: f64, most: u64) -> Option<u64> {
        let mut rng = Rng::seeded(&[seed, 7]);
        let (mut now, mut before) = (Sample::default(), Sample::default());
        (0..self.known).for_each(|_| before.push(draw(&mut rng, self.shape)));
        (1..=most).find(|_| {
            if self.known == 0 {
                before.push(draw(&mut rng, self.shape));
            }
            now.push(effect + self.noise * draw(&mut rng, self.shape));
            let interval = difference(&now, &before, alpha);
            // Either way is a false alarm when nothing differs.
            interval.is_below(0.0) || (effect == 0.0 && interval.is_above(0.0))
        })
    }

    /// The part of comparisons of equals in which somebody is ever misled.
    fn misled(&self, alpha: f64, runs: u64, turns: u64) -> f64 {
        let wrong = (0..runs).filter(|seed| self.run(*seed, 0.0, alpha, turns).is_some());
        wrong.count() as f64 / runs as f64
    }
}

/// Sides that grow together, an earlier one that is short, or long; one that varies more.
const CASES: [Case; 14] = [
    Case::new("log-normal", Shape::Normal, 1.0, 0),
    Case::new(
        "log-normal, the later side varies twice as much",
        Shape::Normal,
        2.0,
        0,
    ),
    Case::new("log-normal, after 30", Shape::Normal, 1.0, 30),
    Case::new("log-normal, after 1000", Shape::Normal, 1.0, 1000),
    Case::new(
        "log-normal, after 1000, the later side varies twice as much",
        Shape::Normal,
        2.0,
        1000,
    ),
    Case::new(
        "one turn in twenty five times as far off",
        Shape::Tails,
        1.0,
        0,
    ),
    Case::new(
        "one turn in twenty five times as far off, after 1000",
        Shape::Tails,
        1.0,
        1000,
    ),
    Case::new("skewed", Shape::Skewed, 1.0, 0),
    Case::new("skewed, after 30", Shape::Skewed, 1.0, 30),
    Case::new("skewed, after 1000", Shape::Skewed, 1.0, 1000),
    Case::new(
        "skewed, after 1000, the later side varies half as much",
        Shape::Skewed,
        0.5,
        1000,
    ),
    Case::new(
        "skewed, after 1000, the later side varies three times as much",
        Shape::Skewed,
        3.0,
        1000,
    ),
    Case::new(
        "one turn in ten far slower, after 1000",
        Shape::Queued,
        1.0,
        1000,
    ),
    Case::new(
        "one turn in ten far slower, after 1000, the later side varies twice as much",
        Shape::Queued,
        2.0,
        1000,
    ),
];

/// The same with more runs is `make test-statistics`.
#[test]
fn looking_after_every_turn_misleads_at_most_one_time_in_twenty() {
    for case in CASES {
        let wrong = case.misled(0.05, 200, 200);
        assert!(wrong <= 0.05, "{}: {wrong}", case.name);
    }
}

#[test]
#[ignore = "long; make test-statistics runs it"]
fn thousands_of_looks_mislead_at_most_one_time_in_twenty() {
    for case in CASES {
        let wrong = case.misled(0.05, 4000, 2000);
        assert!(wrong <= 0.05, "{}: {wrong}", case.name);
        let wrong = case.misled(SHARE, 40_000, 100);
        assert!(wrong <= SHARE, "{}: {wrong} of the shared α", case.name);
    }
}

/// Either side may be the longer one.
#[test]
fn a_short_past_misleads_no_more() {
    let wrong = (0..200).filter(|seed| {
        let mut rng = Rng::seeded(&[*seed, 17]);
        let (mut now, mut before) = (Sample::default(), Sample::default());
        (0..1000).for_each(|_| now.push(draw(&mut rng, Shape::Skewed)));
        (0..200).any(|_| {
            before.push(draw(&mut rng, Shape::Skewed));
            let interval = difference(&now, &before, 0.05);
            interval.is_below(0.0) || interval.is_above(0.0)
        })
    });
    assert!(wrong.count() <= 10);
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

/// Of runs with a real loss: turns until it is found, as median and 90th percentile.
fn delays(known: u64, effect: f64, alpha: f64) -> (u64, u64) {
    let case = Case::new("", Shape::Normal, 1.0, known);
    let mut found: Vec<u64> = (0..300)
        .map(|seed| case.run(seed, effect, alpha, 4000).unwrap_or(4000))
        .collect();
    found.sort_unstable();
    (found[150], found[270])
}

fn table() -> String {
    let mut table = String::from(
        "| loss of decode speed | one test (α 0.05) | one test, after 1000 | all strata and metrics | all, after 1000 |\n\
         |---|---|---|---|---|\n",
    );
    for (name, factor) in [("10 %", 0.9f64), ("20 %", 0.8), ("50 %", 0.5)] {
        table += &format!("| {name} |");
        for (alpha, known) in [(0.05, 0), (0.05, 1000), (SHARE, 0), (SHARE, 1000)] {
            let (median, most) = delays(known, factor.ln(), alpha);
            table += &format!(" {median}, {most} |");
        }
        table.push('\n');
    }
    table +=
        "\n| nothing differs: 400 turns, a look after each | misled, of 2000 runs |\n|---|---|\n";
    for case in CASES {
        let percent = case.misled(0.05, 2000, 400) * 100.0;
        table += &format!("| {} | {percent:.2} % |\n", case.name);
    }
    table
}

#[test]
#[ignore = "long; make test-statistics runs it"]
fn the_documented_table_is_what_the_simulation_says() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/speculative.md");
    page_has(page, "simulation", &(table() + "\n" + &family::table()));
}

/// Insists that `page` has `text` between its marks for `name`; with `UPDATE_DOCS` it is written there.
pub(super) fn page_has(path: &str, name: &str, text: &str) {
    let (begin, end) = (
        format!("<!-- {name}: begin -->\n"),
        format!("<!-- {name}: end -->"),
    );
    let page = std::fs::read_to_string(path).unwrap();
    let (head, rest) = page.split_once(&begin).unwrap();
    let (shown, tail) = rest.split_once(&end).unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, format!("{head}{begin}{text}{end}{tail}")).unwrap();
        return;
    }
    assert_eq!(
        shown, text,
        "UPDATE_DOCS=1 writes it; `make statistics` where it is long"
    );
}

/// A loss is found, and soon.
#[test]
fn a_real_loss_is_found() {
    let case = Case::new("", Shape::Normal, 1.0, 1000);
    for (effect, within) in [(0.5f64, 20), (0.8, 60), (0.9, 250)] {
        let found = (0..50).filter(|seed| case.run(*seed, effect.ln(), SHARE, within).is_some());
        assert!(found.count() >= 45, "{effect}");
    }
}

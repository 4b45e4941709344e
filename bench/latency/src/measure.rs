//! Rounds of requests, both sides in turn, and what they amount to.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use crate::http::{Connection, Sample, request};
use crate::workload::Workload;

/// Both sides of a comparison.
pub struct Sides {
    /// The backend itself.
    pub direct: SocketAddr,
    /// The gateway in front of it.
    pub through: SocketAddr,
    /// A header line that each side's requests have, or nothing.
    pub headers: [&'static str; 2],
}

/// Most that guards may add at the median, to the first piece of text and between pieces, in µs.
const GUARDS_ADD: f64 = 200.0;

impl Sides {
    /// The gateway against itself: guards off, and on.
    pub fn guards(gateway: SocketAddr) -> Self {
        Self {
            direct: gateway,
            through: gateway,
            headers: ["x-drover-guard: off\r\n", "x-drover-guard: standard\r\n"],
        }
    }
}

/// What one round showed.
struct Round {
    direct: Side,
    through: Side,
}

/// Percentiles of one side of one round, in µs.
struct Side {
    first: [f64; 2],
    total: [f64; 2],
    gap: Option<f64>,
    own: Option<f64>,
}

/// A finished workload. All numbers are medians over the rounds, in µs.
pub struct Result {
    /// Name of the workload.
    pub name: &'static str,
    /// Time to the first piece of text, direct, at the median.
    pub direct_first: f64,
    /// The same through the gateway.
    pub through_first: f64,
    /// What the gateway adds to the first piece of text: difference of the medians, and of the 99th percentiles.
    pub added_first: [f64; 2],
    /// What it adds to the whole answer.
    pub added_total: [f64; 2],
    /// Time between pieces of text at the median, direct and through.
    pub gaps: Option<[f64; 2]>,
    /// `x-drover-overhead-us` at the median.
    pub own: Option<f64>,
    /// Most that `own` should be.
    pub goal: Option<f64>,
    /// Processor time of the gateway for each request.
    pub cpu: Option<f64>,
}

/// Runs one workload. `cpu` reads the gateway's processor time.
pub fn run(
    workload: &Workload,
    sides: &Sides,
    rounds: usize,
    cpu: Option<&dyn Fn() -> Duration>,
) -> io::Result<Result> {
    let mut direct = Connection::new(sides.direct);
    let mut through = Connection::new(sides.through);
    let to_direct = request(sides.direct, sides.headers[0], &workload.body);
    let to_through = request(sides.through, sides.headers[1], &workload.body);
    for _ in 0..workload.requests.min(50) {
        direct.exchange(&to_direct)?;
        through.exchange(&to_through)?;
    }
    let mut done: Vec<Round> = Vec::with_capacity(rounds);
    let mut used = Duration::ZERO;
    let now = || cpu.map_or(Duration::ZERO, |cpu| cpu());
    for round in 0..rounds {
        let mut direct_side = || side(&mut direct, &to_direct, workload.requests);
        let mut through_side = || {
            let before = now();
            let side = side(&mut through, &to_through, workload.requests);
            used += now().saturating_sub(before);
            side
        };
        // Whatever drifts on the machine meets both sides alike.
        done.push(if round % 2 == 0 {
            let direct = direct_side()?;
            Round {
                direct,
                through: through_side()?,
            }
        } else {
            let through = through_side()?;
            Round {
                direct: direct_side()?,
                through,
            }
        });
    }
    let requests = (rounds * workload.requests) as f64;
    let over = |value: &dyn Fn(&Round) -> f64| median(done.iter().map(value).collect());
    let added = |of: fn(&Side) -> [f64; 2]| {
        [0, 1].map(|at| over(&|round| of(&round.through)[at] - of(&round.direct)[at]))
    };
    let gap = |of: fn(&Round) -> &Side| {
        let gaps: Option<Vec<f64>> = done.iter().map(|round| of(round).gap).collect();
        gaps.map(median)
    };
    let own: Option<Vec<f64>> = done.iter().map(|round| round.through.own).collect();
    Ok(Result {
        name: workload.name,
        direct_first: over(&|round| round.direct.first[0]),
        through_first: over(&|round| round.through.first[0]),
        added_first: added(|side| side.first),
        added_total: added(|side| side.total),
        gaps: gap(|round| &round.direct)
            .zip(gap(|round| &round.through))
            .map(<[f64; 2]>::from),
        own: own.map(median),
        goal: workload.goal_us.map(|us| us as f64),
        cpu: cpu.map(|_| used.as_secs_f64() * 1e6 / requests),
    })
}

fn side(connection: &mut Connection, request: &[u8], requests: usize) -> io::Result<Side> {
    let samples: io::Result<Vec<Sample>> = (0..requests)
        .map(|_| connection.exchange(request))
        .collect();
    let samples = samples?;
    let us = |of: &dyn Fn(&Sample) -> Duration| -> Vec<f64> {
        samples
            .iter()
            .map(|sample| of(sample).as_secs_f64() * 1e6)
            .collect()
    };
    let gaps: Vec<f64> = samples
        .iter()
        .flat_map(|s| s.gaps.iter().map(|gap| gap.as_secs_f64() * 1e6))
        .collect();
    let own: Vec<f64> = samples
        .iter()
        .filter_map(|s| s.own)
        .map(|own| own.as_secs_f64() * 1e6)
        .collect();
    let both = |values: Vec<f64>| [percentile(values.clone(), 0.5), percentile(values, 0.99)];
    Ok(Side {
        first: both(us(&|sample| sample.first)),
        total: both(us(&|sample| sample.total)),
        gap: (!gaps.is_empty()).then(|| median(gaps)),
        own: (!own.is_empty()).then(|| median(own)),
    })
}

fn median(values: Vec<f64>) -> f64 {
    percentile(values, 0.5)
}

/// Nearest rank.
fn percentile(mut values: Vec<f64>, q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (q * values.len() as f64).ceil() as usize;
    values
        .get(rank.saturating_sub(1))
        .copied()
        .unwrap_or(f64::NAN)
}

impl Result {
    /// Whether guards add no more than they may, where "direct" is the gateway without them.
    pub fn guards_are_cheap(&self) -> bool {
        let between = self.gaps.map_or(0.0, |[off, on]| on - off);
        self.added_first[0] < GUARDS_ADD && between < GUARDS_ADD
    }

    /// For other programs.
    pub fn to_json(&self) -> Value {
        json!({
            "workload": self.name,
            "direct_first_us": self.direct_first,
            "through_first_us": self.through_first,
            "added_first_us": {"p50": self.added_first[0], "p99": self.added_first[1]},
            "added_total_us": {"p50": self.added_total[0], "p99": self.added_total[1]},
            "gap_us": self.gaps.map(|[direct, through]| json!({"direct": direct, "through": through})),
            "own_us": {"p50": self.own, "goal": self.goal},
            "cpu_us_per_request": self.cpu,
        })
    }

    /// Whether the gateway's own time is under its goal.
    pub fn meets_goal(&self) -> bool {
        match (self.own, self.goal) {
            (Some(own), Some(goal)) => own < goal,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let values: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        assert_eq!(percentile(values.clone(), 0.99), 198.0);
        assert_eq!(median(values), 100.0);
        assert_eq!(median(vec![7.0]), 7.0);
    }
}

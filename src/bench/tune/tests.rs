use std::time::Duration;

use super::*;
use crate::bench::artifact::{Cell, Summary};
use crate::bench::tests::artifact;

/// A group as if it had been measured: speeds by candidate and workload, with noise that differs from prompt to prompt.
fn measured(group: &Group<'_>, speed: &dyn Fn(&SpecProfile, Workload) -> f64) -> Artifact {
    let mut result = artifact(|_, _| 1.0);
    let form = result.contestants[1].clone();
    let contestants = group.contestants.iter().map(|c| {
        let mut one = form.clone();
        one.name = c.name.clone();
        one.cells = group
            .workloads
            .iter()
            .map(|workload| {
                let factor = speed(c.profile.as_ref().unwrap(), *workload);
                let turns: Vec<_> = (0..group.runs)
                    .map(|n| {
                        let mut turn = form.cells[0].turns[n as usize % 12].clone();
                        turn.prompt = group.first + n;
                        let seed = u64::from(turn.prompt);
                        let draw = xxhash_rust::xxh3::xxh3_64_with_seed(c.name.as_bytes(), seed);
                        turn.generated_ms /=
                            factor * (1.0 + 0.1 * ((draw % 100) as f64 / 100.0 - 0.5));
                        turn
                    })
                    .collect();
                Cell {
                    workload: *workload,
                    summary: Summary::of(&turns),
                    turns,
                }
            })
            .collect();
        one
    });
    result.contestants = contestants.collect();
    result
}

fn plan(method: Method, turns: u64) -> Search {
    Search {
        candidates: Grid::usual(SpecType::NgramMod)
            .candidates(SpecType::NgramMod)
            .unwrap(),
        workloads: vec![Workload::Repetitive, Workload::Prose],
        method,
        runs: 2,
        confirm: 8,
        warmup: 1,
        at_once: 4,
        budget: Budget {
            until: Instant::now() + Duration::from_secs(3600),
            turns,
        },
    }
}

/// Drafts of 32 tokens after 8 that are the same are best for one workload; the other one is slower with any.
fn truth(profile: &SpecProfile, workload: Workload) -> f64 {
    match (profile.kind, workload) {
        (SpecType::None, _) => 1.0,
        (_, Workload::Prose) => 0.8,
        _ => {
            let near =
                |value: Option<u32>, best: f64| (f64::from(value.unwrap()) / best).ln().abs();
            1.8 - 0.3 * near(profile.n_max, 32.0) - 0.3 * near(profile.n_match, 8.0)
        }
    }
}

#[test]
fn the_best_is_found_and_speculation_that_does_not_pay_is_not_recommended() {
    for method in [Method::Grid, Method::Halving] {
        let mut turns = 0;
        let found = search(&plan(method, 100_000), &mut |group| {
            turns += group.contestants.len() as u64 * 2 * u64::from(group.runs + 1);
            Ok(measured(&group, &truth))
        })
        .unwrap();
        let best = &found.winners[&Workload::Repetitive];
        assert_eq!(
            (best.profile.n_max, best.profile.n_match),
            (Some(32), Some(8)),
            "{method:?}"
        );
        let (interval, estimate, n) = best.evidence.unwrap();
        assert!(interval.is_above(0.3) && (estimate - 1.8f64.ln()).abs() < 0.1 && n == 8);
        assert!(!found.winners[&Workload::Prose].is_faster());
        assert_eq!((found.turns, found.cut_short), (turns, false));
        let yaml = found.to_yaml();
        assert!(
            yaml.contains("tuned-repetitive: { type: ngram-mod, n_match: 8"),
            "{yaml}"
        );
        assert!(yaml.contains("no speculation for prose"), "{yaml}");
        assert!(!yaml.contains("tuned-prose"), "{yaml}");
    }
}

#[test]
fn the_recommendation_is_a_configuration() {
    let found = search(&plan(Method::Halving, 100_000), &mut |group| {
        Ok(measured(&group, &truth))
    });
    let yaml = found.unwrap().to_yaml();
    let fleet = "fleet: {pools: [{name: p, models: ['*'], backends: [{name: b, url: 'http://127.0.0.1:1'}]}]}";
    let config = crate::config::parse(&format!("{fleet}\n{yaml}"), std::iter::empty()).unwrap();
    assert_eq!(config.spec.profiles["tuned-repetitive"].n_max, Some(32));
    assert_eq!(config.spec.rules[0].classes, [RequestClass::Repetitive]);
}

#[test]
fn a_budget_is_kept() {
    let mut groups = 0;
    let found = search(&plan(Method::Halving, 60), &mut |group| {
        groups += 1;
        Ok(measured(&group, &truth))
    })
    .unwrap();
    // One group takes 4 contestants times 2 workloads times 3 turns.
    assert_eq!((groups, found.turns, found.cut_short), (2, 48, true));
    assert!(found.winners[&Workload::Repetitive].evidence.is_none());
    assert!(
        found.to_yaml().contains("not confirmed"),
        "{}",
        found.to_yaml()
    );
    let nothing = search(&plan(Method::Grid, 10), &mut |group| {
        Ok(measured(&group, &truth))
    });
    assert!(matches!(nothing, Err(StageError::Usage(_))));
}

#[test]
fn combinations_that_make_no_sense_are_left_out() {
    let all = Grid::usual(SpecType::NgramMod)
        .candidates(SpecType::NgramMod)
        .unwrap();
    let is_odd = |c: &&Contestant| c.profile.as_ref().is_some_and(|p| p.n_min > p.n_max);
    assert!(
        all.len() == 21 && !all.iter().any(|c| is_odd(&c)),
        "{}",
        all.len()
    );
    let names: BTreeSet<_> = all.iter().map(|c| &c.name).collect();
    assert_eq!(names.len(), all.len());
    assert!(
        Grid::usual(SpecType::DraftSimple)
            .candidates(SpecType::NgramMod)
            .is_err()
    );
    let one = Grid::default().candidates(SpecType::NgramCache).unwrap();
    assert_eq!(one[0].name, "ngram-cache-default");
}

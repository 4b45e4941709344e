use super::super::aggregate::Aggregate;
use super::*;

/// An answer of `tokens` tokens at `tps` tokens a second.
pub(crate) fn answer(place: &Place, stratum: Stratum, tokens: u64, tps: f64) -> Observation {
    Observation {
        place: place.clone(),
        stratum,
        timings: Some(Timings {
            cache_n: 900,
            prompt_n: 100,
            prompt_ms: 100.0,
            predicted_n: tokens,
            predicted_ms: tokens as f64 / tps * 1000.0,
            draft_n: None,
            draft_n_accepted: None,
        }),
        drafts: Drafts::default(),
        ttft: Some(Duration::from_millis(150)),
        stop: StopKind::End,
        expected_cached: Some(1000),
        malformed: false,
        looping: false,
        answer: None,
    }
}

pub(crate) fn place(backend: &str, profile: &str, build: &str) -> Place {
    Place::new("p", backend, profile, build)
}

pub(crate) const PROSE: Stratum = Stratum {
    class: RequestClass::Prose,
    busy: 1,
};

#[test]
fn sums_and_rates_are_those_of_the_answers() {
    let place = place("b", "ngram-mod", "b1");
    let mut all = Aggregate::default();
    for (tokens, tps) in [(100, 40.0), (200, 10.0)] {
        let mut seen = answer(&place, PROSE, tokens, tps);
        seen.drafts = Drafts {
            drafted: 60,
            accepted: 45,
            steps: 15,
        };
        all.push(&seen);
    }
    assert_eq!((all.turns, all.generated, all.with_drafts), (2, 300, 2));
    assert!(
        (all.decode.mean().exp() - 20.0).abs() < 1e-9,
        "geometric mean"
    );
    assert!((all.accept_length.mean().exp() - 4.0).abs() < 1e-9);
    assert_eq!(all.drafts.rolled_back(), 30);
    assert!((all.prefill.mean().exp() - 1000.0).abs() < 1e-6);
    assert!((all.cache_found.mean() - 0.9).abs() < 1e-9);
}

#[test]
fn a_few_tokens_tell_no_speed() {
    let place = place("b", "none", "b1");
    let seen = answer(&place, PROSE, LEAST_DECODED - 1, 40.0);
    assert_eq!(seen.decode_rate(), None);
    assert_eq!(
        answer(&place, PROSE, LEAST_DECODED, 40.0).decode_rate(),
        Some(40.0)
    );
    assert_eq!(Drafts::default().accept_length(), None);
    assert_eq!(Drafts::default().acceptance(), None);
}

#[test]
fn busy_slots_fall_into_four_groups() {
    let groups: Vec<u8> = (0..8)
        .map(|busy| Stratum::new(RequestClass::Code, busy).busy)
        .collect();
    assert_eq!(groups, [1, 1, 2, 3, 3, 5, 5, 5]);
}

#[test]
fn prompts_fall_into_four_groups() {
    let groups = [0, 2047, 2048, 9000, 40_000].map(|n| Position::of(n).to_string());
    assert_eq!(groups[0], "from 0 prompt tokens");
    assert_eq!(groups[0], groups[1]);
    assert_eq!(groups[2], "from 2048 prompt tokens");
    assert_eq!(groups[3], "from 8192 prompt tokens");
    assert_eq!(groups[4], "from 32768 prompt tokens");
}

#[test]
fn an_aggregate_survives_being_written_down() {
    let mut all = Aggregate::default();
    all.push(&answer(&place("b", "none", "b1"), PROSE, 50, 20.0));
    let text = serde_json::to_string(&all).unwrap();
    assert_eq!(serde_json::from_str::<Aggregate>(&text).unwrap(), all);
}

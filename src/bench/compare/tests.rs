use super::*;
use crate::bench::tests::artifact;

fn verdict(a: &Artifact, b: &Artifact, contestant: &str) -> Vec<Verdict> {
    let comparison = compare(a, b, &Terms::default()).unwrap();
    let cells = comparison.cells.into_iter();
    cells
        .filter(|cell| cell.contestant == contestant)
        .map(|cell| cell.verdict)
        .collect()
}

/// Varies from run to run by some percent.
fn noise(salt: u64, contestant: &str, n: u32) -> f64 {
    let seed = xxhash_rust::xxh3::xxh3_64_with_seed(contestant.as_bytes(), salt);
    let draw = xxhash_rust::xxh3::xxh3_64_with_seed(&n.to_le_bytes(), seed);
    1.0 + 0.06 * ((draw % 1000) as f64 / 1000.0 - 0.5)
}

#[test]
fn the_same_is_no_difference_and_a_slower_one_is_worse() {
    let a = artifact(|c, n| noise(1, c, n));
    let b = artifact(|c, n| noise(2, c, n));
    assert_eq!(verdict(&a, &b, "none"), [Verdict::NoDifference; 2]);
    assert!(!compare(&a, &b, &Terms::default()).unwrap().has_regressed());
    let slow = artifact(|c, n| noise(2, c, n) * if c == "ngram-mod" { 0.8 } else { 1.0 });
    assert_eq!(verdict(&a, &slow, "ngram-mod"), [Verdict::Worse; 2]);
    assert_eq!(verdict(&a, &slow, "none"), [Verdict::NoDifference; 2]);
    assert_eq!(verdict(&slow, &a, "ngram-mod"), [Verdict::Better; 2]);
    let text = compare(&a, &slow, &Terms::default()).unwrap().to_text();
    assert!(
        text.contains("worse          ngram-mod, repetitive"),
        "{text}"
    );
}

#[test]
fn a_loss_that_is_sure_but_small_is_no_regression() {
    let (a, b) = (artifact(|_, _| 1.0), artifact(|_, _| 0.99));
    assert_eq!(verdict(&a, &b, "none"), [Verdict::NoDifference; 2]);
    let b = artifact(|_, _| 0.96);
    assert_eq!(verdict(&a, &b, "none"), [Verdict::Worse; 2]);
}

#[test]
fn a_longer_wait_and_a_shorter_accept_length_are_worse() {
    let a = artifact(|_, _| 1.0);
    let mut b = a.clone();
    for turn in &mut b.contestants[0].cells[0].turns {
        turn.ttft_ms = turn.ttft_ms.map(|ms| ms * 1.5);
    }
    for turn in &mut b.contestants[1].cells[1].turns {
        turn.drafts.accepted = 5;
    }
    assert_eq!(
        verdict(&a, &b, "none"),
        [Verdict::Worse, Verdict::NoDifference]
    );
    assert_eq!(
        verdict(&a, &b, "ngram-mod"),
        [Verdict::NoDifference, Verdict::Worse]
    );
}

#[test]
fn failures_and_malformed_calls_are_worse_when_there_are_more() {
    let a = artifact(|_, _| 1.0);
    let mut b = a.clone();
    let cell = &mut b.contestants[0].cells[0];
    cell.turns.iter_mut().for_each(|turn| turn.malformed = true);
    let cell = &mut b.contestants[1].cells[0];
    cell.turns
        .iter_mut()
        .for_each(|turn| turn.stop = StopReason::Failed);
    assert_eq!(verdict(&a, &b, "none")[0], Verdict::Worse);
    assert_eq!(verdict(&a, &b, "ngram-mod")[0], Verdict::Worse);
    assert_eq!(
        verdict(&b, &a, "none")[0],
        Verdict::NoDifference,
        "decode speed decides"
    );
}

#[test]
fn other_prompts_are_compared_as_two_samples() {
    let a = artifact(|c, n| noise(1, c, n));
    let mut b = artifact(|c, n| noise(2, c, n) * 0.7);
    b.protocol.prompts_sha256 = "22".repeat(32);
    let comparison = compare(&a, &b, &Terms::default()).unwrap();
    assert!(!comparison.paired && comparison.warnings.len() == 1);
    assert_eq!(verdict(&a, &b, "none"), [Verdict::Worse; 2]);
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let a = artifact(|_, _| 1.0);
    let refused = |b: &Artifact| compare(&a, b, &Terms::default()).unwrap_err();
    let mut b = a.clone();
    b.contestants.iter_mut().for_each(|c| c.name.push('x'));
    assert!(refused(&b).contains("in common"));
    let mut b = a.clone();
    b.contestants[0].model.as_mut().unwrap().sha256 = Some("33".repeat(32));
    assert!(refused(&b).contains("model files"));
    let mut b = a.clone();
    for contestant in &mut b.contestants {
        contestant
            .cells
            .iter_mut()
            .for_each(|cell| cell.turns.truncate(4));
    }
    assert!(refused(&b).contains("fewer than 5"));
}

/// A against A, two thousand times, with a slow turn now and then: hardly ever a word about it.
#[test]
fn equals_are_seldom_told_apart() {
    let wrong = (0..2000u64)
        .filter(|run| {
            let speed = |salt: u64| {
                artifact(move |c, n| {
                    let draw = noise(salt, c, n);
                    // One turn in ten at half speed: another process had the machine.
                    if noise(salt + 7, c, n) > 1.024 {
                        draw * 0.5
                    } else {
                        draw
                    }
                })
            };
            let (a, b) = (speed(run * 2), speed(run * 2 + 1));
            let comparison = compare(&a, &b, &Terms::default()).unwrap();
            comparison
                .cells
                .iter()
                .any(|cell| cell.verdict != Verdict::NoDifference)
        })
        .count();
    assert!(wrong <= 100, "{wrong} of 2000 with α 0.05");
}

use proptest::prelude::*;

use super::*;
use crate::spec::sequential::sample::tests::sample;

/// The closed form is the inverse of the Bayes factor as published.
#[test]
fn the_interval_ends_where_the_bayes_factor_says() {
    let values = |shift: f64| {
        (0..40)
            .map(|n| shift + f64::from(n % 8))
            .collect::<Vec<_>>()
    };
    let (a, b) = (sample(&values(1.0)), sample(&values(0.0)));
    let alpha = 0.05;
    let interval = difference(&a, &b, alpha);
    // Symmetric, and of equal sizes and variances: Welch's freedom is n₁ + n₂ − 2 and both errors are pooled.
    let (size, freedom) = (20.0, 78.0);
    let deviation = a.variance().sqrt();
    for end in [interval.low, interval.high] {
        let t = (a.mean() - b.mean() - end) / (deviation / f64::sqrt(size));
        let spread = 1.0 + size * PRIOR * PRIOR;
        let density = |scale: f64| {
            (1.0 + t * t / (freedom * scale)).powf(-(freedom + 1.0) / 2.0) / scale.sqrt()
        };
        let factor = density(spread) / density(1.0);
        assert!((factor * alpha - 1.0).abs() < 1e-6, "{factor}");
    }
}

/// What one place is faster by is no difference of what ran there, and a difference of that is found.
#[test]
fn a_crossover_takes_the_places_away() {
    let values = |level: f64| {
        let all: Vec<f64> = (0..100).map(|n| level + 0.1 * f64::from(n % 5)).collect();
        sample(&all)
    };
    for effect in [0.0, -0.3] {
        let (one, other) = (
            (values(2.0 + effect), values(1.0)),
            (values(1.0 + effect), values(2.0)),
        );
        let interval = crossed((&one.0, &one.1), (&other.0, &other.1), 0.01);
        assert!((interval.low + interval.high) / 2.0 - effect < 1e-9);
        assert_eq!(interval.is_below(-0.1), effect < 0.0, "{interval:?}");
        assert!(!interval.is_above(0.0));
    }
    let few = sample(&[1.0; 7]);
    let many = values(1.0);
    assert_eq!(crossed((&many, &many), (&many, &few), 0.05), Interval::ANY);
}

/// Of one pair it is the difference; of several it is surer than each.
#[test]
fn pairs_together_tell_what_none_of_them_does() {
    let values = |level: f64, n: u32| {
        let all: Vec<f64> = (0..n).map(|n| level + 0.2 * f64::from(n % 5)).collect();
        sample(&all)
    };
    let (now, before) = (values(0.85, 40), values(1.0, 80));
    let one = difference(&now, &before, 0.01);
    let same = pooled([(&now, &before)].into_iter(), 0.01);
    assert!((one.low - same.low).abs() < 1e-9 && (one.high - same.high).abs() < 1e-9);
    assert!(!one.is_below(0.0));
    // Other work is at another level, and there is not as much of it.
    let (other, then) = (values(2.85, 60), values(3.0, 50));
    let pairs = [(&now, &before), (&other, &then), (&now, &before)];
    assert!(pooled(pairs.into_iter(), 0.01).is_below(0.0));
    assert_eq!(pooled(std::iter::empty(), 0.01), Interval::ANY);
    assert_eq!(
        pooled([(&values(1.0, 3), &before)].into_iter(), 0.01),
        Interval::ANY
    );
}

#[test]
fn nothing_is_said_of_a_few() {
    let few = sample(&[1.0; 7]);
    let many = sample(&[2.0; 100]);
    assert_eq!(difference(&few, &many, 0.05), Interval::ANY);
    assert!(difference(&sample(&[1.0; 50]), &many, 0.05).is_below(-0.9));
}

/// A few even turns against a long past that met the slow ones: chance, until there are more.
#[test]
fn a_few_even_ones_are_not_believed_against_a_long_past() {
    let past: Vec<f64> = (0..1000)
        .map(|n| if n % 10 == 0 { -2.0 } else { 0.2 })
        .collect();
    let past = sample(&past);
    let even = |n: u32| {
        let values: Vec<f64> = (0..n).map(|n| 0.2 + 0.01 * f64::from(n % 3)).collect();
        difference(&sample(&values), &past, 0.05)
    };
    assert!(!even(12).is_above(0.0));
    assert!(even(400).is_above(0.0));
}

proptest! {
    /// Shifting, scaling and exchanging the sides do to the interval what they do to a difference.
    #[test]
    fn the_interval_moves_with_the_data(
        a in prop::collection::vec(-1.0..1.0, 10..60),
        b in prop::collection::vec(-1.0..1.0, 10..60),
        shift in -5.0..5.0,
        scale in 1.0..9.0,
    ) {
        let plain = difference(&sample(&a), &sample(&b), 0.05);
        let moved: Vec<f64> = a.iter().map(|v| (v + shift) * scale).collect();
        let scaled: Vec<f64> = b.iter().map(|v| v * scale).collect();
        let there = difference(&sample(&moved), &sample(&scaled), 0.05);
        let back = difference(&sample(&scaled), &sample(&moved), 0.05);
        let near = |x: f64, y: f64| x == y || (x - y).abs() < 1e-6 * (1.0 + x.abs());
        prop_assert!(near((plain.low + shift) * scale, there.low));
        prop_assert!(near((plain.high + shift) * scale, there.high));
        prop_assert!(near(back.low, -there.high) && near(back.high, -there.low));
    }

    /// A smaller α is never surer.
    #[test]
    fn less_risk_is_a_wider_interval(
        a in prop::collection::vec(-1.0..1.0, 10..60),
        b in prop::collection::vec(-1.0..1.0, 10..60),
    ) {
        let (a, b) = (sample(&a), sample(&b));
        let (tight, wide) = (difference(&a, &b, 0.1), difference(&a, &b, 0.01));
        prop_assert!(wide.low <= tight.low && tight.high <= wide.high);
    }
}

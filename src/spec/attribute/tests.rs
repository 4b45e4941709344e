use super::*;
use crate::config::RequestClass;

/// `n` turns around `mean` with a spread of 0.1.
fn sample(mean: f64, n: u64) -> Sample {
    let mut sample = Sample::default();
    for at in 0..n {
        sample.push(mean + 0.1 * (f64::from((at % 5) as u8) - 2.0));
    }
    sample
}

fn cell(when: When, class: RequestClass, labels: [(Dimension, &str); 3], sample: Sample) -> Cell {
    Cell {
        when,
        focus: true,
        stratum: Stratum { class, busy: 1 },
        position: Position::default(),
        labels: labels
            .map(|(dimension, value)| (dimension, value.into()))
            .to_vec(),
        sample,
    }
}

fn labels<'a>(backend: &'a str, profile: &'a str, build: &'a str) -> [(Dimension, &'a str); 3] {
    [
        (Dimension::Backend, backend),
        (Dimension::Profile, profile),
        (Dimension::Build, build),
    ]
}

const BOTH: [(RequestClass, f64); 2] = [(RequestClass::Prose, 3.0), (RequestClass::Edit, 4.5)];

#[test]
fn a_bad_build_on_one_of_two_backends_is_blamed_first() {
    let mut cells = Vec::new();
    for (class, level) in BOTH {
        for backend in ["g0", "g1"] {
            let before = labels(backend, "m", "b1");
            cells.push(cell(When::Before, class, before, sample(level, 100)));
        }
        cells.push(cell(
            When::After,
            class,
            labels("g0", "m", "b1"),
            sample(level, 100),
        ));
        cells.push(cell(
            When::After,
            class,
            labels("g1", "m", "b2"),
            sample(level - 0.4, 100),
        ));
    }
    let blames = attribute(&cells);
    assert_eq!(
        (blames[0].dimension, &*blames[0].value),
        (Dimension::Build, "b2")
    );
    let backend = blames
        .iter()
        .find(|b| b.dimension == Dimension::Backend)
        .unwrap();
    assert!(backend.share < blames[0].share, "{blames:?}");
}

#[test]
fn a_bad_profile_is_blamed_and_not_the_build_that_came_everywhere() {
    let mut cells = Vec::new();
    for (class, level) in BOTH {
        for (backend, later, fall) in [("g0", "m", 0.0), ("g1", "aggressive", 0.4)] {
            let before = labels(backend, "m", "b1");
            cells.push(cell(When::Before, class, before, sample(level, 100)));
            let after = labels(backend, later, "b2");
            cells.push(cell(When::After, class, after, sample(level - fall, 100)));
        }
    }
    let blames = attribute(&cells);
    assert_eq!(
        (blames[0].dimension, &*blames[0].value),
        (Dimension::Profile, "aggressive")
    );
}

#[test]
fn other_work_is_blamed_on_the_mix() {
    let at = |when, prose, edit| {
        [
            cell(
                when,
                RequestClass::Prose,
                labels("g0", "m", "b1"),
                sample(3.0, prose),
            ),
            cell(
                when,
                RequestClass::Edit,
                labels("g0", "m", "b1"),
                sample(4.5, edit),
            ),
        ]
    };
    let cells = [at(When::Before, 50, 250), at(When::After, 250, 50)].concat();
    let blames = attribute(&cells);
    assert_eq!(blames[0].dimension, Dimension::Class);
    assert!(blames[0].share > 0.9, "{blames:?}");
}

/// Backends of different speed, and the slower one has no part in the change.
#[test]
fn a_slow_backend_is_not_blamed_for_what_changed_on_the_other() {
    let mut cells = Vec::new();
    for (backend, level, later, fall) in [("g0", 4.5, "b2", 0.3), ("g1", 2.0, "b1", 0.0)] {
        let class = RequestClass::Prose;
        let before = labels(backend, "m", "b1");
        cells.push(cell(When::Before, class, before, sample(level, 100)));
        let after = labels(backend, "m", later);
        cells.push(cell(When::After, class, after, sample(level - fall, 100)));
    }
    let blames = attribute(&cells);
    assert_eq!(
        (blames[0].dimension, &*blames[0].value),
        (Dimension::Build, "b2"),
        "{blames:?}"
    );
}

#[test]
fn longer_prompts_are_blamed_on_the_position() {
    let at = |when, short, long| {
        [(0, 4.0, short), (9000, 3.0, long)].map(|(prompt, level, n)| Cell {
            position: Position::of(prompt),
            ..cell(
                when,
                RequestClass::Prose,
                labels("g0", "m", "b1"),
                sample(level, n),
            )
        })
    };
    let cells = [at(When::Before, 90, 10), at(When::After, 10, 90)].concat();
    let blames = attribute(&cells);
    assert_eq!(
        (blames[0].dimension, &*blames[0].value),
        (Dimension::Position, "from 8192 prompt tokens"),
        "{blames:?}"
    );
}

/// What comes to other strata is no part of a change within one.
#[test]
fn only_what_is_in_focus_is_explained() {
    let mut cells = Vec::new();
    for (class, level, focus, after) in [
        (RequestClass::Prose, 3.0, true, 100),
        (RequestClass::Edit, 4.5, false, 900),
    ] {
        for (when, build, fall, n) in [
            (When::Before, "b1", 0.0, 100),
            (When::After, "b2", 0.4, after),
        ] {
            cells.push(Cell {
                focus,
                ..cell(
                    when,
                    class,
                    labels("g0", "m", build),
                    sample(level - fall, n),
                )
            });
        }
    }
    let blames = attribute(&cells);
    assert_eq!(
        (blames[0].dimension, &*blames[0].value),
        (Dimension::Build, "b2")
    );
    assert!(blames.iter().all(|b| b.dimension != Dimension::Class));
}

#[test]
fn no_change_has_no_cause() {
    let same = |when| {
        cell(
            when,
            RequestClass::Prose,
            labels("g0", "m", "b1"),
            sample(3.0, 100),
        )
    };
    assert_eq!(attribute(&[same(When::Before), same(When::After)]), []);
    assert_eq!(attribute(&[same(When::Before)]), []);
}

use super::*;

fn decision(chosen: &str) -> Decision {
    Decision {
        chosen: chosen.into(),
        reason: Reason::Affinity,
        sticky: None,
        has_prefix: true,
        spare: None,
        predicted_cached_tokens: 70,
        hedge: false,
        waited: None,
        spec: None,
        rollout: None,
        candidates: Box::default(),
    }
}

fn ring(last: usize) -> Explanations {
    Explanations::new(NonZeroUsize::new(last).unwrap())
}

fn asking(id: &str, number: u64) -> Asking<'_> {
    Asking { id, number }
}

#[test]
fn the_last_ones_are_kept_with_what_came_of_them() {
    let ring = ring(2);
    for n in 0..3 {
        ring.decided(asking(&n.to_string(), n), None, "p", decision("a"));
    }
    assert!(ring.of("0").is_none());
    ring.decided(asking("2", 2), None, "p", decision("b"));
    ring.answered(asking("2", 2), 100, 80);
    ring.answered(asking("0", 0), 100, 80);
    let told = ring.of("2").unwrap();
    assert_eq!((told.decisions.len(), told.cached_tokens), (2, Some(80)));
    let json = serde_json::to_value(told).unwrap();
    assert_eq!(json["decisions"][1]["chosen"], "b");
    assert_eq!(json["decisions"][0]["reason"], "affinity");
    assert!(json.get("left_out").is_none());
    assert_eq!(ring.of("1").unwrap().cached_tokens, None, "under way");
    ring.keep(NonZeroUsize::MIN);
    assert!(ring.of("1").is_none() && ring.of("2").is_some());
}

/// Clients choose ids: one that sends the same with every request gets the last of these explained.
#[test]
fn requests_of_one_id_do_not_add_up() {
    let ring = ring(9);
    for _ in 0..100 {
        let request = asking("same", ring.number());
        ring.decided(request, None, "p", decision("a"));
        ring.decided(request, None, "p", decision("b"));
    }
    assert_eq!(ring.of("same").unwrap().decisions.len(), 2);
    // One that began earlier and goes on does not mix in.
    ring.decided(asking("same", 0), None, "p", decision("c"));
    ring.answered(asking("same", 0), 100, 80);
    let told = ring.of("same").unwrap();
    assert_eq!((told.decisions.len(), told.prompt_tokens), (2, None));
}

#[test]
fn the_selections_of_a_request_are_bounded() {
    let ring = ring(9);
    for n in 0..100 {
        ring.decided(asking("a", 0), None, "p", decision(&n.to_string()));
    }
    let told = ring.of("a").unwrap();
    let chosen: Vec<_> = told
        .decisions
        .iter()
        .map(|d| d.chosen.to_string())
        .collect();
    assert_eq!(chosen.len(), MOST_DECISIONS);
    assert_eq!((&*chosen[0], &*chosen[MOST_DECISIONS - 1]), ("0", "99"));
    assert_eq!(told.left_out as usize, 100 - MOST_DECISIONS);
}

use std::sync::Arc;

use tokio::time::advance;

use super::*;
use crate::fleet::Fleet;
use crate::fleet::state::Observation;
use crate::fleet::tests::{fleet_of, ready};

/// Reads what slots do: `-` idle, `p` at a prompt, `w` writing.
fn slots(doing: &str) -> Slots {
    let slot = |c: char| {
        let decoded = usize::from(c == 'w');
        serde_json::json!({"is_processing": c != '-', "next_token": [{"n_decoded": decoded}]})
    };
    let all: Vec<_> = doing.chars().map(slot).collect();
    Slots::parse(serde_json::to_string(&all).unwrap().as_bytes()).unwrap()
}

struct Bench {
    fleet: Arc<Fleet>,
    backend: Arc<Backend>,
}

fn bench(slots: &str) -> Bench {
    let fleet = fleet_of(&format!(
        "{{name: a, url: 'http://127.0.0.1:1', slots: {slots}}}"
    ));
    ready(&fleet);
    let backend = fleet.backend("a").unwrap();
    Bench { fleet, backend }
}

impl Bench {
    /// Two seconds later the slots are read.
    async fn look(&self, doing: &str) {
        advance(Duration::from_secs(2)).await;
        let slots = slots(doing);
        self.backend
            .set_facts(self.backend.facts().with_slots(&slots));
        self.backend.saw_slots(&slots, self.backend.own());
    }
}

#[tokio::test(start_paused = true)]
async fn what_two_looks_show_counts_until_one_does_not() {
    let bench = bench("auto");
    bench.look("ww--").await;
    assert_eq!(bench.backend.others(), 0, "it may have been ours just now");
    bench.look("www-").await;
    assert_eq!(bench.backend.others(), 2);
    bench.look("w---").await;
    assert_eq!(bench.backend.others(), 1);
    bench.look("----").await;
    assert_eq!(bench.backend.others(), 0);
}

#[tokio::test(start_paused = true)]
async fn own_requests_are_not_others() {
    let bench = bench("auto");
    let pool = bench.fleet.pool("p").unwrap();
    let own = [pool.select(&[]).unwrap(), pool.select(&[]).unwrap()];
    for _ in 0..3 {
        bench.look("ww-").await;
    }
    assert_eq!(bench.backend.others(), 0);
    drop(own);
    bench.look("ww-").await;
    assert_eq!(bench.backend.others(), 0, "not put down yet");
    bench.look("ww-").await;
    assert_eq!(bench.backend.others(), 2);
}

/// Else two gateways that are both busy would never find each other out.
#[tokio::test(start_paused = true)]
async fn who_writes_while_ours_has_not_begun_is_another() {
    let bench = bench("auto");
    let pool = bench.fleet.pool("p").unwrap();
    let _own = [pool.select(&[]).unwrap(), pool.select(&[]).unwrap()];
    let waits_inside = bench.backend.begins();
    for _ in 0..2 {
        bench.look("ww").await;
    }
    assert_eq!(bench.backend.others(), 1);
    for _ in 0..2 {
        bench.look("wp").await;
    }
    assert_eq!(bench.backend.others(), 0, "that prompt may be ours");
    drop(waits_inside);
    for _ in 0..2 {
        bench.look("ww").await;
    }
    assert_eq!(bench.backend.others(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_ends_or_begins_during_the_look_is_ours() {
    let of = |taken, begun| Own { taken, begun };
    assert_eq!(of(2, 0).most(of(1, 1)), of(2, 1));
    assert_eq!(of(2, 1).others(2, 1), 0);
    assert_eq!(of(2, 0).others(2, 1), 1);
    assert_eq!(of(0, 0).others(3, 1), 3);
}

#[tokio::test(start_paused = true)]
async fn looks_that_are_old_or_of_a_server_that_was_away_say_nothing() {
    let bench = bench("auto");
    let twice = async || {
        bench.look("ww--").await;
        bench.look("ww--").await;
        assert_eq!(bench.backend.others(), 2);
    };
    twice().await;
    advance(Duration::from_secs(9)).await;
    assert_eq!(bench.backend.others(), 0, "nobody has looked for long");
    bench.look("ww--").await;
    assert_eq!(bench.backend.others(), 0, "the two are too far apart");
    bench.look("ww--").await;
    assert_eq!(bench.backend.others(), 2);
    bench.backend.saw_nothing();
    assert_eq!(bench.backend.others(), 0);
    twice().await;
    bench.backend.observe(Observation::Loading, "");
    bench.backend.observe(Observation::Well, "");
    assert_eq!(bench.backend.others(), 0, "started anew");
    bench.look("ww--").await;
    assert_eq!(bench.backend.others(), 0);
}

/// Who configures two of four slots has left the other two to somebody.
#[tokio::test(start_paused = true)]
async fn slots_that_are_left_to_others_anyway_do_not_count() {
    let bench = bench("2");
    let look = async |doing| {
        bench.look(doing).await;
        bench.look(doing).await;
        bench.backend.others()
    };
    assert_eq!(look("ww--").await, 0);
    assert_eq!(look("www-").await, 1);
    assert_eq!(look("wwww").await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_others_fill_is_closed_for_a_look_then_one_may_join() {
    let bench = bench("auto");
    let state = || (bench.backend.is_free(), bench.backend.may_be_joined());
    bench.look("ww").await;
    assert_eq!(state(), (true, false));
    bench.look("ww").await;
    assert_eq!(state(), (false, false));
    bench.look("ww").await;
    assert_eq!(state(), (false, true));
    let pool = bench.fleet.pool("p").unwrap();
    let joined = pool.select(&[]).unwrap();
    assert_eq!(state(), (false, false), "one of ours stands in its line");
    drop(joined);
    bench.look("w-").await;
    assert_eq!(state(), (true, false));
}

//! A backend dies under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::task::JoinSet;

use crate::support::script::{role, text};
use crate::support::*;

const CLIENTS: usize = 200;

/// Of every four answers two have begun when the backend dies, one has sent its head only, one nothing.
fn reply(n: usize, gate: &Gate) -> Reply {
    let reply = match n % 4 {
        0 => Reply::new().gate(gate).head(),
        1 => Reply::stream().event(&role()).comment().gate(gate),
        _ => Reply::stream()
            .event(&role())
            .event(&text("begun"))
            .gate(gate),
    };
    reply.event(&text(" and ended")).ends("stop")
}

fn begun(requests: usize) -> usize {
    (0..requests).filter(|n| n % 4 >= 2).count()
}

#[tokio::test]
async fn only_answers_that_had_begun_are_cut() {
    let gate = Gate::new();
    let (dies, lives) = (Backend::start().await, Backend::start().await);
    for n in 0..CLIENTS {
        dies.then(reply(n, &gate));
        lives.then(reply(n, &gate));
    }
    let setup = Setup::to(&[&dies, &lives]).slots(CLIENTS);
    let gateway = setup.start().await;
    let told = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let mut client = gateway.connect().await;
        let told = Arc::clone(&told);
        clients.spawn(async move {
            client.send(&stream()).await;
            let mut answer = client.answer().await;
            if answer.content().await == "begun" {
                told.fetch_add(1, Ordering::Relaxed);
            }
            answer.rest().await
        });
    }
    eventually(
        "all requests at the backends, and told what they have begun",
        || async {
            let (d, l) = (dies.requests().len(), lives.requests().len());
            let all_told = told.load(Ordering::Relaxed) == begun(d) + begun(l);
            (d + l == CLIENTS && all_told).then_some(())
        },
    )
    .await;
    let there = dies.requests().len();
    assert!(there > CLIENTS / 4, "load is shared: {there}");

    dies.kill().await;
    gate.open();
    let (mut complete, mut cut) = (0, 0);
    while let Some(response) = clients.join_next().await {
        let response = response.unwrap();
        if response.dones() == 1 {
            response.assert_complete_stream();
            assert!(
                response.said().ends_with(" and ended"),
                "{}",
                response.said()
            );
            complete += 1;
        } else {
            response.assert_failed_stream();
            assert_eq!(response.said(), "begun", "only what had begun may be cut");
            cut += 1;
        }
    }
    assert_eq!((cut, complete), (begun(there), CLIENTS - begun(there)));
    gateway.idle().await;
    gateway.ask(&stream()).await.assert_complete_stream();
}

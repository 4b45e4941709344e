//! A process takes over from another one.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pingora_core::server::Fds;
use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::support::*;

/// A directory that is closed to others.
fn private() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
    dir
}

fn upgradable(setup: Setup, dir: &TempDir) -> Setup {
    setup.set("pingora.upgrade_sock", json!(socket(dir)))
}

fn socket(dir: &TempDir) -> std::path::PathBuf {
    dir.path().join("upgrade.sock")
}

/// The same configuration on the addresses that `old` has.
fn in_place_of(old: &Gateway, setup: Setup) -> Setup {
    setup
        .set("listen", json!([old.addr.to_string()]))
        .set("admin.addr", json!(old.admin.to_string()))
}

/// Clients on connections that are kept, and on new ones, until told to stop.
fn load(addr: std::net::SocketAddr, stop: &Arc<AtomicBool>) -> JoinSet<usize> {
    let mut clients = JoinSet::new();
    for n in 0..4 {
        let stop = Arc::clone(stop);
        clients.spawn(async move {
            let mut client = Client::connect(addr).await;
            let mut answered = 0;
            while !stop.load(Ordering::Relaxed) {
                let response = client.ask(&chat(json!({"stream": n % 2 == 0}))).await;
                assert_eq!(response.status, 200, "{}", response.text());
                answered += 1;
                let last = response.headers.get("connection") == Some("close");
                if last || n < 2 {
                    client = Client::connect(addr).await;
                }
            }
            answered
        });
    }
    clients
}

#[tokio::test]
async fn a_live_stream_survives_in_the_old_process_while_the_new_one_serves() {
    let gate = Gate::new();
    let held = Reply::held(&gate);
    let backend = Backend::start().await;
    let dir = private();
    let setup = upgradable(Setup::to(&[&backend]).slots(64), &dir);
    let mut old = setup.clone().start().await;
    backend.then(held);
    let mut client = old.connect().await;
    client.send(&stream()).await;
    let mut answer = client.answer().await;
    assert_eq!(answer.content().await, "a");

    let stop = Arc::new(AtomicBool::new(false));
    let clients = load(old.addr, &stop);
    let new = in_place_of(&old, setup).succeed().await;
    eventually("the old process drains", || async {
        old.log().join("\n").contains("draining").then_some(())
    })
    .await;
    // Whoever comes now comes to the new one, clients and admins alike.
    let response = new.ask(&stream()).await;
    response.assert_complete_stream();
    let id = response.headers.get("x-request-id").unwrap();
    new.access_line(id).await;
    for _ in 0..8 {
        assert_eq!(new.admin_get("/readyz").await.status, 200);
    }

    // The old one still serves the stream it had, to its end, and then leaves.
    gate.open();
    let response = answer.rest().await;
    response.assert_complete_stream();
    assert_eq!(response.said(), "ab");
    assert_eq!(old.exited().await.code(), Some(0));
    stop.store(true, Ordering::Relaxed);
    let answered: usize = clients.join_all().await.into_iter().sum();
    println!("upgrade: {answered} requests meanwhile, none lost");
    assert!(answered > 0);
    assert_eq!(backend.requests().len(), answered + 2);
    new.ask(&stream()).await.assert_complete_stream();
}

#[tokio::test]
async fn a_successor_has_its_successor() {
    let backend = Backend::start().await;
    let dir = private();
    let setup = upgradable(Setup::to(&[&backend]), &dir);
    let mut first = setup.clone().start().await;
    let mut second = in_place_of(&first, setup.clone()).succeed().await;
    assert_eq!(first.exited().await.code(), Some(0));
    let third = in_place_of(&second, setup).succeed().await;
    assert_eq!(second.exited().await.code(), Some(0));
    third.ask(&stream()).await.assert_complete_stream();
    assert!(!Path::new(&socket(&dir)).exists());
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        0,
        "nothing is left behind"
    );
}

#[tokio::test]
async fn a_successor_that_dies_before_it_serves_changes_nothing() {
    let backend = Backend::start().await;
    let dir = private();
    let setup = upgradable(Setup::to(&[&backend]), &dir);
    let mut old = setup.clone().start().await;
    let path = socket(&dir);
    let taken = tokio::task::spawn_blocking(move || {
        let mut fds = Fds::new();
        fds.get_from_sock(path.to_str().unwrap()).unwrap();
        fds.serialize().0
    });
    let mut taken = taken.await.unwrap();
    taken.sort();
    let mut ours = vec![old.addr.to_string(), old.admin.to_string()];
    ours.sort();
    assert_eq!(taken, ours);
    assert_eq!(old.admin_get("/readyz").await.status, 200);
    // The next one gets them again.
    let new = in_place_of(&old, setup).succeed().await;
    assert_eq!(old.exited().await.code(), Some(0));
    new.ask(&stream()).await.assert_complete_stream();
}

#[tokio::test]
async fn without_a_process_before_it_starts_as_usual() {
    let backend = Backend::start().await;
    let dir = private();
    let gateway = upgradable(Setup::to(&[&backend]), &dir);
    let gateway = gateway.start_with(&["--upgrade"]).await;
    gateway.ask(&stream()).await.assert_complete_stream();
}

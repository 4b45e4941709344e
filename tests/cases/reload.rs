//! The configuration changes while requests go on.

use serde_json::{Value, json};

use crate::support::*;

/// Reloads happen when a case asks for them.
fn unwatched(setup: Setup) -> Setup {
    setup.set("reload.watch", json!(false))
}

fn urls(backends: &[&Backend]) -> Vec<String> {
    backends.iter().map(|backend| backend.url()).collect()
}

async fn reload(gateway: &Gateway, setup: &Setup) -> Value {
    gateway.write(setup);
    let response = gateway.admin_post("/api/reload").await;
    assert_eq!(response.status, 200, "{}", response.text());
    response.json()
}

/// The names and states that `/api/backends` shows.
async fn backends(gateway: &Gateway) -> Vec<Value> {
    let listed = gateway.admin_get("/api/backends").await.json();
    listed["backends"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_live_stream_outlives_the_removal_of_its_backend() {
    let gate = Gate::new();
    let held = Reply::held(&gate);
    let (old, new) = (Backend::replying(held).await, Backend::start().await);
    let setup = unwatched(Setup::to(&[&old]));
    let gateway = setup.clone().start().await;
    let mut client = gateway.connect().await;
    client.send(&stream()).await;
    let mut answer = client.answer().await;
    assert_eq!(answer.content().await, "a");

    let next = unwatched(Setup::pools(json!([pool("other", &["*"], &urls(&[&new]))])));
    let report = reload(&gateway, &next).await;
    assert_eq!(report["result"], "applied");
    assert_eq!(report["backends"]["added"], json!(["other-b0"]));
    assert_eq!(report["backends"]["removed"], json!(["b0"]));
    let listed = backends(&gateway).await;
    assert_eq!(listed.len(), 2);
    let leaving = &listed[1];
    assert_eq!(
        (
            &leaving["id"],
            &leaving["leaving"],
            &leaving["available"],
            &leaving["inflight"]
        ),
        (&json!("b0"), &json!(true), &json!(false), &json!(1))
    );
    // The new one was checked before the old one was taken away.
    gateway.ask(&stream()).await.assert_complete_stream();
    assert_eq!((old.requests().len(), new.requests().len()), (1, 1));

    gate.open();
    let response = answer.rest().await;
    response.assert_complete_stream();
    assert_eq!(response.said(), "ab");
    gateway.idle().await;
    assert_eq!(backends(&gateway).await.len(), 1);
}

#[tokio::test]
async fn backends_come_and_go_and_conversations_stay_where_they_are() {
    let (one, two, three) = (
        Backend::start().await,
        Backend::start().await,
        Backend::start().await,
    );
    let gateway = unwatched(Setup::to(&[&one, &two])).start().await;
    let turn = stream().header("x-session-id", "s-1");
    gateway.ask(&turn).await.assert_complete_stream();
    gateway.idle().await;
    let home = if one.requests().is_empty() {
        &two
    } else {
        &one
    };
    let away = if one.requests().is_empty() {
        &one
    } else {
        &two
    };
    let drained = if one.requests().is_empty() {
        "b0"
    } else {
        "b1"
    };
    assert_eq!(
        gateway
            .admin_post(&format!("/api/backends/{drained}/drain"))
            .await
            .status,
        200
    );

    let report = reload(&gateway, &unwatched(Setup::to(&[&one, &two, &three]))).await;
    assert_eq!(report["backends"]["added"], json!(["b2"]));
    assert_eq!(report["backends"]["kept"], json!(["b0", "b1"]));
    for _ in 0..3 {
        gateway.ask(&turn).await.assert_complete_stream();
        gateway.idle().await;
    }
    assert_eq!(home.requests().len(), 4, "the conversation stays");
    for _ in 0..6 {
        gateway.ask(&stream()).await.assert_complete_stream();
    }
    assert!(!three.requests().is_empty());
    assert_eq!(away.requests().len(), 0, "an operator's drain stays");

    // The first two go; their names, too, are not to be seen any more.
    let only = json!([{"name": "default", "models": ["*"],
        "backends": [{"name": "b2", "url": three.url()}]}]);
    let report = reload(&gateway, &unwatched(Setup::pools(only))).await;
    assert_eq!(report["backends"]["removed"], json!(["b0", "b1"]));
    let before = three.requests().len();
    gateway.ask(&turn).await.assert_complete_stream();
    assert_eq!(three.requests().len(), before + 1);
    assert_eq!(gateway.metric("drover_backend_state", r#""b0""#).await, 0.0);
}

#[tokio::test]
async fn a_new_backend_that_is_down_gets_nothing() {
    let one = Backend::start().await;
    let gateway = unwatched(Setup::to(&[&one])).start().await;
    let next = unwatched(Setup::urls(&[one.url(), dead_url().await]));
    let report = reload(&gateway, &next).await;
    assert_eq!(report["backends"]["added"], json!(["b1"]));
    assert_eq!(backends(&gateway).await[1]["state"], "down");
    for _ in 0..4 {
        gateway.ask(&stream()).await.assert_complete_stream();
    }
    assert_eq!(one.requests().len(), 4);
}

#[tokio::test]
async fn a_file_with_mistakes_changes_nothing_and_every_mistake_is_told() {
    let (one, two) = (Backend::start().await, Backend::start().await);
    let gateway = unwatched(Setup::to(&[&one])).start().await;
    let before = gateway.admin_get("/api/config").await.json();
    let bad = unwatched(Setup::to(&[&two]))
        .set("timeouts.write", json!("never"))
        .set("nonsense", json!(1));
    gateway.write(&bad);
    let response = gateway.admin_post("/api/reload").await;
    assert_eq!(response.status, 400);
    let body = response.json();
    assert_eq!(body["error"]["type"], "invalid_configuration");
    let mut paths: Vec<&str> = body["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["path"].as_str().unwrap())
        .collect();
    paths.sort_unstable();
    assert_eq!(paths, ["nonsense", "timeouts.write"]);
    assert!(body["errors"][0]["line"].is_number());
    assert_eq!(gateway.admin_get("/api/config").await.json(), before);
    gateway.ask(&stream()).await.assert_complete_stream();
    assert_eq!((one.requests().len(), two.requests().len()), (1, 0));
    let metric = |result: &'static str| gateway.metric("drover_config_reloads_total", result);
    assert_eq!(
        (metric("invalid").await, metric("applied").await),
        (1.0, 0.0)
    );
    for mistake in ["timeouts.write", "nonsense"] {
        gateway.logs(&[mistake]).await;
    }
}

#[tokio::test]
async fn keys_change_at_once_and_on_open_connections() {
    let backend = Backend::start().await;
    let keyed = |key: &str| {
        unwatched(Setup::to(&[&backend])).set("auth.keys", json!([{"name": "dev", "key": key}]))
    };
    let gateway = keyed("the-old-key").start().await;
    let with = |key: &str| stream().header("Authorization", &format!("Bearer {key}"));
    let mut client = gateway.connect().await;
    client
        .ask(&with("the-old-key"))
        .await
        .assert_complete_stream();
    let report = reload(&gateway, &keyed("the-new-key")).await;
    assert_eq!(report["changed"], json!(["auth.keys"]));
    client
        .ask(&with("the-new-key"))
        .await
        .assert_complete_stream();
    gateway.ask(&with("the-old-key")).await.assert_error(401);
}

#[tokio::test]
async fn pools_timeouts_and_guards_change_and_the_rest_waits_for_a_restart() {
    let backend = Backend::start().await;
    let setup = unwatched(Setup::pools(json!([pool(
        "p",
        &["old"],
        &urls(&[&backend])
    )])));
    let gateway = setup.start().await;
    let ask = |model: &str| chat(json!({"model": model}));
    assert_eq!(gateway.ask(&ask("old")).await.status, 200);
    let next = unwatched(Setup::pools(json!([pool(
        "p",
        &["new"],
        &urls(&[&backend])
    )])))
    .set("guard.preset", json!("standard"))
    .set("timeouts.first_event", json!("300ms"))
    .set("pingora.threads", json!(3))
    .set("limits.max_connections", json!(9));
    let report = reload(&gateway, &next).await;
    assert_eq!(
        report["needs_restart"],
        json!(["limits.max_connections", "pingora.threads"])
    );
    assert_eq!(
        report["changed"],
        json!([
            "fleet.pools[0].models[0]",
            "guard.preset",
            "timeouts.first_event"
        ])
    );
    let config = gateway.admin_get("/api/config").await.json();
    assert_eq!(config["pingora"]["threads"], 2);
    assert_eq!(config["guard"]["preset"], "standard");
    gateway.ask(&ask("old")).await.assert_error(404);
    assert_eq!(gateway.ask(&ask("new")).await.status, 200);
    backend.always(Reply::new().hang());
    gateway.ask(&ask("new")).await.assert_error(504);
}

#[tokio::test]
async fn a_signal_and_a_changed_file_reload_too() {
    let (one, two) = (Backend::start().await, Backend::start().await);
    let gateway = unwatched(Setup::to(&[&one])).start().await;
    gateway.write(&Setup::to(&[&one, &two]).set("reload.every", json!("50ms")));
    gateway.hangup().await;
    gateway.backend_is("b1", "ready").await;
    // The signal has turned the watch on.
    gateway.write(&Setup::to(&[&one]));
    eventually("the file is loaded", || async {
        (backends(&gateway).await.len() == 1).then_some(())
    })
    .await;
    // It is counted when it is all done, a moment after the backends have changed.
    eventually("both are counted", || async {
        let applied = gateway.metric("drover_config_reloads_total", "applied");
        (applied.await == 2.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn no_request_is_lost_while_the_fleet_changes_under_load() {
    let all = [
        Backend::start().await,
        Backend::start().await,
        Backend::start().await,
    ];
    let named = |which: &[usize]| {
        let backends: Vec<Value> = which
            .iter()
            .map(|n| json!({"name": format!("n{n}"), "url": all[*n].url()}))
            .collect();
        unwatched(Setup::pools(
            json!([{"name": "p", "models": ["*"], "backends": backends}]),
        ))
    };
    let gateway = named(&[0]).start().await;
    let load = async {
        for _ in 0..25 {
            let gateway = &gateway;
            let turns = (0..8).map(|n| async move {
                if n % 2 == 0 {
                    gateway.ask(&stream()).await.assert_complete_stream();
                } else {
                    let response = gateway.ask(&chat(json!({}))).await;
                    assert_eq!(response.status, 200, "{}", response.text());
                }
            });
            futures_all(turns).await;
        }
    };
    let changes = async {
        let mut reloads = 0;
        for fleet in [&[1][..], &[0, 1, 2], &[2], &[0, 1], &[0], &[2, 1], &[1]] {
            let report = reload(&gateway, &named(fleet)).await;
            assert_eq!(report["result"], "applied");
            reloads += 1;
        }
        reloads
    };
    let ((), reloads) = tokio::join!(load, changes);
    let served: usize = all.iter().map(|backend| backend.requests().len()).sum();
    assert_eq!((served, reloads), (200, 7));
    assert!(all.iter().all(|backend| !backend.requests().is_empty()));
    gateway.idle().await;
}

async fn futures_all(turns: impl Iterator<Item = impl Future<Output = ()>>) {
    let mut turns: Vec<_> = turns.map(Box::pin).collect();
    std::future::poll_fn(|cx| {
        turns.retain_mut(|turn| turn.as_mut().poll(cx).is_pending());
        if turns.is_empty() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
}

//! Every slot is taken: who waits, in which order, what waiting clients hear, and who is refused.

use std::time::Duration;

use rstest::rstest;
use serde_json::{Value, json};

use crate::support::*;

/// One slot, and these rules for those who want it.
fn narrow(backends: &[&Backend], queue: Value) -> Setup {
    let backends: Vec<Value> = backends
        .iter()
        .enumerate()
        .map(|(n, b)| json!({"name": format!("b{n}"), "url": b.url(), "slots": 1}))
        .collect();
    let pool = json!({"name": "p", "models": ["*"], "queue": queue, "backends": backends});
    Setup::pools(json!([pool]))
        .set("timeouts.ping_first", json!("300ms"))
        .set("timeouts.ping_every", json!("150ms"))
        .set("reload.watch", json!(false))
}

/// A backend whose first answer takes until the gate is opened, and a client that reads it.
async fn busy(
    gateway: &Gateway,
    backend: &Backend,
    gate: &Gate,
) -> tokio::task::JoinHandle<Response> {
    backend.then(Reply::held(gate));
    let mut client = gateway.connect().await;
    let reading = tokio::spawn(async move {
        client.send(&stream()).await;
        client.answer().await.rest().await
    });
    backend.request(0).await;
    reading
}

async fn depth(gateway: &Gateway, class: &str) -> f64 {
    let label = format!("class=\"{class}\"");
    gateway.metric("drover_queue_depth", &label).await
}

async fn waiting(gateway: &Gateway, class: &str, count: f64) {
    eventually(&format!("{count} {class} requests wait"), || async {
        (depth(gateway, class).await == count).then_some(())
    })
    .await;
}

/// A turn that says `said`, in the dialect of `path`.
fn turn(path: &str, said: &str, streams: bool) -> Request {
    let body = match path {
        "/v1/responses" => json!({"model": "m", "input": said, "stream": streams}),
        _ => json!({"model": "m", "max_tokens": 9, "stream": streams,
            "messages": [{"role": "user", "content": said}]}),
    };
    post(path, body.to_string())
}

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";
const RESPONSES: &str = "/v1/responses";

/// What the backend was asked, by the names of the turns.
fn asked(backend: &Backend, names: &[&'static str]) -> Vec<&'static str> {
    let requests = backend.requests();
    let said = requests.iter().filter_map(|request| {
        let body = String::from_utf8_lossy(&request.body).into_owned();
        names.iter().copied().find(|name| body.contains(*name))
    });
    said.collect()
}

#[rstest]
#[tokio::test]
async fn who_waits_hears_real_events_and_is_served_when_it_is_time(
    #[values(CHAT, MESSAGES, RESPONSES)] path: &str,
) {
    let (gate, backend) = (Gate::new(), Backend::start().await);
    let gateway = narrow(&[&backend], json!({})).start().await;
    let first = busy(&gateway, &backend, &gate).await;
    let mut client = gateway.connect().await;
    client.send(&turn(path, "hi", true)).await;
    let mut answer = client.answer().await;
    assert_eq!(answer.status, 200);
    for _ in 0..3 {
        let event = answer.event().await.unwrap();
        assert!(!event.data.contains("Hello"), "{}", event.data);
    }
    let id = answer.headers.get("x-request-id").unwrap().to_owned();
    // Nobody was chosen yet when its headers had to be sent.
    assert_eq!(answer.headers.get("x-drover-backend"), None);
    assert_eq!(depth(&gateway, "interactive").await, 1.0);
    assert_eq!(
        backend.requests().len(),
        1,
        "nothing waits inside the backend"
    );
    gate.open();
    assert_eq!(first.await.unwrap().said(), "ab");
    let response = answer.rest().await;
    assert!(response.text().contains("there"), "{}", response.text());
    gateway.idle().await;
    let waits = gateway
        .metric(
            "drover_queue_wait_seconds_count",
            r#"class="interactive",pool="p""#,
        )
        .await;
    assert_eq!((waits, depth(&gateway, "interactive").await), (1.0, 0.0));
    let told = gateway
        .admin_get(&format!("/api/explain/{id}"))
        .await
        .json();
    assert_eq!(told["decisions"][0]["chosen"], "b0", "{told}");
    let waited = &told["decisions"][0]["waited"];
    assert_eq!(
        (&waited["class"], &waited["ahead"]),
        (&json!("interactive"), &json!(0)),
        "{told}"
    );
    assert!(waited["seconds"].as_f64().unwrap() > 0.3, "{told}");
}

#[rstest]
#[case(CHAT, 503, "overloaded")]
#[case(MESSAGES, 529, "overloaded_error")]
#[case(RESPONSES, 503, "overloaded")]
#[tokio::test]
async fn too_much_is_refused_in_the_words_of_the_dialect(
    #[case] path: &str,
    #[case] status: u16,
    #[case] kind: &str,
) {
    let (gate, backend) = (Gate::new(), Backend::start().await);
    let gateway = narrow(&[&backend], json!({"max_waiting": 0})).start().await;
    let first = busy(&gateway, &backend, &gate).await;
    for streams in [false, true] {
        let refused = gateway.ask(&turn(path, "hi", streams)).await;
        assert_eq!(refused.status, status, "{}", refused.text());
        assert!(refused.text().contains(kind), "{}", refused.text());
        let after: u64 = refused.headers.get("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&after), "{after}");
    }
    let full = gateway.metric("drover_queue_rejections_total", r#"reason="full""#);
    assert_eq!(full.await, 2.0);
    gate.open();
    first.await.unwrap().assert_complete_stream();
    assert_eq!(gateway.ask(&turn(path, "hi", false)).await.status, 200);
}

#[rstest]
#[case(CHAT, "/error/code", "rate_limit_exceeded")]
#[case(MESSAGES, "/error/type", "rate_limit_error")]
#[case(RESPONSES, "/error/code", "rate_limit_exceeded")]
#[tokio::test]
async fn who_has_the_most_waiting_is_told_so_in_the_words_of_the_dialect(
    #[case] path: &str,
    #[case] field: &str,
    #[case] kind: &str,
) {
    let (gate, backend) = (Gate::new(), Backend::start().await);
    let keys = json!([
        {"name": "a", "key": "secret-of-a-0123456"},
        {"name": "b", "key": "secret-of-b-0123456"},
    ]);
    let gateway = narrow(&[&backend], json!({"max_waiting": 2}))
        .set("timeouts.ping_first", json!("1m"))
        .set("auth.keys", keys)
        .start()
        .await;
    let of = |name: &str, said: &str, streams| {
        let key = format!("Bearer secret-of-{name}-0123456");
        turn(path, said, streams).header("Authorization", &key)
    };
    backend.then(Reply::held(&gate));
    let mut clients = Vec::new();
    for (n, said) in ["served", "waits", "gives-way"].into_iter().enumerate() {
        let mut client = gateway.connect().await;
        client.send(&of("a", said, said == "served")).await;
        match n {
            0 => _ = backend.request(0).await,
            n => waiting(&gateway, "interactive", n as f64).await,
        }
        clients.push(client);
    }
    let refused = |response: &Response| {
        assert_eq!(response.status, 429, "{}", response.text());
        let told = response.json();
        assert_eq!(told.pointer(field), Some(&json!(kind)), "{told}");
        let after: u64 = response
            .headers
            .get("retry-after")
            .unwrap()
            .parse()
            .unwrap();
        assert!((1..=60).contains(&after), "{after}");
    };
    for streams in [false, true] {
        refused(&gateway.ask(&of("a", "too-many", streams)).await);
    }
    // One who has none waiting gets a place of the one who has two.
    let mut other = gateway.connect().await;
    other.send(&of("b", "comes", false)).await;
    refused(&clients.pop().unwrap().answer().await.rest().await);
    let share = gateway.metric("drover_queue_rejections_total", r#"reason="share""#);
    assert_eq!(share.await, 3.0);
    gate.open();
    for client in clients.iter_mut().chain([&mut other]) {
        assert_eq!(client.answer().await.rest().await.status, 200);
    }
    let names = ["waits", "gives-way", "too-many", "comes"];
    let mut served = asked(&backend, &names);
    served.sort_unstable();
    assert_eq!(served, ["comes", "waits"]);
}

#[tokio::test]
async fn a_wait_ends_with_its_time() {
    let (gate, backend) = (Gate::new(), Backend::start().await);
    let gateway = narrow(&[&backend], json!({"timeout": "600ms"}))
        .start()
        .await;
    let first = busy(&gateway, &backend, &gate).await;
    let whole = gateway.ask(&turn(MESSAGES, "hi", false)).await;
    assert_eq!(whole.status, 529, "{}", whole.text());
    assert!(whole.headers.get("retry-after").is_some());
    // Pings have gone out: it is told inside the stream.
    let streamed = gateway.ask(&turn(CHAT, "hi", true)).await;
    assert_eq!(streamed.status, 200);
    streamed.assert_failed_stream();
    assert_eq!(streamed.error()["code"], "overloaded");
    let id = streamed.headers.get("x-request-id").unwrap();
    let line = gateway.access_line(id).await;
    assert_eq!(
        (&line["outcome"], &line["error"]),
        (&json!("unavailable"), &json!("overloaded"))
    );
    let late = gateway.metric("drover_queue_rejections_total", r#"reason="timeout""#);
    assert_eq!(late.await, 2.0);
    gate.open();
    first.await.unwrap().assert_complete_stream();
    assert_eq!(backend.requests().len(), 1);
}

#[rstest]
#[tokio::test]
async fn a_client_that_leaves_no_longer_waits(#[values(true, false)] streams: bool) {
    let (gate, backend) = (Gate::new(), Backend::start().await);
    let gateway = narrow(&[&backend], json!({})).start().await;
    let first = busy(&gateway, &backend, &gate).await;
    let mut client = gateway.connect().await;
    client.send(&turn(CHAT, "leaves", streams)).await;
    waiting(&gateway, "interactive", 1.0).await;
    drop(client);
    waiting(&gateway, "interactive", 0.0).await;
    gate.open();
    first.await.unwrap().assert_complete_stream();
    assert_eq!(gateway.ask(&turn(CHAT, "comes", false)).await.status, 200);
    assert_eq!(asked(&backend, &["leaves", "comes"]), ["comes"]);
}

#[tokio::test]
async fn interactive_before_batch_and_keys_take_turns() {
    let (gate, backend) = (Gate::new(), Backend::start().await);
    let keys = json!([
        {"name": "a", "key": "secret-of-a-0123456"},
        {"name": "b", "key": "secret-of-b-0123456"},
        {"name": "c", "key": "secret-of-c-0123456", "priority": "batch"},
    ]);
    let gateway = narrow(&[&backend], json!({}))
        .set("auth.keys", keys)
        .start()
        .await;
    backend.then(Reply::held(&gate));
    let key = |request: Request, name: &str| {
        request.header("Authorization", &format!("Bearer secret-of-{name}-0123456"))
    };
    let mut first = gateway.connect().await;
    first.send(&key(stream(), "a")).await;
    let mut first = first.answer().await;
    assert_eq!(first.content().await, "a");
    let mut clients = Vec::new();
    let names = [
        "c-one",
        "a-one",
        "a-two",
        "a-three",
        "b-one",
        "b-steps-back",
    ];
    for (n, name) in names.into_iter().enumerate() {
        let mut request = key(turn(CHAT, name, false), &name[..1]);
        if name == "c-one" {
            request = request.header("x-drover-priority", "interactive");
        }
        if name == "b-steps-back" {
            request = request.header("x-drover-priority", "batch");
        }
        let mut client = gateway.connect().await;
        client.send(&request).await;
        clients.push(client);
        // In this order.
        eventually("it waits", || async {
            let all = depth(&gateway, "interactive").await + depth(&gateway, "batch").await;
            (all == (n + 1) as f64).then_some(())
        })
        .await;
    }
    assert_eq!(depth(&gateway, "batch").await, 2.0, "c may not choose");
    gate.open();
    first.rest().await.assert_complete_stream();
    for mut client in clients {
        assert_eq!(client.answer().await.status, 200);
    }
    let expected = [
        "a-one",
        "b-one",
        "a-two",
        "a-three",
        "c-one",
        "b-steps-back",
    ];
    assert_eq!(asked(&backend, &names), expected);
}

#[tokio::test]
async fn a_count_of_tokens_waits_for_no_slot() {
    let (gate, backend) = (Gate::new(), Backend::start().await);
    let gateway = narrow(&[&backend], json!({"max_waiting": 0})).start().await;
    let first = busy(&gateway, &backend, &gate).await;
    backend.then(Reply::json(
        200,
        &json!({"input_tokens": 42, "object": "response.input_tokens"}),
    ));
    let counted = gateway
        .ask(&turn("/v1/messages/count_tokens", "hi", false))
        .await;
    assert_eq!(
        (counted.status, &counted.json()["input_tokens"]),
        (200, &json!(42))
    );
    gate.open();
    first.await.unwrap().assert_complete_stream();
}

#[tokio::test]
async fn who_waits_is_served_before_the_process_ends() {
    let (gate, backend) = (Gate::new(), Backend::start().await);
    let mut gateway = narrow(&[&backend], json!({})).start().await;
    let first = busy(&gateway, &backend, &gate).await;
    let mut client = gateway.connect().await;
    client.send(&turn(CHAT, "hi", true)).await;
    waiting(&gateway, "interactive", 1.0).await;
    gateway.terminate().await;
    let mut answer = client.answer().await;
    answer.event().await.unwrap();
    gate.open();
    first.await.unwrap().assert_complete_stream();
    answer.rest().await.assert_complete_stream();
    assert_eq!(gateway.exited().await.code(), Some(0));
}

#[tokio::test]
async fn backends_that_come_by_reload_take_who_waits() {
    let gate = Gate::new();
    let (old, new) = (Backend::start().await, Backend::start().await);
    let gateway = narrow(&[&old], json!({})).start().await;
    let first = busy(&gateway, &old, &gate).await;
    let mut client = gateway.connect().await;
    client.send(&turn(CHAT, "hi", true)).await;
    waiting(&gateway, "interactive", 1.0).await;
    gateway.write(&narrow(&[&old, &new], json!({"max_waiting": 7})));
    let told = gateway.admin_post("/api/reload").await.json();
    assert_eq!(told["result"], "applied", "{told}");
    let response = client.answer().await.rest().await;
    response.assert_complete_stream();
    assert_eq!((old.requests().len(), new.requests().len()), (1, 1));
    gate.open();
    first.await.unwrap().assert_complete_stream();
}

#[tokio::test]
async fn a_failed_turn_waits_for_another_backend_before_all_others() {
    let (gate, dying) = (Gate::new(), Gate::new());
    let (one, two) = (Backend::start().await, Backend::start().await);
    let gateway = narrow(&[&one, &two], json!({})).start().await;
    // The first answer holds one backend, the second dies on the other before it has said anything.
    one.then(Reply::held(&gate));
    let mut first = gateway.connect().await;
    first.send(&stream()).await;
    // Idle backends take turns.
    one.request(0).await;
    let (busy, other) = (&one, &two);
    other.then(Reply::new().gate(&dying).close());
    let mut fails = gateway.connect().await;
    fails.send(&turn(CHAT, "fails", false)).await;
    other.request(0).await;
    let mut waits = gateway.connect().await;
    waits.send(&turn(CHAT, "waits", false)).await;
    waiting(&gateway, "interactive", 1.0).await;
    other.set_health(Health::Loading);
    tokio::time::sleep(Duration::from_millis(500)).await;
    dying.open();
    waiting(&gateway, "interactive", 2.0).await;
    gate.open();
    for mut client in [fails, waits] {
        assert_eq!(client.answer().await.status, 200);
    }
    assert_eq!(asked(busy, &["fails", "waits"]), ["fails", "waits"]);
}

/// Regression: only this gateway's own requests counted, and more were sent to a server whose slots others had taken.
#[tokio::test]
async fn slots_that_other_clients_hold_are_left_to_them() {
    const SIM: &[&str] = &["--slots", "2", "--decode-tps", "20"];
    let sims = [Sim::start(SIM).await, Sim::start(SIM).await];
    let urls = sims.each_ref().map(|sim| sim.url.clone());
    // Two other clients at the first one, for longer than this test takes.
    let mut others = [sims[0].connect().await, sims[0].connect().await];
    for other in &mut others {
        other.send(&words(5000)).await;
        other.head().await;
    }
    let gateway = Setup::urls(&urls).start().await;
    let listed = async |key: &'static str, value: Value| {
        eventually(&format!("{key} of the first is {value}"), || async {
            let told = gateway.admin_get("/api/backends").await.json();
            (told["backends"][0][key] == value).then_some(())
        })
        .await;
    };
    listed("other_slots", json!(2)).await;
    listed("state", json!("busy")).await;
    let told = gateway.metric("drover_backend_other_slots", "b0").await;
    assert_eq!(told, 2.0);
    let mut clients = Vec::new();
    let mut id = None;
    for _ in 0..2 {
        let mut client = gateway.connect().await;
        client.send(&words(400)).await;
        let (_, headers) = client.head().await;
        assert_eq!(headers.get("x-drover-backend"), Some("b1"));
        id = headers.get("x-request-id").map(str::to_owned);
        clients.push(client);
    }
    let path = format!("/api/explain/{}", id.unwrap());
    let told = gateway.admin_get(&path).await.json();
    let full = &told["decisions"][0]["candidates"][0];
    let seen = (&full["standing"], &full["inflight"], &full["others"]);
    assert_eq!(seen, (&json!("full"), &json!(0), &json!(2)), "{told}");
    // Who comes now stands in the line inside the first one, after a look; the next one waits for a place.
    let mut joins = gateway.connect().await;
    joins.send(&words(2)).await;
    listed("inflight", json!(1)).await;
    let mut waits = gateway.connect().await;
    waits.send(&words(2)).await;
    waiting(&gateway, "interactive", 1.0).await;
    drop(others);
    for client in [&mut joins, &mut waits] {
        let (_, headers) = client.head().await;
        assert_eq!(headers.get("x-drover-backend"), Some("b0"));
    }
    listed("other_slots", json!(0)).await;
}

/// Asks a simulated server for an answer of so many words.
fn words(count: usize) -> Request {
    let step = json!([{ "text": "word ".repeat(count) }]);
    let message = json!({"role": "user", "content": format!("[[sim {step}]]")});
    let body = json!({"model": "m", "stream": true, "messages": [message]});
    post(CHAT, body.to_string())
}

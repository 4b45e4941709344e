//! What the simulator does over time: slots, deferral, caching, cancelling, misbehaving.

use std::time::Duration;

use rstest::rstest;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use super::client::{Answer, ask, chat, exchange, get, post, sim};
use pingora_core::services::background::BackgroundService;

use crate::sim::{ErrorStep, FailNext, Patch, SimConfig, SimHandle, SimService, Speculation};

fn user(text: &str) -> Value {
    json!({"messages": [{"role": "user", "content": text}]})
}

fn stream(text: &str) -> Value {
    json!({"messages": [{"role": "user", "content": text}], "stream": true})
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let waited = timeout(Duration::from_secs(5), async {
        while !condition() {
            sleep(Duration::from_millis(2)).await;
        }
    });
    assert!(waited.await.is_ok(), "{what}");
}

/// A request that is being answered; dropping it closes the connection.
async fn begin(sim: &SimHandle, body: &Value) -> TcpStream {
    let mut stream = TcpStream::connect(sim.address()).await.unwrap();
    stream
        .write_all(post("/v1/chat/completions", body, "").as_bytes())
        .await
        .unwrap();
    stream
}

async fn read_until(stream: &mut TcpStream, wanted: &str) -> String {
    let mut text = Vec::new();
    while !String::from_utf8_lossy(&text).contains(wanted) {
        let mut buffer = [0; 4096];
        let read = timeout(Duration::from_secs(5), stream.read(&mut buffer))
            .await
            .unwrap()
            .unwrap();
        assert!(
            read > 0,
            "ended before {wanted}: {}",
            String::from_utf8_lossy(&text)
        );
        text.extend_from_slice(&buffer[..read]);
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test]
async fn a_conversation_reuses_its_prefix() {
    let sim = sim(SimConfig {
        total_slots: 2,
        ..SimConfig::default()
    })
    .await;
    let mut messages = json!([{"role": "system", "content": "Be brief. ".repeat(50)}, {"role": "user", "content": "hi"}]);
    let first = chat(&sim, &json!({ "messages": messages })).await.json();
    assert_eq!(first["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
    let list = messages.as_array_mut().unwrap();
    list.push(first["choices"][0]["message"].clone());
    list.push(json!({"role": "user", "content": "more"}));
    let second = chat(&sim, &json!({ "messages": messages })).await.json();
    let cached = second["timings"]["cache_n"].as_u64().unwrap();
    let all = first["usage"]["total_tokens"].as_u64().unwrap();
    assert_eq!(
        cached,
        all - 1,
        "all but the last token, which was never decoded"
    );
    let uncached = chat(&sim, &json!({"messages": messages, "cache_prompt": false}))
        .await
        .json();
    assert_eq!(uncached["timings"]["cache_n"], 0);
}

#[tokio::test]
async fn answers_repeat_and_differ_by_prompt() {
    let (one, two) = (
        sim(SimConfig::default()).await,
        sim(SimConfig::default()).await,
    );
    let say = async |sim, text| {
        chat(sim, &user(text)).await.json()["choices"][0]["message"]["content"].clone()
    };
    assert_eq!(say(&one, "a").await, say(&two, "a").await);
    assert_ne!(say(&one, "a").await, say(&one, "b").await);
    assert_eq!(
        chat(&one, &stream("a")).await.content(),
        say(&one, "a").await.as_str().unwrap()
    );
}

#[tokio::test]
async fn requests_beyond_the_slots_wait_without_a_byte() {
    let sim = sim(SimConfig {
        total_slots: 1,
        ..SimConfig::default()
    })
    .await;
    let mut first = begin(&sim, &stream(r#"[[sim [{"text": "a"}, "silence"]]]"#)).await;
    read_until(&mut first, "content\":\"a\"").await;
    let mut second = begin(&sim, &stream("hi")).await;
    until("deferred", || sim.deferred() == 1).await;
    assert!(
        timeout(Duration::from_millis(50), second.readable())
            .await
            .is_err(),
        "no byte"
    );
    assert!(
        get(&sim, "/metrics")
            .await
            .text()
            .contains("llamacpp:requests_deferred 1\n")
    );
    drop(first);
    read_until(&mut second, "[DONE]").await;
    until("idle", || sim.busy() == 0 && sim.deferred() == 0).await;
}

#[tokio::test]
async fn a_deferred_client_that_leaves_gives_its_place_up() {
    let sim = sim(SimConfig {
        total_slots: 1,
        ..SimConfig::default()
    })
    .await;
    let _first = begin(&sim, &stream(r#"[[sim ["silence"]]]"#)).await;
    until("busy", || sim.busy() == 1).await;
    let second = begin(&sim, &stream("hi")).await;
    until("deferred", || sim.deferred() == 1).await;
    drop(second);
    until("left", || sim.deferred() == 0).await;
}

#[rstest]
#[case::stream(true)]
#[case::whole(false)]
#[tokio::test]
async fn a_client_that_leaves_frees_its_slot_at_once(#[case] streamed: bool) {
    let sim = sim(SimConfig {
        decode_tps: 50.0,
        prefill_tps: 1e6,
        ..SimConfig::default()
    })
    .await;
    let body = json!({"messages": [{"role": "user", "content": "x"}], "stream": streamed,
        "ignore_eos": true, "max_tokens": 5000});
    let stream = begin(&sim, &body).await;
    until("busy", || sim.busy() == 1).await;
    sleep(Duration::from_millis(60)).await;
    let left = Instant::now();
    drop(stream);
    until("idle", || sim.busy() == 0).await;
    assert!(
        left.elapsed() < Duration::from_millis(200),
        "{:?}",
        left.elapsed()
    );
    let text = get(&sim, "/metrics").await.text();
    assert!(
        !text.contains("llamacpp:tokens_predicted_total 0\n"),
        "cancelled tokens count: {text}"
    );
}

#[tokio::test]
async fn orphans_keep_their_slot() {
    let sim = sim(SimConfig {
        decode_tps: 100.0,
        ..SimConfig::default()
    })
    .await;
    sim.patch(Patch {
        orphans: Some(true),
        ..Patch::default()
    })
    .unwrap();
    let body = json!({"messages": [{"role": "user", "content": "x"}], "stream": true, "ignore_eos": true, "max_tokens": 30});
    let stream = begin(&sim, &body).await;
    until("busy", || sim.busy() == 1).await;
    drop(stream);
    sleep(Duration::from_millis(100)).await;
    assert_eq!(sim.busy(), 1);
    until("ended", || sim.busy() == 0).await;
}

#[tokio::test]
async fn speed_is_the_configured_one_and_timings_say_so() {
    let speculation: Speculation = "draft-simple".parse().unwrap();
    let sim = sim(SimConfig {
        decode_tps: 500.0,
        prefill_tps: 2000.0,
        speculation,
        ..SimConfig::default()
    })
    .await;
    let body = json!({"messages": [{"role": "user", "content": "x ".repeat(200)}], "ignore_eos": true,
        "max_tokens": 100, "stream": true, "timings_per_token": true});
    let start = Instant::now();
    let answer = chat(&sim, &body).await;
    let elapsed = start.elapsed().as_secs_f64() * 1e3;
    let events = answer.events();
    let timings = &events.last().unwrap()["timings"];
    let said = timings["prompt_ms"].as_f64().unwrap() + timings["predicted_ms"].as_f64().unwrap();
    assert!(
        elapsed >= said - 5.0 && elapsed < said + 250.0,
        "{elapsed} against {said}"
    );
    assert!(
        timings["predicted_per_second"].as_f64().unwrap() > 550.0,
        "drafts speed it up: {timings}"
    );
    // Each increase of the cumulative draft count is one verification step, as the counters say.
    let drafted: Vec<u64> = events
        .iter()
        .filter_map(|e| e["timings"]["draft_n"].as_u64())
        .collect();
    let mut steps = drafted.clone();
    steps.dedup();
    let metrics = get(&sim, "/metrics").await.text();
    for line in [
        format!("spec_decode_num_drafts_total {}", steps.len()),
        format!("spec_decode_num_draft_tokens_total {}", timings["draft_n"]),
        format!(
            "spec_decode_num_accepted_tokens_total {}",
            timings["draft_n_accepted"]
        ),
        "tokens_predicted_total 100".to_owned(),
    ] {
        assert!(
            metrics.contains(&format!("llamacpp:{line}\n")),
            "{line} in {metrics}"
        );
    }
}

#[tokio::test]
async fn connections_close_when_the_real_ones_do() {
    let sim = sim(SimConfig::default()).await;
    let many = "GET /health HTTP/1.1\r\nHost: sim\r\n\r\n".repeat(120);
    let text = String::from_utf8(exchange(&sim, &many).await).unwrap();
    assert_eq!(text.matches("{\"status\":\"ok\"}").count(), 100);
    assert_eq!(text.matches("Connection: close").count(), 1);
    let errors = "GET /nope HTTP/1.1\r\nHost: sim\r\n\r\n".repeat(2);
    let text = String::from_utf8(exchange(&sim, &errors).await).unwrap();
    assert_eq!(text.matches("HTTP/1.1 404").count(), 1);
    let start = Instant::now();
    exchange(&sim, "GET /health HTTP/1.1\r\nHost: sim\r\n\r\n").await;
    let idle = start.elapsed();
    assert!(
        idle > Duration::from_millis(4900) && idle < Duration::from_millis(5600),
        "{idle:?}"
    );
}

#[tokio::test]
async fn bodies_in_chunks_and_after_100_continue() {
    let sim = sim(SimConfig::default()).await;
    let body = user("[[sim [{\"text\": \"got it\"}]]]").to_string();
    let (a, b) = body.split_at(10);
    let raw = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: sim\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\
         Connection: close\r\n\r\n{:x}\r\n{a}\r\n{:x};x=y\r\n{b}\r\n0\r\n\r\n",
        a.len(),
        b.len()
    );
    let answer = exchange(&sim, &raw).await;
    let rest = answer
        .strip_prefix(b"HTTP/1.1 100 Continue\r\n\r\n")
        .unwrap();
    assert_eq!(
        Answer::parse(rest).json()["choices"][0]["message"]["content"],
        "got it"
    );
    let huge = format!(
        "POST /tokenize HTTP/1.1\r\nHost: sim\r\nContent-Length: {}\r\n\r\n",
        101 << 20
    );
    assert_eq!(Answer::parse(&exchange(&sim, &huge).await).status(), 413);
    let headers = "X-A: b\r\n".repeat(101);
    let many = format!("GET /health HTTP/1.1\r\nHost: sim\r\n{headers}\r\n");
    assert_eq!(Answer::parse(&exchange(&sim, &many).await).status(), 400);
}

#[rstest]
#[case::die(r#"[{"text": "a"}, "die"]"#, "a", false)]
#[case::reset(r#"[{"text": "a"}, "reset"]"#, "a", false)]
#[case::end(r#"[{"text": "a"}, "end"]"#, "a", true)]
#[case::no_done(r#"[{"text": "a"}, "no_done"]"#, "a", true)]
#[case::garbage(
    r#"[{"text": "a"}, {"garbage": "data: {\"cho\n\n"}, {"text": " b"}]"#,
    "a b",
    true
)]
#[case::no_role(r#"["no_role", {"text": "a"}]"#, "a", true)]
#[case::utf8(r#"[{"split_utf8": "a🦙é"}]"#, "a🦙é", true)]
#[case::chunks(r#"[{"chunks": ["a b c", "d"]}]"#, "a b cd", true)]
#[case::pause(r#"[{"text": "a"}, {"sleep_ms": 20}, {"text": "b"}]"#, "ab", true)]
#[case::finish(r#"[{"text": "a"}, {"finish": "content_filter"}]"#, "a", true)]
#[tokio::test]
async fn scripted_disturbances(#[case] script: &str, #[case] content: &str, #[case] whole: bool) {
    let sim = sim(SimConfig::default()).await;
    let answer = chat(&sim, &stream(&format!("[[sim {script}]]"))).await;
    assert_eq!((answer.status(), answer.whole), (200, whole));
    assert_eq!(answer.content(), content);
    let done = answer.text().contains("[DONE]");
    let ends = !["die", "reset", "\"end\"", "no_done"]
        .iter()
        .any(|word| script.contains(word));
    assert_eq!(done, ends);
    assert_eq!(
        answer.text().contains("\"role\""),
        !script.contains("no_role")
    );
    if script.contains("split_utf8") {
        assert!(
            answer
                .chunks
                .iter()
                .any(|chunk| std::str::from_utf8(chunk).is_err())
        );
    }
    if script.contains("garbage") {
        assert!(answer.text().contains("data: {\"cho\n\n"));
    }
    if script.contains("content_filter") {
        assert!(
            answer
                .text()
                .contains("\"finish_reason\":\"content_filter\"")
        );
    }
    until("idle", || sim.busy() == 0).await;
}

#[tokio::test]
async fn scripted_errors_before_any_byte() {
    let sim = sim(SimConfig::default()).await;
    let bytes = exchange(
        &sim,
        &post("/v1/chat/completions", &stream(r#"[[sim ["die"]]]"#), ""),
    )
    .await;
    assert!(bytes.is_empty());
    let refused = chat(&sim, &stream(r#"[[sim [{"fail": "template_system"}]]]"#)).await;
    assert_eq!(refused.status(), 500);
    assert!(
        refused
            .text()
            .contains("System message must be at the beginning")
    );
    let own = chat(
        &sim,
        &stream(r#"[[sim [{"http_error": {"status": 429, "message": "m", "type": "t"}}]]]"#),
    )
    .await;
    assert_eq!(
        own.text(),
        r#"{"error":{"code":429,"message":"m","type":"t"}}"#
    );
    let overflow = chat(
        &sim,
        &user(r#"[[sim [{"text": "a"}, {"fail": "kv_overflow"}]]]"#),
    )
    .await;
    assert_eq!(
        (
            overflow.status(),
            overflow.json()["error"]["message"].as_str()
        ),
        (500, Some("Context size has been exceeded."))
    );
    let header = post(
        "/v1/chat/completions",
        &user("x"),
        "Connection: close\r\nx-sim-script: [{\"text\":\"by header\"}]\r\n",
    );
    let answer = Answer::parse(&exchange(&sim, &header).await);
    assert_eq!(
        answer.json()["choices"][0]["message"]["content"],
        "by header"
    );
}

#[tokio::test]
async fn a_strict_template_refuses_late_system_messages() {
    let sim = sim(SimConfig {
        strict_system: true,
        ..SimConfig::default()
    })
    .await;
    let body =
        json!({"messages": [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}]});
    assert_eq!(chat(&sim, &body).await.status(), 500);
}

#[tokio::test]
async fn failures_by_number_and_changes_of_build() {
    let sim = sim(SimConfig::default()).await;
    let error = ErrorStep {
        status: 503,
        message: "busy".into(),
        kind: "unavailable_error".into(),
        body: None,
    };
    sim.patch(Patch {
        fail: Some(FailNext { times: 2, error }),
        build_info: Some("b9-x".into()),
        ..Patch::default()
    })
    .unwrap();
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(chat(&sim, &user("x")).await.status());
    }
    assert_eq!(statuses, [503, 503, 200]);
    assert_eq!(
        chat(&sim, &user("x")).await.json()["system_fingerprint"],
        "b9-x"
    );
    assert!(
        get(&sim, "/props")
            .await
            .text()
            .contains("\"build_info\":\"b9-x\"")
    );
    assert!(
        sim.patch(Patch {
            accept_rate: Some(1.5),
            ..Patch::default()
        })
        .is_err()
    );
}

#[tokio::test]
async fn wedged_slots_stay_busy_and_go_on() {
    let sim = sim(SimConfig {
        decode_tps: 1000.0,
        ..SimConfig::default()
    })
    .await;
    sim.patch(Patch {
        wedged: Some(true),
        ..Patch::default()
    })
    .unwrap();
    let mut stream = begin(&sim, &stream("hi")).await;
    until("busy", || sim.busy() == 1).await;
    let slots = |text: String| serde_json::from_str::<Value>(&text).unwrap();
    let before = slots(get(&sim, "/slots").await.text());
    sleep(Duration::from_millis(50)).await;
    assert_eq!(
        before,
        slots(get(&sim, "/slots").await.text()),
        "no progress"
    );
    let answer = ask(&sim, "/sim/resume", &json!({})).await;
    assert_eq!(answer.json()["wedged"], false);
    read_until(&mut stream, "[DONE]").await;
}

#[tokio::test]
async fn a_frozen_server_answers_only_its_control() {
    let sim = sim(SimConfig::default()).await;
    ask(&sim, "/sim/freeze", &json!({})).await;
    assert!(
        timeout(Duration::from_millis(80), get(&sim, "/health"))
            .await
            .is_err()
    );
    assert_eq!(get(&sim, "/sim/state").await.json()["frozen"], true);
    ask(&sim, "/sim/resume", &json!({})).await;
    assert_eq!(get(&sim, "/health").await.status(), 200);
}

#[tokio::test]
async fn death_cuts_streams_and_a_restart_comes_back_cold() {
    let sim = sim(SimConfig {
        load_time: Duration::from_millis(150),
        ..SimConfig::default()
    })
    .await;
    assert_eq!(get(&sim, "/health").await.status(), 503);
    sleep(Duration::from_millis(200)).await;
    let long = "word ".repeat(100);
    chat(&sim, &user(&long)).await;
    let mut open = begin(&sim, &stream(r#"[[sim [{"text": "a"}, "silence"]]]"#)).await;
    read_until(&mut open, "content\":\"a\"").await;
    ask(&sim, "/sim/die", &json!({"restart_ms": 100})).await;
    let mut rest = Vec::new();
    let _ = timeout(Duration::from_secs(2), open.read_to_end(&mut rest))
        .await
        .unwrap();
    assert!(!String::from_utf8_lossy(&rest).contains("0\r\n\r\n"));
    assert!(
        TcpStream::connect(sim.address()).await.is_err(),
        "refused while dead"
    );
    timeout(Duration::from_secs(3), async {
        while TcpStream::connect(sim.address()).await.is_err() {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
    assert_eq!(get(&sim, "/health").await.status(), 503, "loads again");
    sleep(Duration::from_millis(200)).await;
    assert_eq!(
        chat(&sim, &user(&long)).await.json()["timings"]["cache_n"],
        0
    );
    sim.stop().await;
}

#[tokio::test]
async fn a_shared_cache_that_overflows_fails_every_stream() {
    let sim = sim(SimConfig {
        kv_unified: true,
        n_ctx: 400,
        total_slots: 2,
        decode_tps: 2000.0,
        ..SimConfig::default()
    })
    .await;
    let body = |text: &str| json!({"messages": [{"role": "user", "content": text}], "stream": true, "ignore_eos": true});
    let (a, b) = (body("first story"), body("second story"));
    let (a, b) = tokio::join!(chat(&sim, &a), chat(&sim, &b));
    for answer in [a, b] {
        assert!(answer.whole && !answer.text().contains("[DONE]"));
        assert!(answer.text().ends_with("data: {\"error\":{\"code\":500,\"message\":\"Context size has been exceeded.\",\"type\":\"server_error\"}}\n\n"));
    }
    assert_eq!(chat(&sim, &user("x")).await.status(), 200);
}

#[tokio::test]
async fn silence_is_broken_by_pings() {
    let sim = sim(SimConfig {
        ping_interval: Duration::from_millis(20),
        ..SimConfig::default()
    })
    .await;
    let answer = chat(
        &sim,
        &stream(r#"[[sim [{"text": "a"}, {"sleep_ms": 120}, {"text": "b"}]]]"#),
    )
    .await;
    assert!(
        (3..=6).contains(&answer.text().matches(":\n\n").count()),
        "{}",
        answer.text()
    );
    assert_eq!(answer.data().len(), 5);
}

#[tokio::test]
async fn a_full_context_ends_with_length() {
    let sim = sim(SimConfig {
        n_ctx: 100,
        ..SimConfig::default()
    })
    .await;
    let answer = chat(
        &sim,
        &json!({"messages": [{"role": "user", "content": "x"}], "ignore_eos": true}),
    )
    .await
    .json();
    assert_eq!(
        (
            &answer["choices"][0]["finish_reason"],
            &answer["usage"]["total_tokens"]
        ),
        (&json!("length"), &json!(100))
    );
}

#[tokio::test]
async fn requests_are_recorded_as_they_came() {
    let sim = sim(SimConfig::default()).await;
    chat(&sim, &json!({"messages": [], "odd": {"b": 1}})).await;
    let requests = sim.requests();
    assert_eq!(requests[0].json()["odd"]["b"], 1);
    assert_eq!(requests[0].header("content-type"), Some("application/json"));
    let shown = get(&sim, "/sim/requests").await.json();
    assert_eq!(shown["requests"][0]["target"], "/v1/chat/completions");
    sim.clear_requests();
    assert!(sim.requests().is_empty());
}

#[tokio::test]
async fn keys_are_checked_like_the_real_ones() {
    let sim = sim(SimConfig {
        api_key: Some("k".into()),
        ..SimConfig::default()
    })
    .await;
    let status = async |headers: &str| {
        let raw = format!("GET /props HTTP/1.1\r\nHost: sim\r\nConnection: close\r\n{headers}\r\n");
        Answer::parse(&exchange(&sim, &raw).await).status()
    };
    assert_eq!(status("Authorization: Bearer k\r\n").await, 200);
    assert_eq!(status("Authorization: k\r\n").await, 200);
    assert_eq!(status("X-Api-Key: k\r\n").await, 200);
    assert_eq!(status("Authorization: bearer k\r\n").await, 401);
    assert_eq!(
        status("Authorization: Bearer z\r\nX-Api-Key: k\r\n").await,
        401
    );
    assert_eq!(get(&sim, "/health").await.status(), 200);
    assert_eq!(get(&sim, "/nope").await.status(), 401);
}

#[tokio::test]
async fn many_sims_share_a_process() {
    let sims = futures_of(64).await;
    for sim in &sims {
        assert_eq!(chat(sim, &stream("hi")).await.status(), 200);
    }
}

async fn futures_of(count: u64) -> Vec<SimHandle> {
    let mut sims = Vec::new();
    for seed in 0..count {
        sims.push(
            sim(SimConfig {
                seed,
                ..SimConfig::default()
            })
            .await,
        );
    }
    sims
}

#[tokio::test]
async fn runs_as_a_background_service() {
    let service = SimService::bind(SimConfig::default(), "127.0.0.1:0").unwrap();
    let address = service.address();
    let (down, shutdown) = tokio::sync::watch::channel(false);
    let running = tokio::spawn(async move { service.start(shutdown).await });
    assert!(TcpStream::connect(address).await.is_ok());
    down.send(true).unwrap();
    timeout(Duration::from_secs(2), running)
        .await
        .unwrap()
        .unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

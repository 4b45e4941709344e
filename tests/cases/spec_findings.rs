//! Findings of speculative decoding: each of them fires from outside, with what explains it, and its like does not.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rstest::rstest;
use serde_json::{Value, json};

use crate::support::script::{text, tool_call};
use crate::support::*;

/// Turns on each side of a change.
const TURNS: usize = 45;

/// Two backends that speculate, of which the first is built anew.
struct Bench {
    backends: [Backend; 2],
    setup: Setup,
}

impl Bench {
    async fn new(profile: &str) -> Self {
        let backends = [Backend::start().await, Backend::start().await];
        for backend in &backends {
            backend.set_health(Health::Speculates);
            answers(backend, Measured::usual);
        }
        let mut setup = Setup::to(&[&backends[0], &backends[1]]);
        for n in 0..2 {
            setup.config["fleet"]["pools"][0]["backends"][n]["profile"] = json!(profile);
        }
        Self { backends, setup }
    }

    async fn rebuild(&self, gateway: &Gateway) {
        self.backends[0].set_health(Health::Rebuilt);
        eventually("the other build", || async {
            let all = gateway.admin_get("/api/spec").await.json();
            let here = |b: &Value| b["build"] == "b99999-other";
            all["backends"]
                .as_array()
                .unwrap()
                .iter()
                .any(here)
                .then_some(())
        })
        .await;
    }
}

/// From now on answers are measured like this.
fn answers(backend: &Backend, measured: impl Fn(u64) -> Measured + Send + Sync + 'static) {
    let count = Arc::new(AtomicU64::new(0));
    backend.plays(true, move |_| {
        measured(count.fetch_add(1, Ordering::Relaxed)).reply()
    });
}

/// So many turns, each of a session of its own.
async fn turns(gateway: &Gateway, count: usize) {
    let mut client = gateway.connect().await;
    for n in 0..count {
        let said = format!("Tell me a story, number {n}, about the sea.");
        let body = json!({"model": "m", "max_tokens": 64, "stream": true,
            "messages": [{"role": "user", "content": said}]});
        let answer = client
            .ask(&post("/v1/chat/completions", body.to_string()))
            .await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        gateway.idle().await;
    }
}

/// A conversation that goes on and on.
async fn conversation(gateway: &Gateway, count: usize) {
    let mut client = gateway.connect().await;
    let mut messages = vec![json!({"role": "user", "content": "Tell me a story about the sea."})];
    for n in 0..count {
        let body = json!({"model": "m", "max_tokens": 64, "stream": true, "messages": messages});
        let answer = client
            .ask(&post("/v1/chat/completions", body.to_string()))
            .await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        messages.push(json!({"role": "assistant", "content": answer.said()}));
        messages
            .push(json!({"role": "user", "content": format!("Go on, for the time number {n}.")}));
        gateway.idle().await;
    }
}

async fn all(gateway: &Gateway) -> Vec<Value> {
    let all = gateway.admin_get("/api/spec/findings").await.json();
    all["findings"].as_array().unwrap().clone()
}

fn signatures(findings: &[Value]) -> Vec<&str> {
    let mut names: Vec<_> = findings
        .iter()
        .map(|f| f["signature"].as_str().unwrap())
        .collect();
    names.dedup();
    names
}

/// What becomes of the numbers of the rebuilt backend.
type Change = fn(&mut Measured);

#[rstest]
#[case::none("", |_: &mut Measured| {})]
#[case::slower("throughput_collapse_after_build_change", |m: &mut Measured| m.generated_ms *= 1.3)]
#[case::hardly_slower("", |m: &mut Measured| m.generated_ms *= 1.01)]
#[case::faster("", |m: &mut Measured| m.generated_ms /= 1.5)]
#[case::reads_slower("prefill_regression", |m: &mut Measured| m.prompt_ms *= 1.5)]
#[case::reads_faster("", |m: &mut Measured| m.prompt_ms /= 1.5)]
#[case::accepts_less("acceptance_collapse", |m: &mut Measured| (m.drafted, m.accepted) = (2, 1))]
#[case::accepts_more("", |m: &mut Measured| m.accepted = 4)]
#[case::drafts_in_vain("rollback_spike", |m: &mut Measured| m.drafted = 12)]
#[case::drafts_more_and_accepts_it("", |m: &mut Measured| (m.drafted, m.accepted) = (12, 9))]
#[tokio::test]
async fn a_change_with_a_build_has_its_sign_and_its_cause(
    #[case] signature: &str,
    #[case] change: Change,
) {
    let bench = Bench::new("draft-simple").await;
    let gateway = bench.setup.clone().start().await;
    turns(&gateway, 2 * TURNS).await;
    assert_eq!(all(&gateway).await, [] as [Value; 0], "nothing has changed");
    answers(&bench.backends[0], move |n| {
        let mut measured = Measured::usual(n);
        change(&mut measured);
        measured
    });
    bench.rebuild(&gateway).await;
    turns(&gateway, 2 * TURNS).await;
    let found = all(&gateway).await;
    let expected: &[&str] = if signature.is_empty() {
        &[]
    } else {
        &[signature]
    };
    assert_eq!(signatures(&found), expected, "{found:#?}");
    for finding in &found {
        assert_eq!(finding["place"]["backend"], "b0");
        assert_eq!(finding["before"]["build"], "b11434-test");
        assert_eq!(
            (
                &finding["blames"][0]["dimension"],
                &finding["blames"][0]["value"]
            ),
            (&json!("build"), &json!("b99999-other")),
            "{finding:#}"
        );
    }
    if !signature.is_empty() {
        let labels = "explained_by=\"build b99999-other\",pool=\"default\"";
        eventually("the finding in the metrics", || async {
            (gateway.metric("drover_spec_finding", labels).await >= 1.0).then_some(())
        })
        .await;
        let explained = r#""explained_by":"build b99999-other""#;
        gateway.logs(&["FINDING: ", explained]).await;
    }
}

/// Other work alone fires nothing, whatever build it comes with.
#[tokio::test]
async fn another_mix_of_work_with_another_build_is_no_finding() {
    let bench = Bench::new("draft-simple").await;
    for backend in &bench.backends {
        // Code is answered twice as fast as prose.
        let count = AtomicU64::new(0);
        backend.plays(true, move |body| {
            let n = count.fetch_add(1, Ordering::Relaxed);
            let mut measured = Measured::usual(n);
            let is_code = String::from_utf8_lossy(body).contains("main.rs");
            measured.generated_ms /= if is_code { 2.0 } else { 1.0 };
            measured.reply()
        });
    }
    let gateway = bench.setup.clone().start().await;
    let ask = async |code: usize, prose: usize| {
        for n in 0..code {
            let said = format!("Explain the function number {n} in src/main.rs to me.");
            let body = json!({"model": "m", "stream": true, "messages": [{"role": "user", "content": said}]});
            let answer = gateway
                .ask(&post("/v1/chat/completions", body.to_string()))
                .await;
            assert_eq!(answer.status, 200);
            gateway.idle().await;
        }
        turns(&gateway, prose).await;
    };
    ask(80, 30).await;
    bench.rebuild(&gateway).await;
    ask(30, 80).await;
    assert_eq!(all(&gateway).await, [] as [Value; 0]);
}

#[rstest]
#[case::with_a_build(true)]
#[case::all_of_a_sudden(false)]
#[tokio::test]
async fn a_cache_that_is_lost_is_found(#[case] rebuilt: bool) {
    let bench = Bench::new("draft-simple").await;
    let gateway = bench.setup.clone().start().await;
    conversation(&gateway, 30).await;
    assert_eq!(all(&gateway).await, [] as [Value; 0]);
    for backend in &bench.backends {
        answers(backend, |n| Measured {
            cached: 10 + n % 3,
            prompt: 990,
            prompt_ms: 990.0,
            ..Measured::usual(n)
        });
    }
    if rebuilt {
        bench.rebuild(&gateway).await;
    }
    conversation(&gateway, 60).await;
    let found = all(&gateway).await;
    assert_eq!(signatures(&found), ["cache_reprefill"], "{found:#?}");
}

/// Calls that cannot be used come up, and every draft is accepted: verification is broken.
#[rstest]
#[case::with_odd_acceptance(true)]
#[case::with_acceptance_as_ever(false)]
#[tokio::test]
async fn garbled_calls_are_told_from_merely_bad_ones(#[case] odd: bool) {
    let backend = Backend::start().await;
    backend.set_health(Health::Speculates);
    answers(&backend, Measured::usual);
    let mut setup = Setup::to(&[&backend]).set("guard.preset", json!("standard"));
    setup.config["fleet"]["pools"][0]["backends"][0]["profile"] = json!("draft-simple");
    let gateway = setup.start().await;
    let ask = async |count: usize| {
        let mut client = gateway.connect().await;
        for n in 0..count {
            let tool = json!({"type": "function", "function": {"name": "ls", "parameters":
                {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}}});
            let body = json!({"model": "m", "stream": true, "max_tokens": 64, "tools": [tool],
                "messages": [{"role": "user", "content": format!("Tell me a story, number {n}, about the sea.")}]});
            let answer = client
                .ask(&post("/v1/chat/completions", body.to_string()))
                .await;
            assert_eq!(answer.status, 200);
            gateway.idle().await;
        }
    };
    ask(160).await;
    let count = AtomicU64::new(0);
    backend.plays(true, move |_| {
        let n = count.fetch_add(1, Ordering::Relaxed);
        let mut measured = Measured::usual(n);
        if odd {
            measured.accepted = measured.drafted;
        }
        match n % 2 {
            0 => {
                let bad = tool_call(0, &format!("c{n}"), "ls", r#"{"wrong": 1}"#);
                let mut last = bad;
                last["timings"] = measured.timings(measured.steps)["timings"].clone();
                Reply::stream().event(&last).ends("tool_calls")
            }
            // Asked again, it must answer by the schema of a call.
            _ => {
                let mut good = text(r#"{"name": "ls", "arguments": {"path": "sea"}}"#);
                good["timings"] = measured.timings(measured.steps)["timings"].clone();
                Reply::stream().event(&good).ends("stop")
            }
        }
    });
    backend.set_health(Health::Rebuilt);
    eventually("the other build", || async {
        let all = gateway.admin_get("/api/spec").await.json();
        (all["backends"][0]["build"] == "b99999-other").then_some(())
    })
    .await;
    ask(60).await;
    let found = all(&gateway).await;
    let garbled = signatures(&found).contains(&"garbled_output");
    assert_eq!(garbled, odd, "{found:#?}");
    let rows = gateway.admin_get("/api/spec").await.json()["strata"].clone();
    let of = |row: &&Value| row["build"] == "b99999-other";
    let sum = |key: &str| -> u64 {
        let rows = rows.as_array().unwrap().iter().filter(of);
        rows.map(|row| row[key].as_u64().unwrap()).sum()
    };
    assert_eq!(
        (sum("turns"), sum("malformed")),
        (120, 60),
        "every attempt is observed"
    );
}

#[tokio::test]
async fn a_profile_that_never_drafts_is_silently_off_whatever_its_slots_say() {
    let bench = Bench::new("draft-simple").await;
    for backend in &bench.backends {
        answers(backend, |n| Measured {
            drafted: 0,
            accepted: 0,
            ..Measured::usual(n)
        });
    }
    // N-gram types draft what they have seen: of them it is no sign.
    let ngram = Bench::new("ngram-mod").await;
    for backend in &ngram.backends {
        answers(backend, |n| Measured {
            drafted: 0,
            accepted: 0,
            ..Measured::usual(n)
        });
    }
    let gateway = bench.setup.clone().start().await;
    let other = ngram.setup.clone().start().await;
    turns(&gateway, 30).await;
    turns(&other, 30).await;
    let found = all(&gateway).await;
    assert_eq!(signatures(&found), ["spec_silently_off"], "{found:#?}");
    assert_eq!(all(&other).await, [] as [Value; 0]);
}

/// `log_file`: followed over rotation, and nothing that a model said comes out of it.
#[tokio::test]
async fn a_log_file_is_followed_and_gives_away_no_text() {
    let backend = Backend::start().await;
    let room = tempfile::tempdir().unwrap();
    let file = room.path().join("llama.log");
    let full = "W srv decode: failed to find free space in the KV cache, retrying, off = 7\n";
    fs::write(&file, full).unwrap();
    let mut setup = Setup::to(&[&backend]);
    setup.config["fleet"]["pools"][0]["backends"][0]["log_file"] = json!(file);
    let gateway = setup.start().await;
    tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
    assert_eq!(all(&gateway).await, [] as [Value; 0], "it was there before");
    fs::rename(&file, room.path().join("llama.log.1")).unwrap();
    let said = "W common_chat_peg_parse: unparsed peg-native output: my secret plan\n";
    fs::write(&file, format!("I all is well\n{full}{full}{said}")).unwrap();
    let found = eventually("both kinds of lines", || async {
        let found = all(&gateway).await;
        (found.len() == 2).then_some(found)
    })
    .await;
    let kinds: Vec<&str> = found.iter().map(|f| f["line"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["kv_cache_full", "unreadable_call"]);
    assert_eq!(
        found[0]["evidence"],
        "2 times, the last: failed to find free space in the KV cache: 7"
    );
    let everything = format!("{found:?} {}", gateway.log().join("\n"));
    assert!(!everything.contains("secret plan"));
}

/// What the watchdog says of a slot is a finding as well, as long as it lasts.
#[tokio::test]
async fn a_slot_that_gets_nowhere_is_a_finding_until_it_gets_on() {
    let sim = Sim::start(&["--decode-tps", "20"]).await;
    let gateway = Setup::urls(std::slice::from_ref(&sim.url))
        .set("fleet.watchdog.stuck_after", json!("3s"))
        .set("fleet.watchdog.close_for", json!("1s"))
        .start()
        .await;
    let mut others = sim.connect().await;
    others.send(&chat(json!({"stream": true}))).await;
    others.answer().await.event().await;
    assert_eq!(all(&gateway).await, [] as [Value; 0]);
    sim.told("wedge").await;
    // One of ours makes the gateway look at the slots.
    let mut ours = gateway.connect().await;
    ours.send(&chat(json!({"stream": true, "max_tokens": 2})))
        .await;
    gateway.backend_is("b0", "wedged").await;
    let found = all(&gateway).await;
    assert_eq!(signatures(&found), ["slot_wedged"]);
    assert_eq!(found[0]["evidence"], "a slot is busy and makes no progress");
    sim.told("resume").await;
    gateway.backend_is("b0", "ready").await;
    assert_eq!(all(&gateway).await, [] as [Value; 0]);
    drop((others, ours));
}

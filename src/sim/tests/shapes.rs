//! Compares the simulator's answers with captured ones of llama-server b11434: header names and
//! their order, keys and their order, types, and which events share an HTTP chunk.

use std::{collections::BTreeSet, fmt};

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Value, json};

use super::client::{Answer, ask, chat, exchange, get, sim};
use crate::sim::{Patch, SimConfig, SimHandle};

/// JSON without its values; object keys in their order, equal neighbours of a list once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Shape {
    Null,
    Bool,
    Integer,
    Float,
    String,
    List(Vec<Shape>),
    Object(Vec<(String, Shape)>),
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShapeVisitor)
    }
}

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = Shape;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Shape, E> {
        Ok(Shape::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Shape, E> {
        Ok(Shape::Bool)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Shape, E> {
        Ok(Shape::Integer)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Shape, E> {
        Ok(Shape::Integer)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Shape, E> {
        Ok(Shape::Float)
    }

    fn visit_str<E>(self, _: &str) -> Result<Shape, E> {
        Ok(Shape::String)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Shape, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = seq.next_element()? {
            list.push(item);
        }
        list.dedup();
        Ok(Shape::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Shape, A::Error> {
        let mut object = Vec::new();
        while let Some(entry) = map.next_entry()? {
            object.push(entry);
        }
        Ok(Shape::Object(object))
    }
}

fn shape(json: &str) -> Shape {
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}"))
}

/// The shapes of the events of each HTTP chunk, equal neighbours once.
fn chunk_shapes(answer: &Answer) -> Vec<Vec<Shape>> {
    let chunk = |chunk: &Vec<u8>| {
        let text = std::str::from_utf8(chunk).unwrap();
        let events = text.split("\n\n").filter(|event| !event.trim().is_empty());
        events
            .map(|event| match event.strip_prefix("data: ") {
                Some("[DONE]") => Shape::List(vec![]),
                Some(data) => shape(data),
                None => panic!("no event: {event}"),
            })
            .collect::<Vec<_>>()
    };
    let mut shapes: Vec<_> = answer.chunks.iter().map(chunk).collect();
    shapes.dedup();
    shapes
}

fn captured(name: &str) -> Answer {
    let path = format!(
        "{}/tests/fixtures/llama/{name}.response.http",
        env!("CARGO_MANIFEST_DIR")
    );
    Answer::parse(&std::fs::read(path).unwrap())
}

fn same_head(ours: &Answer, real: &Answer, name: &str) {
    let status_line = |answer: &Answer| answer.head.lines().next().unwrap().to_owned();
    assert_eq!(status_line(ours), status_line(real), "{name}");
    assert_eq!(ours.header_names(), real.header_names(), "{name}");
    for header in [
        "Server",
        "Content-Type",
        "Access-Control-Allow-Origin",
        "Connection",
        "Keep-Alive",
    ] {
        assert_eq!(ours.header(header), real.header(header), "{name}: {header}");
    }
}

async fn small() -> SimHandle {
    let config = SimConfig {
        total_slots: 2,
        n_ctx: 512,
        ..SimConfig::default()
    };
    sim(config).await
}

fn say(script: &str, extra: Value) -> Value {
    let mut body = json!({"messages": [{"role": "user", "content": format!("[[sim {script}]]")}]});
    body.as_object_mut()
        .unwrap()
        .extend(extra.as_object().unwrap().clone());
    body
}

const CALL: &str = r#"[{"tool_call": {"name": "get_weather", "arguments": "{\"city\": \"Paris\", \"unit\": \"c\"}"}}]"#;
const CUT: &str =
    r#"[{"truncated_tool_call": {"name": "f", "arguments": "{\"a\": 1}", "cut": 2}}]"#;

#[tokio::test]
async fn streams_have_the_captured_chunks() {
    let sim = small().await;
    let usage = json!({"stream": true, "stream_options": {"include_usage": true}});
    let text = r#"[{"text": "Hello, welcome to my corner"}]"#;
    let progress = json!({"stream": true, "timings_per_token": true, "return_progress": true, "max_tokens": 4});
    let cases = [
        ("chat_stream", say(text, json!({"stream": true}))),
        ("chat_stream_usage", say(text, usage.clone())),
        ("chat_stream_timings_progress", say(text, progress)),
        ("toolsH_required_stream", say(CALL, usage)),
        ("toolsH_truncated_stream", say(CUT, json!({"stream": true}))),
        (
            "err_midstream_kv_overflow_chat_stream",
            say(
                r#"[{"text": "a b c"}, {"fail": "kv_overflow"}]"#,
                json!({"stream": true}),
            ),
        ),
        (
            "err_midstream_peg_parse_chat_stream",
            say(r#"[{"fail": "peg_parse"}]"#, json!({"stream": true})),
        ),
        (
            "reasoning_budget_stream",
            say(r#"[{"reasoning": "a b c d"}]"#, json!({"stream": true})),
        ),
        (
            "spec_ngram-simple_rep_stream_timings_per_token",
            say(
                r#"[{"text": "a b c d"}, {"burst": {"text": "a b c d", "drafted": 48, "accepted": 3}}]"#,
                json!({"stream": true, "timings_per_token": true, "max_tokens": 8}),
            ),
        ),
    ];
    for (name, body) in cases {
        let (ours, real) = (chat(&sim, &body).await, captured(name));
        same_head(&ours, &real, name);
        assert!(ours.whole, "{name}");
        assert_eq!(chunk_shapes(&ours), chunk_shapes(&real), "{name}");
    }
}

#[tokio::test]
async fn two_choices_have_one_usage_event_each() {
    let sim = small().await;
    let body = json!({"messages": [{"role": "user", "content": "hi"}], "max_tokens": 3, "n": 2,
        "stream": true, "stream_options": {"include_usage": true}});
    let (ours, real) = (chat(&sim, &body).await, captured("chat_stream_n2"));
    let set = |answer: &Answer| chunk_shapes(answer).into_iter().collect::<BTreeSet<_>>();
    assert_eq!(set(&ours), set(&real));
    let usages = ours
        .events()
        .iter()
        .filter(|event| event.get("usage").is_some())
        .count();
    assert_eq!(usages, 2);
    assert_eq!(
        ours.data().iter().filter(|data| *data == "[DONE]").count(),
        1
    );
}

#[tokio::test]
async fn whole_answers_have_the_captured_keys() {
    let sim = small().await;
    let hi = json!({"messages": [{"role": "user", "content": "hi"}], "max_tokens": 3});
    let with = |extra: Value| {
        let mut body = hi.clone();
        body.as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        body
    };
    let words = json!({"messages": [{"role": "user", "content": "word ".repeat(1000)}]});
    let prompt = |extra: Value| {
        let mut body = json!({"prompt": "Once upon", "max_tokens": 3});
        body.as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        body
    };
    let chat = "/v1/chat/completions";
    let cases = [
        ("chat_nonstream", chat, hi.clone()),
        ("chat_nonstream_n2", chat, with(json!({"n": 2}))),
        (
            "chat_nonstream_logprobs",
            chat,
            with(json!({"logprobs": true, "top_logprobs": 2})),
        ),
        ("toolsH_required_nonstream", chat, say(CALL, json!({}))),
        (
            "reasoning_budget_nonstream",
            chat,
            say(r#"[{"reasoning": "a b"}]"#, json!({})),
        ),
        ("err_400_context_chat", chat, words),
        (
            "completions_oai_nonstream",
            "/v1/completions",
            prompt(json!({})),
        ),
        (
            "completion_native_nonstream",
            "/completion",
            prompt(json!({})),
        ),
        (
            "err_501_embeddings",
            "/v1/embeddings",
            json!({"input": "x"}),
        ),
        (
            "tokenize",
            "/tokenize",
            json!({"content": "hello world", "with_pieces": true}),
        ),
    ];
    for (name, path, body) in cases {
        let (ours, real) = (ask(&sim, path, &body).await, captured(name));
        same_head(&ours, &real, name);
        assert_eq!(shape(&ours.text()), shape(&real.text()), "{name}");
    }
    for (name, path) in [
        ("completions_oai_stream", "/v1/completions"),
        ("completion_native_stream", "/completion"),
    ] {
        let body = prompt(json!({"stream": true, "return_tokens": true}));
        let (ours, real) = (ask(&sim, path, &body).await, captured(name));
        same_head(&ours, &real, name);
        assert_eq!(chunk_shapes(&ours), chunk_shapes(&real), "{name}");
    }
}

#[tokio::test]
async fn pages_have_the_captured_keys() {
    let sim = small().await;
    for (name, path) in [
        ("get_slots_idle_initial", "/slots"),
        ("get_props", "/props"),
        ("get_v1_models", "/v1/models"),
        ("get_404", "/nope"),
    ] {
        let (ours, real) = (get(&sim, path).await, captured(name));
        same_head(&ours, &real, name);
        assert_eq!(shape(&ours.text()), shape(&real.text()), "{name}");
    }
    let alive = "GET /health HTTP/1.1\r\nHost: sim\r\n\r\nGET /health HTTP/1.1\r\nConnection: close\r\n\r\n";
    same_head(
        &Answer::parse(&exchange(&sim, alive).await),
        &captured("get_health_keepalive"),
        "keep-alive",
    );
    for n in [1, 2] {
        chat(
            &sim,
            &json!({"messages": [{"role": "user", "content": "hi"}], "max_tokens": 3, "n": n}),
        )
        .await;
    }
    let ours = get(&sim, "/slots").await;
    assert_eq!(
        shape(&ours.text()),
        shape(&captured("get_slots_after").text())
    );
}

#[tokio::test]
async fn busy_slots_and_refusals_look_like_the_captured_ones() {
    let config = SimConfig {
        api_key: Some("k".into()),
        total_slots: 2,
        ..SimConfig::default()
    };
    let locked = sim(config).await;
    let (ours, real) = (
        get(&locked, "/props").await,
        captured("err_401_props_nokey"),
    );
    same_head(&ours, &real, "401");
    assert_eq!(ours.text(), real.text());
    locked
        .patch(Patch {
            loading: Some(true),
            ..Patch::default()
        })
        .unwrap();
    let (ours, real) = (
        get(&locked, "/health").await,
        captured("err_503_loading_health"),
    );
    same_head(&ours, &real, "503");
    assert_eq!(ours.text(), real.text());

    let sim = small().await;
    let busy = say(
        r#"[{"text": "a b"}, "silence"]"#,
        json!({"stream": true, "max_tokens": 50}),
    );
    tokio::join!(
        async {
            let _ = tokio::time::timeout(std::time::Duration::from_millis(300), async {
                tokio::join!(chat(&sim, &busy), chat(&sim, &busy))
            })
            .await;
        },
        async {
            while sim.busy() < 2 {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            let (ours, real) = (get(&sim, "/slots").await, captured("slots_two_busy"));
            assert_eq!(shape(&ours.text()), shape(&real.text()));
            let (ours, real) = (
                get(&sim, "/slots?fail_on_no_slot=1").await,
                captured("err_503_fail_on_no_slot"),
            );
            same_head(&ours, &real, "no slot");
            assert_eq!(ours.text(), real.text());
        }
    );
}

#[tokio::test]
async fn refusals_of_the_http_library_have_no_body() {
    let sim = small().await;
    for (name, header) in [
        (
            "err_400_transport_te_and_cl",
            "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n",
        ),
        (
            "transport_gzip_request",
            "Content-Encoding: gzip\r\nContent-Length: 2\r\n",
        ),
    ] {
        let raw = format!("POST /v1/chat/completions HTTP/1.1\r\nHost: sim\r\n{header}\r\n{{}}");
        let ours = Answer::parse(&exchange(&sim, &raw).await);
        same_head(&ours, &captured(name), name);
        assert_eq!(ours.text(), "");
    }
}

#[tokio::test]
async fn metrics_have_the_captured_lines() {
    let sim = small().await;
    let names = |answer: &Answer| {
        let text = answer.text();
        text.lines()
            .map(|line| {
                line.rsplit_once(' ')
                    .map_or(line, |(name, _)| name)
                    .to_owned()
            })
            .collect::<Vec<_>>()
    };
    let (ours, real) = (get(&sim, "/metrics").await, captured("get_metrics_initial"));
    assert_eq!(names(&ours), names(&real));
    assert_eq!(ours.header_names(), real.header_names());
    assert_eq!(ours.text(), real.text(), "all zero at first");
    let burst = say(
        r#"[{"text": "x"}, {"burst": {"text": "a b c", "drafted": 3, "accepted": 2}}]"#,
        json!({}),
    );
    chat(&sim, &burst).await;
    assert_eq!(
        names(&get(&sim, "/metrics").await),
        names(&captured("spec_ngram-simple_metrics_after"))
    );
}

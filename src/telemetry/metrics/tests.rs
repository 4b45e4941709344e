use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::fleet::DraftCounts;
use crate::spec::Signature;
use crate::telemetry::labels::{AbortCause, Configured, Dialect, Why};
use crate::telemetry::{BackendSample, FoundSample, QueueSample};
use crate::turn::Timings;

pub(super) fn text(metrics: &Metrics) -> String {
    String::from_utf8(metrics.encode().unwrap()).unwrap()
}

fn fleet() -> FleetSample {
    FleetSample {
        backends: vec![BackendSample {
            backend: "gpu0".into(),
            pool: "p".into(),
            state: "ready",
            states: &["ready", "down"],
            is_draining: true,
            is_ejected: true,
            inflight: 3,
            slots: Some(4),
            busy_slots: Some(1),
            other_slots: 1,
            kv_used: Some(0.25),
            n_ctx: Some(8192),
            build: "b1-abc".into(),
            model: "coder".into(),
            profile: "ngram-mod".into(),
            drafts: Some(Arc::new(DraftCounts {
                drafts: 9,
                drafted: 27,
                accepted: 13,
                at_position: vec![8, 5],
                ..DraftCounts::default()
            })),
        }],
        queues: vec![QueueSample {
            pool: "p".into(),
            class: "batch",
            waiting: 4,
        }],
        found: vec![FoundSample {
            signature: Signature::AcceptanceCollapse,
            pool: "p".into(),
            backend: "gpu0".into(),
            profile: "ngram-mod".into(),
            build: "b1-abc".into(),
            explained_by: "build b1-abc".to_owned(),
        }],
    }
}

#[test]
fn backend_gauges_follow_the_snapshot() {
    let metrics = Metrics::new().unwrap();
    assert!(!text(&metrics).contains("drover_backend_state{"));
    metrics.watch_fleet(fleet);
    let now = text(&metrics);
    for line in [
        r#"drover_backend_state{backend="gpu0",state="ready"} 1"#,
        r#"drover_backend_state{backend="gpu0",state="down"} 0"#,
        r#"drover_backend_draining{backend="gpu0"} 1"#,
        r#"drover_backend_ejected{backend="gpu0"} 1"#,
        r#"drover_inflight{backend="gpu0"} 3"#,
        r#"drover_queue_depth{class="batch",pool="p"} 4"#,
        r#"drover_backend_slots{backend="gpu0"} 4"#,
        r#"drover_backend_busy_slots{backend="gpu0"} 1"#,
        r#"drover_backend_other_slots{backend="gpu0"} 1"#,
        r#"drover_backend_kv_cache_ratio{backend="gpu0"} 0.25"#,
        r#"drover_backend_spec_drafts{backend="gpu0"} 9"#,
        r#"drover_backend_spec_accepted_at_position{backend="gpu0",position="1"} 5"#,
        r#"drover_spec_finding{backend="gpu0",build="b1-abc",explained_by="build b1-abc",pool="p","#,
        r#"drover_backend_info{backend="gpu0",build="b1-abc",model="coder",pool="p",profile="ngram-mod"} 1"#,
    ] {
        assert!(now.contains(line), "{line} in {now}");
    }
    metrics.watch_fleet(FleetSample::default);
    assert!(!text(&metrics).contains("gpu0"), "nothing stale is left");
}

#[test]
fn endpoint_pickers_find_their_names() {
    let metrics = Metrics::new().unwrap();
    metrics.watch_fleet(fleet);
    assert_eq!(metrics.encode_backend("gpu1").unwrap(), None);
    let text = metrics.encode_backend("gpu0").unwrap().unwrap();
    let text = String::from_utf8(text).unwrap();
    for line in [
        r#"vllm:num_requests_running{model_name="coder"} 3"#,
        r#"vllm:num_requests_waiting{model_name="coder"} 0"#,
        r#"vllm:kv_cache_usage_perc{model_name="coder"} 0.25"#,
        // As it counts itself.
        r#"vllm:spec_decode_num_drafts_total{model_name="coder"} 9"#,
        r#"vllm:spec_decode_num_draft_tokens_total{model_name="coder"} 27"#,
        r#"vllm:spec_decode_num_accepted_tokens_total{model_name="coder"} 13"#,
        r#"vllm:spec_decode_num_accepted_tokens_per_pos_total{model_name="coder",position="0"} 8"#,
        r#"vllm:spec_decode_num_accepted_tokens_per_pos_total{model_name="coder",position="1"} 5"#,
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

/// A server that shows no counts of its own is told by what this gateway has seen of it.
#[test]
fn drafts_are_told_of_servers_that_count_none() {
    let metrics = Metrics::new().unwrap();
    metrics.watch_fleet(|| {
        let mut fleet = fleet();
        fleet.backends[0].drafts = None;
        fleet
    });
    let timings = Timings {
        draft_n: Some(30),
        draft_n_accepted: Some(20),
        ..Timings::default()
    };
    let (pool, backend) = (Configured::name("p"), Configured::name("gpu0"));
    metrics.generated(pool, backend, &timings, Some(10));
    let text = metrics.encode_backend("gpu0").unwrap().unwrap();
    let text = String::from_utf8(text).unwrap();
    for line in [
        r#"vllm:spec_decode_num_drafts_total{model_name="coder"} 10"#,
        r#"vllm:spec_decode_num_draft_tokens_total{model_name="coder"} 30"#,
        r#"vllm:spec_decode_num_accepted_tokens_total{model_name="coder"} 20"#,
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    assert!(!text.contains("per_pos"), "{text}");
}

#[test]
fn every_name_has_a_prefix_and_every_counter_its_suffix() {
    let metrics = Metrics::new().unwrap();
    metrics.attempt(Why::First);
    metrics.upstream_abort(AbortCause::Timeout);
    metrics.upstream_connection(true);
    metrics.client_disconnect();
    metrics.inter_token(Configured::name("p")).observe(0.01);
    let pool = Configured::name("p");
    metrics.ttft(Dialect::OpenAi, pool, Duration::from_secs(1));
    for line in text(&metrics).lines().filter(|l| l.starts_with("# TYPE ")) {
        let mut words = line.split(' ').skip(2);
        let (name, kind) = (words.next().unwrap(), words.next().unwrap());
        let prefixes = ["drover_", "process_", "gen_ai_"];
        assert!(prefixes.iter().any(|p| name.starts_with(p)), "{name}");
        assert_eq!(
            kind == "counter",
            name.ends_with("_total"),
            "{name} is a {kind}"
        );
    }
}

/// 64 backends; a scrape must not be felt by those who are served meanwhile.
#[test]
fn a_large_fleet_is_scraped_quickly() {
    let metrics = Metrics::new().unwrap();
    metrics.watch_fleet(|| {
        let of = |n: usize| BackendSample {
            backend: format!("gpu{n}").into(),
            ..fleet().backends.swap_remove(0)
        };
        FleetSample {
            backends: (0..64).map(of).collect(),
            queues: Vec::new(),
            found: Vec::new(),
        }
    });
    for n in 0..16 {
        let pool = format!("pool{n}");
        metrics.inter_token(Configured::name(&pool)).observe(0.01);
        for dialect in Dialect::ALL {
            metrics.ttft(*dialect, Configured::name(&pool), Duration::from_secs(1));
        }
    }
    let begun = tokio::time::Instant::now();
    assert!(text(&metrics).contains("gpu63"));
    // 50 ms is the goal of an optimised build; this is neither that nor a quiet machine.
    let took = begun.elapsed();
    assert!(took < Duration::from_millis(500), "{took:?}");
}

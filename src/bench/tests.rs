//! Artifacts for tests.

use super::artifact::*;
use crate::config::RequestClass;

/// Two contestants on two workloads, 12 turns each at about 40 tokens a second; `speed` makes a turn of a contestant
/// faster or slower.
pub(crate) fn artifact(speed: impl Fn(&str, u32) -> f64) -> Artifact {
    let contestants = ["none", "ngram-mod"].map(|name| contestant(name, &speed));
    Artifact {
        version: VERSION,
        id: "0192f0c1-2b1c-7a00-8000-000000000001".to_owned(),
        started: "2026-01-01T00:00:00.000Z".to_owned(),
        took_s: 60.0,
        lineage: Lineage {
            drover: "0.1.0".to_owned(),
            gateway: "embedded".to_owned(),
            hardware: Hardware {
                cpu: Some("a processor".to_owned()),
                threads: 2,
                memory_bytes: Some(1 << 30),
                gpus: Vec::new(),
                os: "linux x86_64".to_owned(),
                kernel: None,
                load_1m: Some(0.1),
            },
            parent: None,
        },
        protocol: Protocol {
            runs: 12,
            warmup: 1,
            max_tokens: 64,
            temperature: 0.0,
            seed: 1,
            order: "interleaved".to_owned(),
            prompts_sha256: "00".repeat(32),
        },
        contestants: contestants.into(),
    }
}

fn contestant(name: &str, speed: &impl Fn(&str, u32) -> f64) -> ContestantResult {
    let cell = |(workload, class)| {
        let turns: Vec<_> = (0..12)
            .map(|n| turn(n, class, name, speed(name, n)))
            .collect();
        Cell {
            workload,
            summary: Summary::of(&turns),
            turns,
        }
    };
    let cells = [
        (Workload::Repetitive, RequestClass::Repetitive),
        (Workload::Prose, RequestClass::Prose),
    ];
    let counted = Counters {
        drafted: 2 * 12 * 30,
        accepted: 2 * 12 * 20,
        verify_steps: 2 * 12 * 10,
    };
    ContestantResult {
        name: name.to_owned(),
        profile: None,
        flags: vec!["--spec-type".to_owned(), name.to_owned()],
        build: Some("b1-abc".to_owned()),
        model: Some(Model {
            file: "m.gguf".to_owned(),
            sha256: Some("11".repeat(32)),
            bytes: Some(3),
        }),
        draft_model: None,
        speculates: Some(name != "none"),
        totals: Totals {
            gateway: counted,
            server: Some(counted),
            equal: Some(true),
        },
        cells: cells.map(cell).into(),
    }
}

fn turn(prompt: u32, class: RequestClass, name: &str, speed: f64) -> TurnResult {
    // Prompts differ, and the same one differs a little from run to run.
    let wobble = 1.0 + 0.02 * f64::from(prompt % 5);
    let decode_tps = 40.0 * wobble * speed;
    TurnResult {
        prompt,
        class: Some(class),
        latency_ms: 100.0 + 64_000.0 / decode_tps,
        ttft_ms: Some(100.0 * wobble),
        prompt_tokens: 200,
        prompt_ms: 100.0 * wobble,
        generated_tokens: 64,
        generated_ms: 64_000.0 / decode_tps,
        drafts: match name {
            "none" => Counters::default(),
            _ => Counters {
                drafted: 30,
                accepted: 20,
                verify_steps: 10,
            },
        },
        stop: StopReason::Length,
        malformed: false,
    }
}

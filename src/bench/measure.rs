//! The measurement itself.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;
use uuid::Uuid;

use super::artifact::{
    Artifact, Cell, ContestantResult, Counters, Lineage, Protocol, StopReason, Summary, TurnResult,
    VERSION, Workload,
};
use super::client::Answer;
use super::contestant::Contestant;
use super::lineage;
use super::process::Children;
use super::prompt::{self, Prompt};
use super::stage::{Gateway, Stage, StageError, totals};
use crate::config::RequestClass;

/// Time after which servers and gateway have counted what has ended.
const SETTLED: Duration = Duration::from_millis(1500);
/// Longest wait for the gateway's record of a turn, which it writes when the last byte is out.
const RECORD: Duration = Duration::from_secs(5);
/// What guards see in answers whose call cannot be used (docs/guards.md).
const MALFORMED: [&str; 7] = [
    "malformed",
    "invalid",
    "truncated",
    "unknown_tool",
    "half_sent_call",
    "missed_call",
    "leaked_fragment",
];

/// What is to be measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Who; the first is what the others are compared with.
    pub contestants: Vec<Contestant>,
    /// On what.
    pub workloads: Vec<Workload>,
    /// Measured turns of each on each.
    pub runs: u32,
    /// Turns of each on each before.
    pub warmup: u32,
    /// Most tokens of an answer.
    pub max_tokens: u32,
    /// Sampling temperature.
    pub temperature: f64,
    /// Makes prompts, order and samples repeatable.
    pub seed: u64,
    /// Number of the first measured prompt: a further measurement with other prompts begins elsewhere.
    pub first: u32,
    /// Longest turn.
    pub patience: Duration,
    /// After this time no further round is begun.
    pub until: Option<Instant>,
    /// An earlier artifact that this one continues.
    pub parent: Option<PathBuf>,
}

/// The gateway's record of a turn, as far as it matters here.
#[derive(Deserialize)]
struct Story {
    request: Record,
}

#[derive(Deserialize)]
struct Record {
    class: Option<RequestClass>,
    #[serde(default)]
    drafted: u64,
    #[serde(default)]
    accepted: u64,
    #[serde(default)]
    verify_steps: u64,
    #[serde(default)]
    interventions: Vec<String>,
}

/// Measures, and tells `progress` how far it is.
///
/// # Errors
/// [`StageError::Usage`] when the plan cannot work, [`StageError::Failed`] when servers or gateway do not do what they
/// should. A turn that fails is part of the result.
pub fn measure(
    plan: &Plan,
    gateway: &Gateway,
    children: &Children,
    progress: &dyn Fn(&str),
) -> Result<Artifact, StageError> {
    let usage = |error: super::Unusable| StageError::Usage(error.to_string());
    let parent = plan
        .parent
        .as_deref()
        .map(lineage::parent)
        .transpose()
        .map_err(usage)?;
    let started = humantime::format_rfc3339_millis(std::time::SystemTime::now()).to_string();
    let since = Instant::now();
    let hardware = lineage::hardware();
    progress(&format!("starting {} servers", plan.contestants.len()));
    let stage = Stage::set(&plan.contestants, gateway, plan.patience, children)?;
    let before = stage.counted()?;
    let (turns, runs) = all_turns(plan, &stage, progress)?;
    std::thread::sleep(SETTLED);
    let after = stage.counted()?;
    let contestants = turns.into_iter().enumerate().map(|(seat, turns)| {
        let contestant = &stage.seats[seat].contestant;
        let server = stage.server(seat);
        ContestantResult {
            name: contestant.name.clone(),
            profile: contestant.profile.clone(),
            flags: server
                .map(|server| server.flags.clone())
                .unwrap_or_default(),
            build: server.and_then(|server| server.build.clone()),
            model: server.and_then(|server| server.model.clone()),
            draft_model: server.and_then(|server| server.draft_model.clone()),
            speculates: server.and_then(|server| server.speculates),
            totals: totals(before[seat], after[seat]),
            cells: plan.workloads.iter().zip(turns).map(cell).collect(),
        }
    });
    let numbers = plan.first..plan.first + runs;
    Ok(Artifact {
        version: VERSION,
        id: Uuid::now_v7().to_string(),
        started,
        contestants: contestants.collect(),
        lineage: Lineage {
            drover: env!("CARGO_PKG_VERSION").to_owned(),
            gateway: match stage.embedded {
                true => "embedded".to_owned(),
                false => stage.url.clone(),
            },
            hardware,
            parent,
        },
        protocol: Protocol {
            runs,
            warmup: plan.warmup,
            max_tokens: plan.max_tokens,
            temperature: plan.temperature,
            seed: plan.seed,
            order: "interleaved".to_owned(),
            prompts_sha256: prompt::sha256(plan.seed, &plan.workloads, numbers),
        },
        took_s: (since.elapsed().as_secs_f64() * 10.0).round() / 10.0,
    })
}

fn cell((workload, turns): (&Workload, Vec<TurnResult>)) -> Cell {
    Cell {
        workload: *workload,
        summary: Summary::of(&turns),
        turns,
    }
}

/// Turns by seat and workload.
type Turns = Vec<Vec<Vec<TurnResult>>>;

/// Warm-up and rounds; the turns, and how many rounds there were.
fn all_turns(
    plan: &Plan,
    stage: &Stage,
    progress: &dyn Fn(&str),
) -> Result<(Turns, u32), StageError> {
    let seats = stage.seats.len();
    let mut turns: Turns = vec![vec![Vec::new(); plan.workloads.len()]; seats];
    // Prompts from the far end, which no measured turn will have.
    for n in 0..plan.warmup {
        progress(&format!("warm-up {} of {}", n + 1, plan.warmup));
        for workload in &plan.workloads {
            for seat in 0..seats {
                one(plan, stage, seat, *workload, u32::MAX - n)?;
            }
        }
    }
    let mut done = 0;
    while done < plan.runs
        && !plan
            .until
            .is_some_and(|end| done > 0 && Instant::now() >= end)
    {
        progress(&format!("round {} of {}", done + 1, plan.runs));
        for (w, workload) in plan.workloads.iter().enumerate() {
            for seat in order(seats, done, w as u32) {
                let turn = one(plan, stage, seat, *workload, plan.first + done)?;
                turns[seat][w].push(turn);
            }
        }
        done += 1;
    }
    Ok((turns, done))
}

/// Who comes when: everybody once with each prompt, every second prompt in the other direction, and another one first
/// each time, so that nobody always runs after the same neighbour.
fn order(seats: usize, round: u32, workload: u32) -> Vec<usize> {
    let turn = (round + workload) as usize;
    let mut order: Vec<usize> = (0..seats).map(|n| (n + turn / 2) % seats).collect();
    if turn % 2 == 1 {
        order.reverse();
    }
    order
}

/// One turn of the contestant in `seat`.
fn one(
    plan: &Plan,
    stage: &Stage,
    seat: usize,
    workload: Workload,
    number: u32,
) -> Result<TurnResult, StageError> {
    let (prompt, at) = (Prompt::new(plan.seed, workload, number), &stage.seats[seat]);
    let mut body = json!({
        "model": at.model, "stream": true, "stream_options": { "include_usage": true },
        "messages": prompt.messages, "max_tokens": plan.max_tokens, "temperature": plan.temperature,
        "seed": plan.seed,
        // The prompt is read whole each time: what a cache holds is not what is measured.
        "cache_prompt": false,
    });
    if let Some(tools) = prompt.tools {
        body["tools"] = tools;
    }
    let session = format!(
        "bench-{}-{}-{number}",
        at.contestant.name,
        workload.as_str()
    );
    let mut headers = vec![
        ("x-drover-session", session.as_str()),
        ("x-drover-guard", "observe"),
    ];
    if !stage.embedded {
        headers.push(("x-drover-spec", &at.contestant.name));
    }
    let url = format!("{}/v1/chat/completions", stage.url);
    let started = Instant::now();
    let answer = match stage
        .client
        .turn(&url, &headers, stage.key.as_ref(), &body.to_string())
    {
        Ok(answer) => answer,
        Err(why) => {
            tracing::debug!(%why, "a turn failed");
            return Ok(failed(number, started.elapsed()));
        }
    };
    match &answer.profile {
        Some(ran) if *ran != at.contestant.name => {
            return Err(StageError::Failed(format!(
                "asked for profile {}, the gateway says that {ran} ran",
                at.contestant.name
            )));
        }
        _ => {}
    }
    let record = record(stage, &answer.request_id)?;
    Ok(result(number, &answer, &record))
}

fn result(prompt: u32, answer: &Answer, record: &Record) -> TurnResult {
    let ms = |time: Duration| (time.as_secs_f64() * 1e6).round() / 1e3;
    let timings = answer.timings.unwrap_or_default();
    TurnResult {
        prompt,
        class: record.class,
        latency_ms: ms(answer.latency),
        ttft_ms: answer.ttft.map(ms),
        prompt_tokens: timings.prompt_n,
        prompt_ms: timings.prompt_ms,
        generated_tokens: timings.predicted_n,
        generated_ms: timings.predicted_ms,
        drafts: Counters {
            drafted: record.drafted,
            accepted: record.accepted,
            verify_steps: record.verify_steps,
        },
        stop: match answer.finish.as_deref() {
            Some("length") => StopReason::Length,
            Some("tool_calls") => StopReason::ToolCalls,
            _ => StopReason::End,
        },
        malformed: record
            .interventions
            .iter()
            .any(|kind| MALFORMED.contains(&kind.as_str())),
    }
}

fn failed(prompt: u32, took: Duration) -> TurnResult {
    TurnResult {
        prompt,
        class: None,
        latency_ms: took.as_secs_f64() * 1e3,
        ttft_ms: None,
        prompt_tokens: 0,
        prompt_ms: 0.0,
        generated_tokens: 0,
        generated_ms: 0.0,
        drafts: Counters::default(),
        stop: StopReason::Failed,
        malformed: false,
    }
}

/// The gateway's record of a turn. Once it is there, the turn has been counted.
fn record(stage: &Stage, request: &str) -> Result<Record, StageError> {
    let url = format!("{}/api/requests/{request}", stage.admin);
    let since = Instant::now();
    loop {
        let told: Result<Story, _> = stage.client.json(&url, stage.admin_token.as_ref());
        match told {
            Ok(story) => return Ok(story.request),
            Err(why) if since.elapsed() > RECORD => {
                return Err(StageError::Failed(format!(
                    "{why}; does the gateway remember requests (telemetry.recent_requests)?"
                )));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_each_prompt_once_and_nobody_is_always_first() {
        let mut first = [0; 4];
        for round in 0..8 {
            let order = order(4, round, 0);
            let mut all = order.clone();
            all.sort_unstable();
            assert_eq!(all, [0, 1, 2, 3]);
            first[order[0]] += 1;
        }
        assert_eq!(first, [2; 4]);
        assert_eq!(order(1, 3, 1), [0]);
    }
}

//! `drover bench autotune`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use tokio::time::Instant;

use super::setup::{ServerArgs, TurnArgs, usage};
use super::{progress, with_children};
use crate::bench::measure::{Plan, measure};
use crate::bench::tune::{Budget, Found, Grid, Group, Method, Search, search};
use crate::bench::{Children, StageError};
use crate::config::SpecType;

/// Arguments of `drover bench autotune`.
#[derive(Args, Clone, Debug)]
pub(super) struct AutotuneArgs {
    /// Type whose settings are looked for
    #[arg(long = "type", value_name = "TYPE", default_value = "ngram-mod", value_parser = kind)]
    kind: SpecType,
    /// Values of n_match to try [default: some usual ones, for each setting that the type has]
    #[arg(long, value_name = "N", value_delimiter = ',')]
    n_match: Vec<u32>,
    /// Values of n_min to try
    #[arg(long, value_name = "N", value_delimiter = ',')]
    n_min: Vec<u32>,
    /// Values of n_max to try
    #[arg(long, value_name = "N", value_delimiter = ',')]
    n_max: Vec<u32>,
    /// Values of p_min to try
    #[arg(long, value_name = "P", value_delimiter = ',')]
    p_min: Vec<f64>,
    /// How candidates are weeded out
    #[arg(long, value_enum, default_value_t = By::Halving)]
    method: By,
    /// Begin no further group of candidates after this time
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = humantime::parse_duration)]
    budget: Duration,
    /// Most turns, warm-up included
    #[arg(long, value_name = "N", default_value_t = 5000)]
    max_turns: u64,
    /// Turns of each candidate and workload to begin with
    #[arg(long, value_name = "N", default_value_t = 2)]
    runs: u32,
    /// Turns of each winner and workload at the end, with prompts that were not used before
    #[arg(long, value_name = "N", default_value_t = 10)]
    confirm: u32,
    /// Servers that run at a time, one of them without speculation
    #[arg(long, value_name = "N", default_value_t = 4)]
    at_once: usize,
    #[command(flatten)]
    servers: ServerArgs,
    #[command(flatten)]
    turns: TurnArgs,
    /// Folder for the artifacts and the recommendation
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum By {
    /// All at length
    Grid,
    /// All briefly, then half of them twice as long, and so on
    #[default]
    Halving,
}

fn kind(name: &str) -> Result<SpecType, String> {
    let found = SpecType::ALL.into_iter().find(|kind| kind.as_str() == name);
    let found = found.filter(|kind| *kind != SpecType::None);
    let names: Vec<&str> = SpecType::ALL.iter().map(|kind| kind.as_str()).collect();
    found.ok_or_else(|| format!("there are {}", names[1..].join(", ")))
}

/// Searches and prints the configuration to use.
pub(super) fn run(args: &AutotuneArgs) -> ExitCode {
    let args = args.clone();
    with_children("bench autotune", move |children| tune(&args, children))
}

fn tune(args: &AutotuneArgs, children: &Children) -> Result<ExitCode, StageError> {
    if args.at_once < 2 || args.runs == 0 || args.confirm < 2 {
        return Err(usage(
            "--at-once and --confirm are 2 or more, --runs 1 or more",
        ));
    }
    let gateway = args.servers.gateway()?;
    let failed =
        |error: std::io::Error| StageError::Failed(format!("{}: {error}", args.out.display()));
    std::fs::create_dir_all(&args.out).map_err(failed)?;
    let plan = Search {
        candidates: grid(args).candidates(args.kind).map_err(usage)?,
        workloads: args.turns.workloads(),
        method: match args.method {
            By::Grid => Method::Grid,
            By::Halving => Method::Halving,
        },
        runs: args.runs,
        confirm: args.confirm,
        warmup: 1,
        at_once: args.at_once,
        budget: Budget {
            until: Instant::now() + args.budget,
            turns: args.max_turns,
        },
    };
    progress(&format!("{} candidates", plan.candidates.len()));
    let mut groups = 0;
    let found = search(&plan, &mut |group: Group<'_>| {
        groups += 1;
        progress(&format!("group {groups}: {} runs", group.runs));
        let plan = Plan {
            contestants: group.contestants,
            workloads: group.workloads.to_vec(),
            runs: group.runs,
            warmup: plan.warmup,
            max_tokens: args.turns.max_tokens,
            temperature: args.turns.temperature,
            seed: args.turns.seed,
            first: group.first,
            patience: args.turns.timeout,
            until: None,
            parent: None,
        };
        let artifact = measure(&plan, &gateway, children, &progress)?;
        let file = args.out.join(format!("group-{groups}.json"));
        artifact.write(&file).map_err(failed)?;
        Ok(artifact)
    })?;
    let text = format!("{}{}", scores(&found), found.to_yaml());
    std::fs::write(args.out.join("recommendation.yaml"), &text).map_err(failed)?;
    Ok(super::print("bench autotune", &text))
}

/// What is to be tried: what was named, or what is usual where nothing was.
fn grid(args: &AutotuneArgs) -> Grid {
    let named = Grid {
        n_match: args.n_match.clone(),
        n_min: args.n_min.clone(),
        n_max: args.n_max.clone(),
        p_min: args.p_min.clone(),
    };
    let nothing = named.n_match.is_empty()
        && named.n_min.is_empty()
        && named.n_max.is_empty()
        && named.p_min.is_empty();
    match nothing {
        true => Grid::usual(args.kind),
        false => named,
    }
}

/// All candidates by score, as comments.
fn scores(found: &Found) -> String {
    let mut text = format!(
        "# {} turns. Decode speed against no speculation, median over prompts:\n",
        found.turns
    );
    for (workload, scores) in &found.scores {
        let mut all: Vec<_> = scores.iter().collect();
        all.sort_by(|a, b| b.1.0.total_cmp(&a.1.0));
        for (name, (score, prompts)) in all {
            let percent = (score.exp() - 1.0) * 100.0;
            text.push_str(&format!(
                "#   {:<10} {name:<32} {percent:+.0} % ({prompts} prompts)\n",
                workload.as_str()
            ));
        }
    }
    text
}

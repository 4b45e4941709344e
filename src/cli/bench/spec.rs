//! `drover bench spec`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio::time::Instant;

use super::setup::{GivenArgs, ServerArgs, TurnArgs, contestant, known, usage};
use super::{progress, with_children};
use crate::bench::measure::{Plan, measure};
use crate::bench::{Artifact, Children, Contestant, Gateway, StageError, report};

/// What is measured where nothing is said: what needs no further model.
const USUAL: [&str; 6] = [
    "none",
    "ngram-mod",
    "ngram-simple",
    "ngram-map-k",
    "ngram-map-k4v",
    "ngram-cache",
];

/// Exit code when the counts of gateway and server differ.
const EXIT_UNEQUAL: u8 = 2;

/// Arguments of `drover bench spec`.
#[derive(Args, Clone, Debug)]
pub(super) struct SpecArgs {
    /// A profile: a built-in one, one of --config, or NAME={type: ngram-mod, n_max: 32}; repeat for each. The first is
    /// what the others are compared with [default: none and the n-gram types]
    #[arg(long = "profile", value_name = "PROFILE")]
    profiles: Vec<String>,
    /// A configuration whose `spec.profiles` are known
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    servers: ServerArgs,
    #[command(flatten)]
    given: GivenArgs,
    #[command(flatten)]
    turns: TurnArgs,
    /// Measured turns of each profile and workload
    #[arg(long, value_name = "N", default_value_t = 10)]
    runs: u32,
    /// Turns of each profile and workload before
    #[arg(long, value_name = "N", default_value_t = 1)]
    warmup: u32,
    /// Begin no further round after this time
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    budget: Option<Duration>,
    /// An earlier artifact that this one continues
    #[arg(long, value_name = "FILE")]
    parent: Option<PathBuf>,
    /// Folder for artifact.json, report.md and plots
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Exit with code 2 when gateway and server have not counted the same
    #[arg(long)]
    check_totals: bool,
}

/// Measures: 0, or 2 with `--check-totals` when the counts differ.
pub(super) fn run(args: &SpecArgs) -> ExitCode {
    let args = args.clone();
    with_children("bench spec", move |children| bench(&args, children))
}

fn bench(args: &SpecArgs, children: &Children) -> Result<ExitCode, StageError> {
    let (gateway, contestants) = who(args)?;
    if args.runs == 0 {
        return Err(usage("--runs is 1 or more"));
    }
    let mut names: Vec<&str> = contestants.iter().map(|c| c.name.as_str()).collect();
    names.sort_unstable();
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(usage("a profile is named twice"));
    }
    let plan = Plan {
        contestants,
        workloads: args.turns.workloads(),
        runs: args.runs,
        warmup: args.warmup,
        max_tokens: args.turns.max_tokens,
        temperature: args.turns.temperature,
        seed: args.turns.seed,
        first: 0,
        patience: args.turns.timeout,
        until: args.budget.map(|budget| Instant::now() + budget),
        parent: args.parent.clone(),
    };
    let artifact = measure(&plan, &gateway, children, &progress)?;
    keep(&artifact, &args.out)?;
    Ok(tell(&artifact, args.check_totals))
}

fn who(args: &SpecArgs) -> Result<(Gateway, Vec<Contestant>), StageError> {
    let known = known(args.config.as_deref())?;
    if let Some(given) = args.given.gateway(&args.profiles, &known)? {
        if given.1.is_empty() {
            return Err(usage(
                "--gateway needs a --profile for each that is to be measured",
            ));
        }
        return Ok(given);
    }
    let mut names: Vec<&str> = args.profiles.iter().map(String::as_str).collect();
    if names.is_empty() {
        names = USUAL.to_vec();
        // A draft model that is named is there to be measured.
        names.extend(args.servers.draft_model.as_ref().map(|_| "draft-simple"));
    }
    let contestants = names.iter().map(|name| contestant(name, &known));
    Ok((
        args.servers.gateway()?,
        contestants.collect::<Result<_, _>>()?,
    ))
}

/// Writes the artifact and its report.
pub(super) fn keep(artifact: &Artifact, folder: &Path) -> Result<(), StageError> {
    let written = std::fs::create_dir_all(folder)
        .and_then(|()| artifact.write(&folder.join("artifact.json")))
        .and_then(|()| report::write(artifact, folder));
    written.map_err(|error| StageError::Failed(format!("{}: {error}", folder.display())))
}

fn tell(artifact: &Artifact, check: bool) -> ExitCode {
    let code = super::print("bench spec", &report::markdown(artifact));
    let unequal = artifact
        .contestants
        .iter()
        .any(|c| c.totals.equal != Some(true));
    match unequal && check {
        true => ExitCode::from(EXIT_UNEQUAL),
        false => code,
    }
}

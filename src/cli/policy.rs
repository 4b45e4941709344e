//! `drover policy`: do the rules compile, and what would they decide.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};

use super::{EXIT_INTERNAL, EXIT_USAGE, check, fail};
use crate::config;
use crate::policy::Engine;
use crate::replay::{self, Change, Effect, Outcome, cases};

/// Exit code when a case does not come out as expected.
const EXIT_FAILED: u8 = 1;

/// Longest arguments printed, in characters.
const MOST_SHOWN: usize = 160;

/// Check rules, and try them on what happened
#[derive(Args, Clone, Debug)]
pub struct PolicyArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Clone, Debug)]
enum Command {
    /// Compile the rules; name every mistake with its line and column
    Check(Check),
    /// Try the rules on recorded decisions, on a conversation, or on cases in a file
    Test(Box<Test>),
}

#[derive(Args, Clone, Debug)]
struct Check {
    /// Configuration file
    #[arg(long, short, value_name = "FILE", env = "DROVER_CONFIG")]
    config: PathBuf,
}

#[derive(Args, Clone, Debug)]
struct Test {
    /// Configuration file with the rules to try
    #[arg(long, short, value_name = "FILE", env = "DROVER_CONFIG")]
    config: PathBuf,
    /// What happened: the directory of an audit log, or a file with a client's request (its JSON body, or the whole
    /// request with its header)
    #[arg(long, value_name = "PATH")]
    replay: Option<PathBuf>,
    /// Cases: a YAML file of calls and what is expected of them
    #[arg(long, value_name = "FILE", required_unless_present = "replay")]
    cases: Option<PathBuf>,
    /// Profiles for a replayed request, separated by commas; records name their own
    #[arg(long, value_name = "NAMES", default_value = "")]
    profile: String,
    /// Working directory for a replayed request
    #[arg(long, value_name = "PATH")]
    root: Option<String>,
    /// Print the changes as JSON, for other programs
    #[arg(long)]
    json: bool,
}

/// Runs it: 0 when all is well, 1 when a case fails, 64 when the rules have mistakes.
#[must_use]
pub fn run(args: &PolicyArgs) -> ExitCode {
    let file = match &args.command {
        Command::Check(args) => &args.config,
        Command::Test(args) => &args.config,
    };
    let engine = match engine(file) {
        Ok(engine) => engine,
        Err(error) => return fail("policy", EXIT_USAGE, error),
    };
    let done = match &args.command {
        Command::Check(_) => summary(&engine),
        Command::Test(args) => test(args, &engine),
    };
    match done {
        Ok(code) => code,
        Err(Failure::Usage(error)) => fail("policy", EXIT_USAGE, error),
        Err(Failure::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(Failure::Io(error)) => fail("policy", EXIT_INTERNAL, error),
    }
}

/// Why nothing was tried.
enum Failure {
    Usage(String),
    Io(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn engine(file: &Path) -> Result<Arc<Engine>, String> {
    let config = config::load(Some(file), check::environment());
    let config = config.map_err(|errors| format!("invalid configuration\n{errors}"))?;
    let engine = config.policy.as_ref().and_then(|policy| policy.engine());
    engine
        .cloned()
        .ok_or_else(|| "there is no section `policy`".to_owned())
}

fn summary(engine: &Engine) -> Result<ExitCode, Failure> {
    let mut lines = vec![format!("{} rules compile", engine.rule_ids().count())];
    lines.extend(engine.profiles().map(|name| {
        let default = if engine.default_profile() == Some(name) {
            " (for every turn)"
        } else {
            ""
        };
        format!("profile {name}{default}")
    }));
    check::print(&lines.join("\n"))?;
    Ok(ExitCode::SUCCESS)
}

fn test(args: &Test, engine: &Arc<Engine>) -> Result<ExitCode, Failure> {
    let mut code = ExitCode::SUCCESS;
    if let Some(file) = &args.cases
        && !run_cases(file, engine)?
    {
        code = ExitCode::from(EXIT_FAILED);
    }
    if let Some(path) = &args.replay {
        let outcome = match path.is_dir() {
            true => replay::records(path, engine)?,
            false => {
                let text = read(path)?;
                let root = args.root.clone();
                let outcome = replay::conversation(&text, engine, &args.profile, root);
                outcome.map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))?
            }
        };
        match args.json {
            true => {
                check::print(&serde_json::to_string_pretty(&outcome).map_err(io::Error::from)?)?
            }
            false => check::print(&told(&outcome))?,
        }
    }
    Ok(code)
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))
}

/// Whether all came out as expected.
fn run_cases(file: &Path, engine: &Arc<Engine>) -> Result<bool, Failure> {
    let place = |error: String| Failure::Usage(format!("{}: {error}", file.display()));
    let text = String::from_utf8(read(file)?).map_err(|error| place(error.to_string()))?;
    let cases = cases::parse(&text).map_err(place)?;
    let mut out = io::stdout().lock();
    let mut failed = 0;
    for case in &cases {
        if let Err(why) = case.run(engine) {
            failed += 1;
            writeln!(out, "FAILED {}: {why}", case.name)?;
        }
    }
    writeln!(
        out,
        "{} of {} cases as expected",
        cases.len() - failed,
        cases.len()
    )?;
    Ok(failed == 0)
}

fn told(outcome: &Outcome) -> String {
    let mut lines: Vec<String> = outcome.changes.iter().map(line).collect();
    lines.push(format!(
        "{} judged again: {} newly blocked, {} newly allowed, {} newly rewritten, {} as before",
        outcome.replayed,
        outcome.newly(Effect::Blocked),
        outcome.newly(Effect::Allowed),
        outcome.newly(Effect::Rewritten),
        outcome
            .replayed
            .saturating_sub(outcome.changes.len() as u64),
    ));
    for (why, count) in &outcome.not_replayed {
        lines.push(format!("{count} not judged again: {why}"));
    }
    lines.join("\n")
}

fn line(change: &Change) -> String {
    let place = match change.call {
        Some(call) => format!("call {call}"),
        None if change.seq > 0 => format!("record {}", change.seq),
        None => change.stage.clone(),
    };
    let by = |ruling: &replay::Ruling| match (&*ruling.rule, &*ruling.reason) {
        ("", _) => String::new(),
        (rule, "") => format!(" by {rule}"),
        (rule, reason) => format!(" by {rule} ({reason})"),
    };
    let short = |text: &str| text.chars().take(MOST_SHOWN).collect::<String>();
    let new = change.now.new.as_deref().map(short);
    let new = new.map(|new| format!(" -> {new}")).unwrap_or_default();
    format!(
        "{}{}, was {}{}: {place} {} {}{new}",
        change.now.effect.as_str(),
        by(&change.now),
        change.before.effect.as_str(),
        by(&change.before),
        change.tool,
        short(&change.arguments),
    )
}

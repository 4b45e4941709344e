//! `drover bench`: measure speculative profiles, compare measurements, look for settings.

mod autotune;
mod compare;
mod setup;
mod spec;

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{EXIT_INTERNAL, EXIT_USAGE, fail};
use crate::bench::{Children, StageError};

/// Measure speculative profiles on real llama-servers
#[derive(Args, Clone, Debug)]
pub struct BenchArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Measure profiles side by side: an artifact (JSON), and a report with plots
    Spec(spec::SpecArgs),
    /// Compare two artifacts: better, worse or no difference; exit code 1 when anything is worse
    Compare(compare::CompareArgs),
    /// Look for the settings of a profile, within a budget; prints the configuration to use
    Autotune(autotune::AutotuneArgs),
    /// Print the JSON Schema of artifacts
    Schema,
}

/// Runs the subcommand.
#[must_use]
pub fn run(args: &BenchArgs) -> ExitCode {
    match &args.command {
        Command::Spec(args) => spec::run(args),
        Command::Compare(args) => compare::run(args),
        Command::Autotune(args) => autotune::run(args),
        Command::Schema => match serde_json::to_string_pretty(&crate::bench::schema()) {
            Ok(text) => print("bench schema", &text),
            Err(error) => fail("bench schema", EXIT_INTERNAL, error),
        },
    }
}

fn print(command: &str, text: &str) -> ExitCode {
    match super::check::print(text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(command, EXIT_INTERNAL, error),
    }
}

/// Tells how far it is.
fn progress(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Runs `work`, which starts programs; a signal ends those, and with them this process.
fn with_children(
    command: &str,
    work: impl FnOnce(&Children) -> Result<ExitCode, StageError> + Send + 'static,
) -> ExitCode {
    let children = Children::default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(command, EXIT_INTERNAL, error),
    };
    let theirs = children.clone();
    let done = runtime.block_on(async {
        let work = tokio::task::spawn_blocking(move || work(&theirs));
        tokio::select! {
            done = work => Some(done),
            _ = interrupted() => None,
        }
    });
    children.end();
    // The thread of an interrupted measurement may still wait for an answer that will not come.
    runtime.shutdown_background();
    match done {
        None => fail(command, EXIT_INTERRUPTED, "interrupted"),
        Some(Err(error)) => fail(command, EXIT_INTERNAL, error),
        Some(Ok(Ok(code))) => code,
        Some(Ok(Err(error @ StageError::Usage(_)))) => fail(command, EXIT_USAGE, error),
        Some(Ok(Err(error @ StageError::Failed(_)))) => fail(command, EXIT_INTERNAL, error),
    }
}

/// Exit code after SIGINT, as shells have it.
const EXIT_INTERRUPTED: u8 = 130;

/// Waits for SIGINT or SIGTERM; for ever where they cannot be waited for.
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
        }
        Err(_) => std::future::pending().await,
    }
}

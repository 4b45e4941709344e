//! The `drover` command: one file a subcommand.

pub mod admin;
pub mod audit;
pub mod check;
pub mod demo;
pub mod doctor;
pub mod policy;
pub mod rollout;
pub mod serve;
pub mod sim;
pub mod top;

use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use check::{EXIT_INTERNAL, EXIT_USAGE};

/// The front door of a fleet of llama.cpp llama-server backends used by coding agents
#[derive(Debug, Parser)]
#[command(
    name = "drover",
    version,
    propagate_version = true,
    max_term_width = 100
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway
    Serve(serve::ServeArgs),
    /// Validate a configuration and print what is in effect
    Check(check::CheckArgs),
    /// Ask every backend about itself and name what is wrong or unwise; changes nothing
    Doctor(doctor::DoctorArgs),
    /// Watch a running gateway in the terminal: fleet, turns, requests, guards
    Top(top::TopArgs),
    /// Verify, follow and search the audit log
    Audit(audit::AuditArgs),
    /// Check rules, and try them on what happened
    Policy(policy::PolicyArgs),
    /// Try a speculative profile, a build or a backend on part of the sessions of a running gateway
    Rollout(rollout::RolloutArgs),
    /// Run the gateway on two simulated backends, with nothing to configure
    Demo(demo::DemoArgs),
    Sim(Box<sim::SimArgs>),
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // `--help` and `--version` come this way too, for standard output.
            let asked = !error.use_stderr();
            let _ = error.print();
            return if asked {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(EXIT_USAGE)
            };
        }
    };
    match cli.command {
        Command::Serve(args) => serve::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Top(args) => top::run(&args),
        Command::Audit(args) => audit::run(&args),
        Command::Policy(args) => policy::run(&args),
        Command::Rollout(args) => rollout::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Sim(args) => sim::run(&args),
    }
}

/// Prints an error as `drover COMMAND: ERROR` and gives the exit code for it.
fn fail(command: &str, code: u8, error: impl fmt::Display) -> ExitCode {
    let _ = writeln!(io::stderr().lock(), "drover {command}: {error}");
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn subcommands_take_their_arguments() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' '));
        assert!(matches!(
            parse("drover serve --config f.yaml").unwrap().command,
            Command::Serve(args) if args.config.as_deref() == Some("f.yaml".as_ref())
        ));
        assert!(parse("drover demo --listen 127.0.0.1:0 --admin 127.0.0.1:0").is_ok());
        assert!(parse("drover").is_err());
        assert!(parse("drover serve --nonsense").is_err());
    }
}

//! The `drover` command: one file a subcommand.

pub mod admin;
pub mod audit;
pub mod bench;
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

use crate::telemetry;

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
    /// Measure speculative profiles on real llama-servers, compare measurements, look for settings
    Bench(Box<bench::BenchArgs>),
    /// Try a speculative profile, a build or a backend on part of the sessions of a running gateway
    Rollout(rollout::RolloutArgs),
    /// Verify, follow and search the audit log
    Audit(audit::AuditArgs),
    /// Check rules, and try them on what happened
    Policy(policy::PolicyArgs),
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
        Command::Bench(args) => bench::run(&args),
        Command::Rollout(args) => rollout::run(&args),
        Command::Audit(args) => audit::run(&args),
        Command::Policy(args) => policy::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Sim(args) => sim::run(&args),
    }
}

/// Prints an error as `drover COMMAND: ERROR` and gives the exit code for it.
fn fail(command: &str, code: u8, error: impl fmt::Display) -> ExitCode {
    // What led to it comes first.
    telemetry::log::flush();
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

    /// Long flags of a command and all below it.
    fn flags(command: &clap::Command, all: &mut Vec<String>) {
        let own = command.get_arguments().filter_map(clap::Arg::get_long);
        all.extend(own.map(|name| format!("--{name}")));
        command.get_subcommands().for_each(|sub| flags(sub, all));
    }

    /// Flags that the page about speculation in production names are Drover's, or in the list of llama-server's, which
    /// `make test-llama` compares with `llama-server --help`; and every type has its place there.
    #[test]
    fn flags_in_the_documentation_are_there() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/");
        let read = |path: &str| std::fs::read_to_string(format!("{root}{path}")).unwrap();
        let list = read("tests/fixtures/spec/llama-server-flags.txt");
        let mut known: Vec<String> = list.lines().map(str::to_owned).collect();
        flags(&Cli::command(), &mut known);
        // Named because they are gone.
        known.extend(["--draft-max", "--draft-min", "--help"].map(str::to_owned));
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let page = read("docs/speculative-production.md");
        let mut seen = 0;
        for (at, _) in page.match_indices("--") {
            let rest = &page[at..];
            let flag = rest.split(|c: char| !is_part(c)).next().unwrap();
            if flag.trim_matches('-').is_empty() || page[..at].ends_with(is_part) {
                continue;
            }
            // `--spec-ngram-*` stands for several.
            let family = rest[flag.len()..].starts_with('*');
            let is_known = |name: &String| name == flag || (family && name.starts_with(flag));
            assert!(known.iter().any(is_known), "{flag} is no flag");
            seen += 1;
        }
        assert!(seen > 30, "{seen}");
        for kind in list.lines().filter_map(|line| line.strip_prefix("type ")) {
            let row = page
                .lines()
                .any(|line| line.starts_with('|') && line.contains(&format!("`{kind}`")));
            assert!(row, "{kind} is not described");
        }
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

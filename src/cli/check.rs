//! `drover check`: validate a configuration and show what it amounts to, without binding anything.

use std::fmt;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use crate::config::{self, Config};

/// Exit code for wrong usage and invalid configuration (`EX_USAGE` of sysexits.h).
pub const EXIT_USAGE: u8 = 64;
/// Exit code for failures of the program itself (`EX_SOFTWARE` of sysexits.h).
pub const EXIT_INTERNAL: u8 = 70;

/// Check a configuration and print what it amounts to, secrets redacted; nothing is bound.
#[derive(Args, Clone, Debug, Default)]
pub struct CheckArgs {
    /// Configuration file; without it the defaults and the environment are checked
    #[arg(long, short, value_name = "FILE", env = "DROVER_CONFIG")]
    pub config: Option<PathBuf>,
    /// Form in which the effective configuration is shown
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// Print the reference of all keys in Markdown instead
    #[arg(long)]
    pub print_docs: bool,
}

/// Form of the effective configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// YAML, as configuration files are written
    #[default]
    Yaml,
    /// JSON, for other programs
    Json,
}

/// Checks the configuration: prints it (secrets redacted) and succeeds, or prints every mistake to
/// standard error and fails with [`EXIT_USAGE`].
pub fn run(args: &CheckArgs) -> ExitCode {
    let text = if args.print_docs {
        Ok(config::markdown())
    } else {
        match config::load(args.config.as_deref(), environment()) {
            Ok(config) => render(&config, args.format),
            Err(errors) => {
                let _ = writeln!(io::stderr().lock(), "{errors}");
                return ExitCode::from(EXIT_USAGE);
            }
        }
    };
    match text.and_then(|text| print(&text)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr().lock(), "drover check: {error}");
            ExitCode::from(EXIT_INTERNAL)
        }
    }
}

/// The process environment for [`config::load`]; variables that are not UTF-8 cannot be ours.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

fn render(config: &Config, format: Format) -> io::Result<String> {
    match format {
        Format::Yaml => serde_saphyr::to_string(config).map_err(other),
        Format::Json => serde_json::to_string_pretty(config).map_err(other),
    }
}

fn other(error: impl fmt::Display) -> io::Error {
    io::Error::other(error.to_string())
}

pub(super) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let written = out
        .write_all(text.trim_end().as_bytes())
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush());
    match written {
        // `drover check | head` is no failure.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

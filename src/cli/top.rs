//! `drover top`: the fleet at a glance in a terminal.

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::admin::AdminArgs;
use super::{EXIT_INTERNAL, EXIT_USAGE, check, fail};
use crate::top;

/// Longest wait of `--once`.
const PATIENCE: Duration = Duration::from_secs(10);
/// Size of the page of `--once`.
const PAGE: (u16, u16) = (160, 50);

/// Arguments of `drover top`.
#[derive(Args, Clone, Debug)]
pub struct TopArgs {
    /// Where it is
    #[command(flatten)]
    pub at: AdminArgs,
    /// Print the fleet once as text, and end
    #[arg(long)]
    pub once: bool,
}

/// Shows the gateway until a key ends it.
#[must_use]
pub fn run(args: &TopArgs) -> ExitCode {
    let usage = |error: &dyn std::fmt::Display| fail("top", EXIT_USAGE, error);
    let address = match args.at.address() {
        Ok(address) => address,
        Err(error) => return usage(&error),
    };
    let shown = if args.once {
        top::once(address, PATIENCE, PAGE.0, PAGE.1).and_then(|page| check::print(page.trim_end()))
    } else if io::stdout().is_terminal() && io::stdin().is_terminal() {
        top::watch(address)
    } else {
        return usage(&"this is no terminal; --once prints text");
    };
    match shown {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail("top", EXIT_INTERNAL, error),
    }
}

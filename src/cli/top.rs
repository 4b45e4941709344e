//! `drover top`: the fleet at a glance in a terminal.

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::{EXIT_INTERNAL, EXIT_USAGE, check, fail};
use crate::config::{self, Secret};
use crate::top::{self, Address};

/// Longest wait of `--once`.
const PATIENCE: Duration = Duration::from_secs(10);
/// Size of the page of `--once`.
const PAGE: (u16, u16) = (160, 50);

/// Arguments of `drover top`.
#[derive(Args, Clone, Debug)]
pub struct TopArgs {
    /// Admin address of the gateway [default: that of --config, else 127.0.0.1:9090]
    #[arg(long, value_name = "ADDR", env = "DROVER_ADMIN")]
    pub admin: Option<String>,
    /// Environment variable with the admin token [default: that of --config, else DROVER_ADMIN_TOKEN]
    #[arg(long, value_name = "NAME")]
    pub token_env: Option<String>,
    /// The gateway's configuration, for its admin address and token
    #[arg(long, short, value_name = "FILE", env = "DROVER_CONFIG")]
    pub config: Option<PathBuf>,
    /// Print the fleet once as text, and end
    #[arg(long)]
    pub once: bool,
}

/// Shows the gateway until a key ends it.
#[must_use]
pub fn run(args: &TopArgs) -> ExitCode {
    let usage = |error: &dyn std::fmt::Display| fail("top", EXIT_USAGE, error);
    let address = match address(args) {
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

fn address(args: &TopArgs) -> Result<Address, String> {
    let configured = match (&args.config, &args.admin) {
        (Some(file), None) => {
            let config = config::load(Some(file), check::environment());
            Some(
                config
                    .map_err(|errors| format!("invalid configuration\n{errors}"))?
                    .admin,
            )
        }
        _ => None,
    };
    let token = match &args.token_env {
        Some(name) => Some(std::env::var(name).map_err(|error| format!("{name}: {error}"))?),
        None => std::env::var("DROVER_ADMIN_TOKEN").ok(),
    };
    let of_config = || configured.as_ref()?.token().cloned();
    let token = token.map(Secret::new).or_else(of_config);
    let admin = configured.as_ref().map(|admin| admin.addr.clone());
    let admin = args.admin.clone().or(admin);
    let admin = admin.unwrap_or_else(|| config::Admin::default().addr);
    Address::new(&admin, token).map_err(|error| error.to_string())
}

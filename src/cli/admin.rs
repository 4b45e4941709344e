//! How commands find the admin address of a running gateway.

use std::path::PathBuf;

use clap::Args;

use super::check;
use crate::config::{self, Secret};
use crate::top::Address;

/// Where a running gateway is, and what it asks for.
#[derive(Args, Clone, Debug)]
pub struct AdminArgs {
    /// Admin address of the gateway; --config is not read then [default: that of --config, else 127.0.0.1:9090]
    #[arg(long, value_name = "ADDR", env = "DROVER_ADMIN", global = true)]
    pub admin: Option<String>,
    /// Environment variable with the admin token [default: that of --config, else DROVER_ADMIN_TOKEN]
    #[arg(long, value_name = "NAME", global = true)]
    pub token_env: Option<String>,
    /// The gateway's configuration, for its admin address and token
    #[arg(long, short, value_name = "FILE", env = "DROVER_CONFIG", global = true)]
    pub config: Option<PathBuf>,
}

impl AdminArgs {
    /// The address, with its token.
    ///
    /// # Errors
    /// What is wrong with the arguments, in words.
    pub(super) fn address(&self) -> Result<Address, String> {
        let configured = match (&self.config, &self.admin) {
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
        let of_config = || configured.as_ref()?.token().cloned();
        let token = match &self.token_env {
            Some(name) => {
                let token = std::env::var(name).map_err(|error| format!("{name}: {error}"))?;
                Some(Secret::new(token))
            }
            // The variable may be meant for another gateway than the configuration's.
            None => {
                of_config().or_else(|| Some(Secret::new(std::env::var("DROVER_ADMIN_TOKEN").ok()?)))
            }
        };
        let admin = configured.as_ref().map(|admin| admin.addr.clone());
        let admin = self.admin.clone().or(admin);
        let admin = admin.unwrap_or_else(|| config::Admin::default().addr);
        Address::new(&admin, token).map_err(|error| error.to_string())
    }
}

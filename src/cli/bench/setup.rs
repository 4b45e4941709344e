//! Arguments that say where servers and gateway come from.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::bench::{Contestant, Gateway, Servers, Source, StageError, Workload};
use crate::cli::check;
use crate::config::{self, Secret, SpecProfile};

/// How turns are made.
#[derive(Args, Clone, Debug)]
pub(super) struct TurnArgs {
    /// Kinds of prompts: tool, repetitive, mixed, prose [default: all]
    #[arg(long = "workload", value_name = "NAME", value_delimiter = ',', value_parser = workload)]
    pub(super) workloads: Vec<Workload>,
    /// Most tokens of an answer
    #[arg(long, value_name = "N", default_value_t = 128)]
    pub(super) max_tokens: u32,
    /// Sampling temperature
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    pub(super) temperature: f64,
    /// Makes prompts, order and samples repeatable
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(super) seed: u64,
    /// Longest turn
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = humantime::parse_duration)]
    pub(super) timeout: Duration,
}

impl TurnArgs {
    pub(super) fn workloads(&self) -> Vec<Workload> {
        match self.workloads.is_empty() {
            true => Workload::ALL.to_vec(),
            false => Workload::ALL
                .into_iter()
                .filter(|w| self.workloads.contains(w))
                .collect(),
        }
    }
}

fn workload(name: &str) -> Result<Workload, String> {
    let found = Workload::ALL
        .into_iter()
        .find(|workload| workload.as_str() == name);
    found.ok_or_else(|| "there are tool, repetitive, mixed, prose".to_owned())
}

/// Servers to start.
#[derive(Args, Clone, Debug)]
pub(super) struct ServerArgs {
    /// The llama-server to start, with each profile's flags checked against its --help
    #[arg(long, value_name = "FILE")]
    pub(super) server: Option<PathBuf>,
    /// The model, for --server
    #[arg(long, value_name = "FILE")]
    pub(super) model: Option<PathBuf>,
    /// The model that draft types ask, for --server
    #[arg(long, value_name = "FILE")]
    pub(super) draft_model: Option<PathBuf>,
    /// One more argument for every server that is started; repeat for more (--server-arg=-t --server-arg=4)
    #[arg(long = "server-arg", value_name = "ARG", allow_hyphen_values = true)]
    pub(super) server_args: Vec<String>,
    /// Longest wait until a server is ready
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = humantime::parse_duration)]
    pub(super) start_timeout: Duration,
}

impl ServerArgs {
    /// How servers are started.
    pub(super) fn servers(&self) -> Result<Servers, StageError> {
        let (Some(binary), Some(model)) = (&self.server, &self.model) else {
            return Err(usage("servers are started with --server and --model"));
        };
        Ok(Servers {
            binary: binary.clone(),
            model: model.clone(),
            draft_model: self.draft_model.clone(),
            arguments: self.server_args.clone(),
            patience: self.start_timeout,
        })
    }

    /// A gateway from this program before servers that are started.
    pub(super) fn gateway(&self) -> Result<Gateway, StageError> {
        embedded(Source::Start(self.servers()?))
    }
}

/// Servers or a gateway that run already.
#[derive(Args, Clone, Debug)]
pub(super) struct GivenArgs {
    /// A llama-server that runs, and its profile; repeat for each (instead of --server)
    #[arg(long = "backend", value_name = "PROFILE=URL", conflicts_with_all = ["server", "gateway"])]
    pub(super) backends: Vec<String>,
    /// A gateway that runs, with a backend for each profile (instead of --server)
    #[arg(
        long,
        value_name = "URL",
        requires = "admin",
        conflicts_with = "server"
    )]
    pub(super) gateway: Option<String>,
    /// Its admin address
    #[arg(long, value_name = "URL", requires = "gateway")]
    pub(super) admin: Option<String>,
    /// Model name to ask it for
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub(super) model_name: String,
    /// Environment variable with a key for it
    #[arg(long, value_name = "NAME")]
    pub(super) key_env: Option<String>,
    /// Environment variable with the token of its admin address
    #[arg(long, value_name = "NAME")]
    pub(super) admin_token_env: Option<String>,
}

impl GivenArgs {
    /// The gateway and its contestants, when servers or gateway are given.
    pub(super) fn gateway(
        &self,
        profiles: &[String],
        known: &BTreeMap<String, SpecProfile>,
    ) -> Result<Option<(Gateway, Vec<Contestant>)>, StageError> {
        if let (Some(url), Some(admin)) = (&self.gateway, &self.admin) {
            let gateway = Gateway::Given {
                url: url.clone(),
                admin: admin.clone(),
                key: secret(self.key_env.as_deref())?,
                admin_token: secret(self.admin_token_env.as_deref())?,
                model: self.model_name.clone(),
            };
            let contestants = profiles.iter().map(|name| {
                Contestant::parse(name, known).unwrap_or_else(|_| Contestant::of_gateway(name))
            });
            return Ok(Some((gateway, contestants.collect())));
        }
        if self.backends.is_empty() {
            return Ok(None);
        }
        if !profiles.is_empty() {
            return Err(usage("--backend names the profiles: leave --profile out"));
        }
        let (mut urls, mut contestants) = (Vec::new(), Vec::new());
        for backend in &self.backends {
            // Settings of a profile have a `=` themselves: the address is what stands behind the last one.
            let Some((profile, url)) = backend.rsplit_once('=') else {
                return Err(usage("--backend is PROFILE=URL"));
            };
            urls.push(url.trim_end_matches('/').to_owned());
            contestants.push(contestant(profile, known)?);
        }
        Ok(Some((embedded(Source::Given(urls))?, contestants)))
    }
}

/// Contestants by name, with those that a configuration names.
pub(super) fn contestant(
    text: &str,
    known: &BTreeMap<String, SpecProfile>,
) -> Result<Contestant, StageError> {
    Contestant::parse(text, known).map_err(|error| usage(error.to_string()))
}

/// The profiles that a configuration names.
pub(super) fn known(
    config: Option<&std::path::Path>,
) -> Result<BTreeMap<String, SpecProfile>, StageError> {
    let Some(file) = config else {
        return Ok(BTreeMap::new());
    };
    let config = config::load(Some(file), check::environment());
    let config = config.map_err(|errors| usage(format!("invalid configuration\n{errors}")))?;
    Ok(config.spec.profiles)
}

fn embedded(servers: Source) -> Result<Gateway, StageError> {
    let program = std::env::current_exe();
    let program = program.map_err(|error| StageError::Failed(error.to_string()))?;
    Ok(Gateway::Embedded { program, servers })
}

fn secret(variable: Option<&str>) -> Result<Option<Secret>, StageError> {
    let read = |name: &str| match std::env::var(name) {
        Ok(value) => Ok(Secret::new(value)),
        Err(error) => Err(usage(format!("{name}: {error}"))),
    };
    variable.map(read).transpose()
}

pub(super) fn usage(why: impl Into<String>) -> StageError {
    StageError::Usage(why.into())
}

//! `drover sim`: simulated llama-servers, for trying Drover without a model.

use std::{io, net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use clap::Args;

use crate::sim::{self, ModelPreset, SimConfig, SimHandle, Speculation};

/// Run simulated llama-servers: scripted and deterministic, with the real one's shapes and errors.
#[derive(Args, Clone, Debug)]
pub struct SimArgs {
    /// Address to listen on; repeat for several servers.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8081")]
    pub listen: Vec<SocketAddr>,
    /// Speculative-decoding type, as for llama-server's --spec-type; repeat for each server (the last one counts for the rest).
    #[arg(long = "profile", value_name = "TYPES", default_value = "none", value_parser = str::parse::<Speculation>)]
    pub profiles: Vec<Speculation>,
    /// Name in scripts and in /sim/state; several servers get a number appended.
    #[arg(long, default_value = "sim")]
    pub name: String,
    /// Model alias.
    #[arg(long, default_value = "sim-model")]
    pub alias: String,
    /// Parallel slots.
    #[arg(long, default_value_t = 4)]
    pub slots: usize,
    /// Context of one slot, in tokens.
    #[arg(long, default_value_t = 32_768)]
    pub ctx: usize,
    /// Prompt tokens evaluated in one batch.
    #[arg(long, default_value_t = 2048)]
    pub batch: usize,
    /// Prompt tokens per second; 0 = no wait.
    #[arg(long, default_value_t = 0.0)]
    pub prefill_tps: f64,
    /// Decode steps per second of one slot; 0 = no wait.
    #[arg(long, default_value_t = 0.0)]
    pub decode_tps: f64,
    /// Relative slowdown of decoding for each other busy slot.
    #[arg(long, default_value_t = 0.0)]
    pub contention: f64,
    /// Time it answers 503 "Loading model" after its start, e.g. 2s.
    #[arg(long, default_value = "0s", value_parser = humantime::parse_duration)]
    pub load_time: Duration,
    /// Silence on a stream before a comment ping.
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration)]
    pub ping_interval: Duration,
    /// Varies everything that is made up.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Build to report.
    #[arg(long, default_value = "b11434-sim")]
    pub build: String,
    /// Environment variable that holds the API key to require.
    #[arg(long, value_name = "VAR")]
    pub api_key_env: Option<String>,
    /// No /metrics.
    #[arg(long)]
    pub no_metrics: bool,
    /// No /slots.
    #[arg(long)]
    pub no_slots: bool,
    /// Serve /v1/embeddings.
    #[arg(long)]
    pub embeddings: bool,
    /// One KV cache for all slots.
    #[arg(long)]
    pub kv_unified: bool,
    /// Tokens of evicted conversations kept for later.
    #[arg(long, default_value_t = 0)]
    pub cache_ram_tokens: usize,
    /// A chat template without tools.
    #[arg(long)]
    pub no_tools: bool,
    /// A chat template that refuses system messages after the first message.
    #[arg(long)]
    pub strict_system: bool,
    /// Scripted answers: a YAML or JSON list of rules.
    #[arg(long, value_name = "FILE")]
    pub rules: Option<PathBuf>,
    /// Router mode: a model behind the address, `NAME` or `NAME=TYPES` with its speculative-decoding type; repeat for
    /// each. Loading one takes --load-time.
    #[arg(long = "preset", value_name = "NAME[=TYPES]", value_parser = preset)]
    pub presets: Vec<ModelPreset>,
    /// Router mode: models in memory at a time; 0 = no limit.
    #[arg(long, default_value_t = 4)]
    pub models_max: usize,
    /// Router mode: requests load no models.
    #[arg(long)]
    pub no_models_autoload: bool,
    /// No /sim/ control paths.
    #[arg(long)]
    pub no_control: bool,
}

fn preset(text: &str) -> Result<ModelPreset, String> {
    let (name, types) = text.split_once('=').unwrap_or((text, "none"));
    if name.is_empty() {
        return Err("a model has a name".to_owned());
    }
    Ok(ModelPreset {
        name: name.to_owned(),
        aliases: Vec::new(),
        speculation: types.parse()?,
        broken: false,
    })
}

/// Usage errors, as `sysexits.h` EX_USAGE.
const USAGE: u8 = 64;
/// Internal errors, as `sysexits.h` EX_SOFTWARE.
const INTERNAL: u8 = 70;

/// Runs the servers until interrupted.
#[must_use]
pub fn run(args: &SimArgs) -> ExitCode {
    let configs = match configs(args) {
        Ok(configs) => configs,
        Err(error) => return fail(&error, USAGE),
    };
    // One thread: a simulated server must not take the machine from what is being measured.
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.to_string(), INTERNAL),
    };
    match runtime.block_on(serve(configs)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, INTERNAL),
    }
}

fn fail(error: &str, code: u8) -> ExitCode {
    eprintln!("drover sim: {error}");
    ExitCode::from(code)
}

/// The configuration of each server with its address.
fn configs(args: &SimArgs) -> Result<Vec<(SocketAddr, SimConfig)>, String> {
    let rules = match &args.rules {
        Some(path) => {
            let text =
                std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
            sim::parse_rules(&text).map_err(|error| format!("{}: {error}", path.display()))?
        }
        None => Vec::new(),
    };
    let api_key = match &args.api_key_env {
        Some(name) => Some(std::env::var(name).map_err(|error| format!("{name}: {error}"))?),
        None => None,
    };
    for (name, value) in [
        ("--prefill-tps", args.prefill_tps),
        ("--decode-tps", args.decode_tps),
        ("--contention", args.contention),
    ] {
        if !value.is_finite() || value < 0.0 {
            return Err(format!("{name}: expected 0 or more, not {value}"));
        }
    }
    let several = args.listen.len() > 1;
    let config = |index: usize| SimConfig {
        name: if several {
            format!("{}{index}", args.name)
        } else {
            args.name.clone()
        },
        alias: args.alias.clone(),
        speculation: args
            .profiles
            .get(index)
            .or(args.profiles.last())
            .cloned()
            .unwrap_or_else(Speculation::none),
        total_slots: args.slots,
        n_ctx: args.ctx,
        n_batch: args.batch,
        prefill_tps: args.prefill_tps,
        decode_tps: args.decode_tps,
        contention: args.contention,
        load_time: args.load_time,
        seed: args.seed.wrapping_add(index as u64),
        build_info: args.build.clone(),
        api_key: api_key.clone(),
        metrics: !args.no_metrics,
        slots_endpoint: !args.no_slots,
        embeddings: args.embeddings,
        kv_unified: args.kv_unified,
        cache_ram_tokens: args.cache_ram_tokens,
        tools: !args.no_tools,
        strict_system: args.strict_system,
        ping_interval: args.ping_interval,
        rules: rules.clone(),
        control: !args.no_control,
        presets: args.presets.clone(),
        models_max: args.models_max,
        models_autoload: !args.no_models_autoload,
    };
    Ok(args
        .listen
        .iter()
        .enumerate()
        .map(|(index, address)| (*address, config(index)))
        .collect())
}

async fn serve(configs: Vec<(SocketAddr, SimConfig)>) -> Result<(), String> {
    let mut handles: Vec<SimHandle> = Vec::with_capacity(configs.len());
    for (address, config) in configs {
        let shown = format!("{} (profile {})", config.name, config.speculation.types);
        let handle = sim::bind(config, address)
            .await
            .map_err(|error| format!("{address}: {error}"))?;
        eprintln!("{shown} listens on {}", handle.url());
        handles.push(handle);
    }
    interrupted().await.map_err(|error| error.to_string())?;
    for handle in handles {
        handle.stop().await;
    }
    Ok(())
}

/// Waits for SIGINT or SIGTERM.
async fn interrupted() -> io::Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        done = tokio::signal::ctrl_c() => done,
        _ = terminate.recv() => Ok(()),
    }
}

//! `drover demo`: a gateway on two simulated backends in one process, to try at once.

use std::fmt;
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use clap::Args;
use parking_lot::Mutex;
use pingora_core::prelude::background_service;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;
use serde_json::json;

use super::{EXIT_INTERNAL, EXIT_USAGE, fail, serve};
use crate::config::{self, Config};
use crate::fleet::Fleet;
use crate::server::Sockets;
use crate::sim::{self, SimConfig, Speculation};
use crate::telemetry;

/// Arguments of `drover demo`.
#[derive(Args, Clone, Debug)]
pub struct DemoArgs {
    /// Address for clients; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub listen: String,
    /// Address for metrics and the admin API; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9090")]
    pub admin: String,
}

/// The simulated backends: name and speculative profile.
const BACKENDS: [(&str, &str); 2] = [("sim-ngram", "ngram-mod"), ("sim-plain", "none")];

/// Runs the demo until a signal ends it.
#[must_use]
pub fn run(args: &DemoArgs) -> ExitCode {
    let internal = |error: &dyn fmt::Display| fail("demo", EXIT_INTERNAL, error);
    let sims = match BACKENDS
        .iter()
        .map(|b| Sim::bind(*b))
        .collect::<io::Result<Vec<_>>>()
    {
        Ok(sims) => sims,
        Err(error) => return internal(&error),
    };
    let config = match configuration(args, &sims) {
        Ok(config) => config,
        Err(errors) => return fail("demo", EXIT_USAGE, errors),
    };
    if let Err(error) = telemetry::log::init(config.telemetry.log, &config.telemetry.level) {
        return fail("demo", EXIT_USAGE, error);
    }
    let sockets = match Sockets::bind(&config) {
        Ok(sockets) => sockets,
        Err(error) => {
            let advice = "choose other addresses with --listen and --admin";
            return internal(&format_args!("{error}; {advice}"));
        }
    };
    let fleet = match Fleet::new(&config) {
        Ok(fleet) => fleet,
        Err(error) => return internal(&error),
    };
    let demo = Demo {
        welcome: welcome(&sockets, &sims),
        sims: Mutex::new(sims),
        fleet: Arc::clone(&fleet),
    };
    let extra = Box::new(background_service("demo", demo));
    match serve::serve(&config, sockets, fleet, None, vec![extra]) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => internal(&error),
    }
}

/// The demo's configuration, checked as a file would be.
fn configuration(args: &DemoArgs, sims: &[Sim]) -> Result<Config, config::ConfigErrors> {
    let backends: Vec<_> = sims
        .iter()
        .map(|sim| json!({ "name": sim.name, "url": sim.url(), "profile": sim.profile }))
        .collect();
    let document = json!({
        "listen": [args.listen],
        "admin": { "addr": args.admin },
        "fleet": { "pools": [{ "name": "demo", "models": ["*"], "backends": backends }] },
        "telemetry": { "log": "text" },
    });
    // JSON is YAML.
    config::parse(&document.to_string(), std::iter::empty())
}

/// A simulated backend that has its address but does not run yet.
struct Sim {
    name: &'static str,
    profile: &'static str,
    listener: TcpListener,
    address: SocketAddr,
}

impl Sim {
    fn bind((name, profile): (&'static str, &'static str)) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Self {
            name,
            profile,
            listener,
            address,
        })
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Starts it in the current runtime, at the pace of a small model on a good GPU, so that
    /// streaming can be seen.
    fn start(self) -> io::Result<sim::SimHandle> {
        let config = SimConfig {
            name: self.name.to_owned(),
            alias: "demo".to_owned(),
            speculation: self
                .profile
                .parse::<Speculation>()
                .map_err(io::Error::other)?,
            prefill_tps: 4000.0,
            decode_tps: 60.0,
            ..SimConfig::default()
        };
        sim::serve(config, tokio::net::TcpListener::from_std(self.listener)?)
    }
}

/// Runs the simulated backends, and says what to try once they are in service.
struct Demo {
    sims: Mutex<Vec<Sim>>,
    fleet: Arc<Fleet>,
    welcome: String,
}

#[async_trait]
impl BackgroundService for Demo {
    async fn start(&self, _: ShutdownWatch) {
        let sims = std::mem::take(&mut *self.sims.lock());
        let _running = match sims
            .into_iter()
            .map(Sim::start)
            .collect::<io::Result<Vec<_>>>()
        {
            Ok(running) => running,
            Err(error) => {
                tracing::error!(%error, "the simulated backends do not start");
                return;
            }
        };
        while !(self.fleet.checked_once() && self.fleet.any_ready()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let _ = write!(io::stdout().lock(), "{}", self.welcome);
        // Answers that a shutdown waits for come from these backends: they stay to the end.
        std::future::pending::<()>().await;
    }
}

fn welcome(sockets: &Sockets, sims: &[Sim]) -> String {
    let client = sockets
        .clients()
        .next()
        .map(|addr| format!("http://{addr}"))
        .unwrap_or_default();
    let admin = format!("http://{}", sockets.admin());
    let backends: String = sims
        .iter()
        .map(|sim| {
            format!(
                "  {:<9} {}  speculation: {}\n",
                sim.name,
                sim.url(),
                sim.profile
            )
        })
        .collect();
    format!(
        r#"
Drover is running on two simulated llama-servers. Ctrl-C ends it.

  gateway   {client}/v1  (OpenAI API)
            {client}  (Anthropic API)
  admin     {admin}
{backends}
Try:
  curl {client}/v1/chat/completions -H 'content-type: application/json' \
    -d '{{"model":"demo","messages":[{{"role":"user","content":"Hello!"}}]}}'

Streaming:
  curl -N {client}/v1/chat/completions -H 'content-type: application/json' \
    -d '{{"model":"demo","stream":true,"messages":[{{"role":"user","content":"Hello!"}}]}}'

Then look:
  curl {admin}/api/backends
  curl {admin}/metrics

Requests appear below.

"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(listen: &str) -> DemoArgs {
        DemoArgs {
            listen: listen.to_owned(),
            admin: "127.0.0.1:0".to_owned(),
        }
    }

    fn sims() -> Vec<Sim> {
        BACKENDS.iter().map(|b| Sim::bind(*b).unwrap()).collect()
    }

    #[test]
    fn the_configuration_is_valid_and_names_both_backends() {
        let config = configuration(&args("127.0.0.1:0"), &sims()).unwrap();
        let backends = &config.fleet.pools[0].backends;
        assert_eq!(backends.len(), 2);
        assert_ne!(backends[0].profile, backends[1].profile);
    }

    #[test]
    fn the_demo_is_not_offered_to_the_network() {
        let errors = configuration(&args("0.0.0.0:8080"), &sims()).unwrap_err();
        assert!(errors.to_string().contains("auth.keys"), "{errors}");
    }

    #[test]
    fn the_welcome_holds_lines_that_work_in_a_shell() {
        let sims = sims();
        let config = configuration(&args("127.0.0.1:0"), &sims).unwrap();
        let sockets = Sockets::bind(&config).unwrap();
        let text = welcome(&sockets, &sims);
        for body in text.split("-d '").skip(1) {
            let body = body.split('\'').next().unwrap();
            let body: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(body["model"], "demo");
        }
        assert!(text.contains(&format!(
            "curl -N http://{}",
            sockets.clients().next().unwrap()
        )));
    }

    #[test]
    fn every_profile_is_one_the_simulation_knows() {
        for (_, profile) in BACKENDS {
            assert!(profile.parse::<Speculation>().is_ok(), "{profile}");
        }
    }
}

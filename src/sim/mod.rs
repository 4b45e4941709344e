//! The embedded llama-server stand-in: `drover sim`, the demo's backends, and the tests' fleet.
//!
//! Scripted and deterministic, with the shapes, errors and habits of llama-server b11434: slots
//! with a prefix cache, silent deferral, timings and draft counters, loading, context overflow,
//! keep-alive of 5 s and 100 requests. It generates nothing real: text comes from scripts
//! ([`Script`]) or from a seeded generator, time from configured speeds. Simulated time is what
//! `timings` report; with a speed of 0 nothing waits and `timings` show nominal values.
//!
//! The decisions (tokens, prompt, cache, script, plan, rendering) are pure; `engine`, `generate`
//! and `http` hold the shared state and the sockets.
//!
//! # Scripts
//! A directive in the text of a message decides the answer (see [`Script`] and [`Step`]):
//! ```text
//! Please [[sim [{"text": "Looking."}, {"tool_call": {"name": "read", "arguments": {"path": "a"}}}]]]
//! [[sim {"turns": [[{"tool_call": {"name": "ls"}}], [{"text": "done"}]], "on": "gpu0"}]]
//! [[sim {"attempts": [["die"], [{"text": "second time"}]]}]]
//! ```
//! `die` and `reset` as the first step cut the connection before any byte; `http_error`, wherever
//! it stands, answers instead of generating.
//!
//! # Control
//! For loopback peers only: `GET|POST /sim/state` ([`Patch`]), `POST /sim/wedge`, `/sim/freeze`,
//! `/sim/resume`, `/sim/die` (`{"restart_ms": 500}`), `GET|DELETE /sim/requests`.
//!
//! # Differences from the real server
//! A client that leaves is noticed at once for whole answers too (the real one needs a second);
//! `orphans` in [`Patch`] gives the worse behaviour. `/v1/messages`, `/v1/responses`,
//! LoRA and slot files are absent.

mod answer;
mod body;
pub(crate) mod cache;
mod config;
mod control;
mod conversation;
mod engine;
mod errors;
mod fields;
mod generate;
mod http;
mod info;
mod made_up;
mod metrics;
mod plan;
mod prose;
mod request;
pub(crate) mod rng;
mod router;
mod schema;
mod script;
mod service;
mod session;
mod speculate;
mod step;
mod template;
mod timings;
pub mod tokens;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use serde_json::Value;
use tokio::{
    net::{TcpListener, ToSocketAddrs},
    task::JoinHandle,
};

pub use config::{Acceptance, ModelPreset, SPEC_TYPES, SimConfig, Speculation};
pub use control::{FailNext, Patch, Recorded};
pub use errors::KnownFailure;
pub use router::{Router, Stand};
pub use script::{Rule, Script, parse_rules};
pub use service::SimService;
pub use step::{Call, ErrorStep, Step};

use engine::{Life, Sim};

/// A running simulated server. Dropping it stops the server and cuts its connections.
#[derive(Debug)]
pub struct SimHandle {
    sim: Arc<Sim>,
    address: SocketAddr,
    task: JoinHandle<()>,
}

/// Serves `config` on `listener`, in tasks of the current tokio runtime.
///
/// # Errors
/// When the listener has no address.
pub fn serve(config: SimConfig, listener: TcpListener) -> io::Result<SimHandle> {
    let address = listener.local_addr()?;
    let sim = Arc::new(Sim::new(config));
    let task = tokio::spawn(http::run(Arc::clone(&sim), listener));
    Ok(SimHandle { sim, address, task })
}

/// Binds `address` (port 0 for any free port) and serves `config` there.
///
/// # Errors
/// When the address cannot be bound.
pub async fn bind(config: SimConfig, address: impl ToSocketAddrs) -> io::Result<SimHandle> {
    serve(config, TcpListener::bind(address).await?)
}

impl SimHandle {
    /// The address it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its base URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes it while it runs.
    ///
    /// # Errors
    /// A text when a value makes no sense; then nothing was changed.
    pub fn patch(&self, patch: Patch) -> Result<(), String> {
        self.sim.patch(patch)
    }

    /// What `GET /sim/state` shows.
    #[must_use]
    pub fn state(&self) -> Value {
        self.sim.state()
    }

    /// The last POST requests, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<Recorded> {
        self.sim.requests.lock().last()
    }

    /// Forgets the recorded requests.
    pub fn clear_requests(&self) {
        self.sim.requests.lock().clear();
    }

    /// Its models, in router mode.
    #[must_use]
    pub fn router(&self) -> Option<&Router> {
        self.sim.router.as_ref()
    }

    /// Number of busy slots.
    #[must_use]
    pub fn busy(&self) -> usize {
        self.sim.busy()
    }

    /// Number of requests that wait for a slot.
    #[must_use]
    pub fn deferred(&self) -> usize {
        self.sim.deferred()
    }

    /// Kills it as `kill -9` would; it comes back on the same address after `restart_after`.
    pub fn die(&self, restart_after: Option<Duration>) {
        self.sim.die(restart_after);
    }

    /// Waits until it no longer runs: stopped, or dead without a restart.
    pub async fn ended(&mut self) {
        // A finished task must not be asked again.
        if !self.task.is_finished() {
            let _ = (&mut self.task).await;
        }
    }

    /// Stops it and waits until its sockets are closed.
    pub async fn stop(mut self) {
        self.sim.life.send_replace(Life::Stopped);
        self.ended().await;
    }
}

impl Drop for SimHandle {
    fn drop(&mut self) {
        self.sim.life.send_replace(Life::Stopped);
    }
}

#[cfg(test)]
mod tests;

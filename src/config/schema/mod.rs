//! What can be configured: one struct a section. Doc comments become `docs/configuration.md`, so the
//! first thing each says is the meaning; types, units and defaults are taken from the schema.

mod audit;
mod auth;
mod context;
mod discovery;
mod fleet;
mod guard;
mod limits;
mod listen;
mod loops;
mod operations;
mod policy;
mod queue;
mod rollout;
mod sampling;
mod spec;
mod store;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use audit::{Audit, Rotate};
pub use auth::{ApiKey, Auth, KeySource, MaySelect};
pub use context::{BuiltinFragment, Context, Volatile, VolatilePattern};
pub use discovery::{
    Discovery, DnsSource, FileSource, KubernetesSource, RouterSource, SrvSource, Template,
};
pub use fleet::{
    Backend, Fleet, Health, Hedge, KvLayout, Passthrough, Pool, Selection, SlotCount, Watchdog,
};
pub use guard::{Guard, Preset, ToolCalls};
pub use limits::{Limits, Timeouts, TurnLimits};
pub use listen::{Admin, Listener, Tls};
pub use loops::{Budgets, ForceTools, Loops};
pub use operations::{LogFormat, Otlp, PingoraSettings, Reload, Telemetry};
pub use policy::Policy;
pub use queue::{Priority, Queue};
pub use rollout::{
    Above, Classes, NeverWorse, OnInconclusive, Percent, Points, PromoteWhen, Relative,
    RollbackSignature, RollbackWhen, Rollout, RolloutHooks, RolloutStep, Subject, Webhook,
};
pub use sampling::{ModelProfile, Sampling};
pub use spec::{RequestClass, Spec, SpecProfile, SpecRule, SpecType};
pub use store::Store;

/// The whole configuration. Every key is optional; unknown keys are errors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Addresses the gateway listens on for clients: `"addr:port"`, or a table with TLS. Listening
    /// beyond loopback requires at least one key in `auth.keys`.
    pub listen: Vec<Listener>,
    /// The admin address: metrics, health of the gateway, admin API. Never serve it to clients.
    pub admin: Admin,
    /// Who may use the gateway.
    pub auth: Auth,
    /// Bounds on what one client request may be, and on what is remembered between requests.
    pub limits: Limits,
    /// How long each part of a request may take.
    pub timeouts: Timeouts,
    /// What one turn may spend on further attempts (failover and re-asking).
    pub turn: TurnLimits,
    /// The backends, grouped in pools by the model they serve.
    pub fleet: Fleet,
    /// What is done about malformed and empty answers.
    pub guard: Guard,
    /// Speculative decoding.
    pub spec: Spec,
    /// What agents may do: rules on tool calls, sessions and requests. null: no rule is asked about anything.
    pub policy: Option<Policy>,
    /// Where what outlives a request is kept.
    pub store: Store,
    /// Where the decisions of policy are recorded. null: only in the log.
    pub audit: Option<Audit>,
    /// When the configuration is loaded anew.
    pub reload: Reload,
    /// Logs.
    pub telemetry: Telemetry,
    /// Settings of the Pingora server underneath.
    pub pingora: PingoraSettings,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec![Listener {
                addr: "127.0.0.1:8080".to_owned(),
                tls: None,
            }],
            admin: Admin::default(),
            auth: Auth::default(),
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            turn: TurnLimits::default(),
            fleet: Fleet::default(),
            guard: Guard::default(),
            spec: Spec::default(),
            policy: None,
            store: Store::default(),
            audit: None,
            reload: Reload::default(),
            telemetry: Telemetry::default(),
            pingora: PingoraSettings::default(),
        }
    }
}

//! The configuration: one YAML file, `DROVER__SECTION__KEY` environment variables on top.
//!
//! [`load`] is the only way in: it parses, overlays, checks everything and resolves secrets, so that
//! whoever holds a [`Config`] holds one that can be served. Nothing here opens a socket.

mod docs;
mod endpoint;
mod env;
mod error;
mod load;
mod pattern;
mod reload;
mod schema;
mod secret;
mod tree;
mod units;
mod validate;
mod watch;

pub use docs::markdown;
pub use endpoint::Endpoint;
pub use error::{ConfigError, ConfigErrors, Position};
pub use load::{check, listed, load, parse};
pub use pattern::{NameGlob, Pattern};
pub use reload::{Plan, plan};
pub use schema::{
    Above, Admin, ApiKey, Audit, Auth, Backend, Budgets, BuiltinFragment, Classes, Config, Context,
    Discovery, DnsSource, FileSource, Fleet, ForceTools, Guard, Health, Hedge, KeySource,
    KubernetesSource, KvLayout, Limits, Listener, LogFormat, Loops, MaySelect, ModelProfile,
    NeverWorse, OnInconclusive, Otlp, Passthrough, Percent, PingoraSettings, Points, Policy, Pool,
    Preset, Priority, PromoteWhen, Queue, Relative, Reload, RequestClass, RollbackSignature,
    RollbackWhen, Rollout, RolloutHooks, RolloutStep, Rotate, RouterSource, Sampling, Selection,
    SlotCount, Spec, SpecProfile, SpecRule, SpecType, SrvSource, Store, Subject, Telemetry,
    Template, Timeouts, Tls, ToolCalls, TurnLimits, Volatile, VolatilePattern, Watchdog, Webhook,
};
pub use secret::{EnvSecret, REDACTED, Secret};
pub use validate::SLOTS_EVERY_MIN;
pub use watch::{FileWatch, Stamp};

#[cfg(test)]
mod tests;

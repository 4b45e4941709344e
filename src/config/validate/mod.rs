//! What serde cannot check: values against each other and against the world (files, environment).
//! Everything wrong is collected, nothing stops at the first.

mod audit;
mod auth;
mod discovery;
mod fleet;
mod guard;
mod listen;
mod policy;
mod rollout;
mod spec;
mod traces;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::Duration;

pub use fleet::SLOTS_EVERY_MIN;
use globset::Glob;

use super::error::ConfigError;
use super::schema::Config;
use super::secret::{EnvSecret, Secret};
use super::tree::Origin;

/// Longest name of a pool, a backend or a key.
const NAME_MAX: usize = 128;

/// Collects the mistakes of one configuration.
pub(super) struct Checker<'a> {
    origins: &'a BTreeMap<String, Origin>,
    env: &'a BTreeMap<String, String>,
    errors: Vec<ConfigError>,
}

impl<'a> Checker<'a> {
    pub(super) fn new(
        origins: &'a BTreeMap<String, Origin>,
        env: &'a BTreeMap<String, String>,
    ) -> Self {
        Self {
            origins,
            env,
            errors: Vec::new(),
        }
    }

    pub(super) fn into_errors(self) -> Vec<ConfigError> {
        self.errors
    }

    /// Checks `config` and fills in the secrets it names.
    pub(super) fn check(&mut self, config: &mut Config) {
        self.listen(config);
        self.auth(config);
        self.limits(config);
        self.fleet(config);
        self.guard(config);
        self.loops(config);
        self.policy(config);
        self.audit(config);
        self.spec(config);
        self.rollouts(config);
        self.operations(config);
        self.traces(config);
    }

    /// Notes a mistake at `path`, placed where the value or the nearest thing around it stands.
    fn error(&mut self, path: impl Into<String>, message: impl fmt::Display) {
        let path = path.into();
        let mut at = path.as_str();
        let origin = loop {
            if let Some(origin) = self.origins.get(at) {
                break origin;
            }
            match at.rfind(['.', '[']) {
                Some(end) => at = &at[..end],
                None => break &Origin::File(None),
            }
        };
        let error = origin.error(&path, message);
        self.errors.push(error);
    }

    fn limits(&mut self, config: &Config) {
        let sizes = [
            ("limits.max_body_bytes", config.limits.max_body_bytes),
            ("limits.max_header_bytes", config.limits.max_header_bytes),
        ];
        for (path, size) in sizes {
            if size.as_u64() == 0 {
                self.error(path, "must be more than 0");
            }
        }
        if config.limits.max_sessions == 0 {
            self.error("limits.max_sessions", "must be at least 1");
        }
        let t = &config.timeouts;
        let durations = [
            ("limits.session_ttl", config.limits.session_ttl),
            ("timeouts.connect", t.connect),
            ("timeouts.client_idle", t.client_idle),
            ("timeouts.request_header", t.request_header),
            ("timeouts.request_body", t.request_body),
            ("timeouts.first_event", t.first_event),
            ("timeouts.inter_token", t.inter_token),
            ("timeouts.total", t.total),
            ("timeouts.write", t.write),
            ("timeouts.ping_first", t.ping_first),
            ("timeouts.ping_every", t.ping_every),
            ("timeouts.drain", t.drain),
            ("turn.max_wall", config.turn.max_wall),
            ("reload.every", config.reload.every),
        ];
        for (path, duration) in durations {
            self.positive(path, duration);
        }
        if config.turn.max_attempts == 0 {
            self.error("turn.max_attempts", "must be at least 1");
        }
    }

    fn loops(&mut self, config: &Config) {
        let loops = &config.guard.loops;
        let counts = [
            ("stagnation_threshold", loops.stagnation_threshold),
            ("finalize_threshold", loops.finalize_threshold),
            ("loop_repeat_threshold", loops.loop_repeat_threshold),
            ("review_cycle_limit", loops.review_cycle_limit),
            ("no_progress_threshold", loops.no_progress_threshold),
            (
                "unproductive_exhaustion_limit",
                loops.unproductive_exhaustion_limit,
            ),
            ("finalize_session_hard_cap", loops.finalize_session_hard_cap),
        ];
        for (key, count) in counts {
            // The streaks are counted in a byte.
            if !(1..=200).contains(&count) {
                self.error(format!("guard.loops.{key}"), "must be from 1 to 200");
            }
        }
    }

    fn operations(&mut self, config: &Config) {
        let level = config.telemetry.level.trim();
        // A filter would take a misspelt level for the name of a module.
        if !level.contains(['=', ',']) {
            if level
                .parse::<tracing_subscriber::filter::LevelFilter>()
                .is_err()
            {
                self.error(
                    "telemetry.level",
                    format!("`{level}` is no level: error, warn, info, debug, trace or off"),
                );
            }
        } else if let Err(error) = tracing_subscriber::EnvFilter::try_new(level) {
            self.error("telemetry.level", format!("`{level}`: {error}"));
        }
        let p = &config.pingora;
        let counts = [
            ("pingora.threads", p.threads),
            ("pingora.listener_tasks_per_fd", p.listener_tasks_per_fd),
            (
                "pingora.upstream_keepalive_pool_size",
                p.upstream_keepalive_pool_size,
            ),
        ];
        for (path, count) in counts {
            if count == 0 {
                self.error(path, "must be at least 1");
            }
        }
    }

    fn positive(&mut self, path: impl Into<String>, duration: Duration) {
        if duration.is_zero() {
            self.error(path, "must be longer than 0s");
        }
    }

    /// Names go into headers, metric labels and admin paths.
    fn name(&mut self, path: &str, name: &str) {
        let fits = |c: char| c.is_ascii_alphanumeric() || "._-:[]@".contains(c);
        if name.is_empty() || name.len() > NAME_MAX || !name.chars().all(fits) {
            self.error(
                path,
                format!("`{name}` is no name: 1 to {NAME_MAX} of letters, digits and . _ - : @"),
            );
        }
    }

    fn glob(&mut self, path: &str, glob: &str) -> Option<Glob> {
        if glob.is_empty() {
            self.error(path, "must not be empty");
            return None;
        }
        Glob::new(glob)
            .map_err(|error| self.error(path, error))
            .ok()
    }

    /// The value of the environment variable `name`.
    fn variable(&mut self, path: &str, name: &str) -> Option<Secret> {
        match self.env.get(name).map(String::as_str) {
            None => self.error(path, format!("environment variable {name} is not set")),
            Some(value) if value.trim().is_empty() => {
                self.error(path, format!("environment variable {name} is empty"));
            }
            Some(value) => return self.secret(path, value.trim()),
        }
        None
    }

    /// A secret that can travel in a header.
    fn secret(&mut self, path: &str, value: &str) -> Option<Secret> {
        if value.is_empty() {
            self.error(path, "the secret is empty");
        } else if !value.bytes().all(|b| b.is_ascii_graphic()) {
            self.error(
                path,
                "the secret has characters other than visible ASCII, which no client can send",
            );
        } else {
            return Some(Secret::new(value));
        }
        None
    }

    fn fill(&mut self, path: &str, secret: Option<&mut EnvSecret>) {
        if let Some(secret) = secret
            && let Some(value) = self.variable(path, secret.variable())
        {
            secret.fill(value);
        }
    }
}

/// Remembers who used a name first.
struct Seen<K>(HashMap<K, String>);

impl<K> Default for Seen<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + std::hash::Hash> Seen<K> {
    /// The path that used `key` before `path` did.
    fn before(&mut self, key: K, path: &str) -> Option<String> {
        match self.0.entry(key) {
            std::collections::hash_map::Entry::Occupied(first) => Some(first.get().clone()),
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(path.to_owned());
                None
            }
        }
    }
}

//! Pools and backends.

use std::time::Duration;

use super::{Checker, Seen};
use crate::config::Endpoint;
use crate::config::schema::{Config, Health, Hedge, Passthrough, Pool, Watchdog};

/// Shortest time between two reads of `/slots`: polled faster, llama-server (seen with b11434) does
/// not notice that a client has gone.
pub const SLOTS_EVERY_MIN: Duration = Duration::from_millis(1500);

impl Checker<'_> {
    pub(super) fn fleet(&mut self, config: &mut Config) {
        self.health(&config.fleet.health);
        self.watchdog(&config.fleet.watchdog);
        self.hedge(&config.fleet.hedge);
        self.positive("fleet.dns_refresh", config.fleet.dns_refresh);
        if config.fleet.pools.is_empty() {
            self.error("fleet.pools", "needs at least one pool");
        }
        let mut names = Names::default();
        for (n, pool) in config.fleet.pools.iter_mut().enumerate() {
            self.pool(&format!("fleet.pools[{n}]"), pool, &mut names);
        }
        for (n, passthrough) in config.fleet.passthrough.iter().enumerate() {
            let path = format!("fleet.passthrough[{n}]");
            self.passthrough(&path, passthrough, &config.fleet.pools);
        }
    }

    fn watchdog(&mut self, watchdog: &Watchdog) {
        self.positive("fleet.watchdog.stuck_after", watchdog.stuck_after);
        self.positive("fleet.watchdog.orphan_after", watchdog.orphan_after);
        self.positive("fleet.watchdog.hook_timeout", watchdog.hook_timeout);
        if watchdog.hook.first().is_some_and(String::is_empty) {
            self.error("fleet.watchdog.hook", "the program has no name");
        }
    }

    fn hedge(&mut self, hedge: &Hedge) {
        if !(0.0..=1.0).contains(&hedge.share) {
            self.error("fleet.hedge.share", "must be between 0 and 1");
        }
        if !hedge.factor.is_finite() || hedge.factor < 1.0 {
            self.error("fleet.hedge.factor", "must be at least 1");
        }
        self.positive("fleet.hedge.after", hedge.after);
    }

    fn health(&mut self, health: &Health) {
        self.positive("fleet.health.interval", health.interval);
        self.positive("fleet.health.timeout", health.timeout);
        self.positive("fleet.health.eject_for", health.eject_for);
        if health.eject_for_max < health.eject_for {
            self.error(
                "fleet.health.eject_for_max",
                "must not be shorter than `eject_for`",
            );
        }
        if health.slots_every < SLOTS_EVERY_MIN {
            self.error(
                "fleet.health.slots_every",
                "must be at least 1500ms: polled faster, llama-server does not notice that a \
                 client has gone",
            );
        }
    }

    fn pool(&mut self, path: &str, pool: &mut Pool, names: &mut Names) {
        let name_path = format!("{path}.name");
        self.name(&name_path, &pool.name);
        if let Some(first) = names.pools.before(pool.name.clone(), &name_path) {
            self.error(
                name_path,
                format!("`{}` is the name of `{first}` too", pool.name),
            );
        }
        if pool.models.is_empty() {
            self.error(
                format!("{path}.models"),
                "is empty: no client could ever ask for this pool",
            );
        }
        for (n, model) in pool.models.iter().enumerate() {
            let path = format!("{path}.models[{n}]");
            self.glob(&path, model);
            if let Some(first) = names.models.before(model.clone(), &path) {
                self.error(path, format!("`{model}` is listed by `{first}` too"));
            }
        }
        self.positive(format!("{path}.queue.timeout"), pool.queue.timeout);
        self.backends(path, pool, names);
    }

    fn backends(&mut self, path: &str, pool: &mut Pool, names: &mut Names) {
        match &mut pool.discovery {
            Some(discovery) => self.discovery(&format!("{path}.discovery"), discovery),
            None if pool.backends.is_empty() => self.error(
                format!("{path}.backends"),
                "needs at least one backend, or `discovery`",
            ),
            None => {}
        }
        let mut targets = Seen::default();
        for (n, backend) in pool.backends.iter_mut().enumerate() {
            let path = format!("{path}.backends[{n}]");
            let endpoint = Endpoint::parse(&backend.url)
                .map_err(|mistake| self.error(format!("{path}.url"), mistake))
                .ok();
            if let Some(endpoint) = &endpoint
                && let Some(first) =
                    targets.before((endpoint.clone(), backend.model.clone()), &path)
            {
                self.error(
                    format!("{path}.url"),
                    format!("is the same server and model as `{first}`"),
                );
            }
            let name_path = format!("{path}.name");
            if let Some(name) = &backend.name {
                self.name(&name_path, name);
            }
            let name = backend
                .name
                .clone()
                .or_else(|| endpoint.as_ref().map(Endpoint::default_name));
            if let (None, Some(Endpoint::Socket(_)), Some(name)) = (&backend.name, &endpoint, &name)
            {
                self.name(&name_path, name);
            }
            if let Some(name) = name
                && let Some(first) = names.backends.before(name.clone(), &name_path)
            {
                self.error(
                    name_path,
                    format!("`{name}` is the name of `{first}` too; give each its own name"),
                );
            }
            for (key, value) in [("model", &backend.model), ("profile", &backend.profile)] {
                if value.as_deref().is_some_and(|v| v.trim().is_empty()) {
                    self.error(format!("{path}.{key}"), "is empty; leave it out instead");
                }
            }
            self.fill(&format!("{path}.api_key_env"), backend.api_key_env.as_mut());
        }
    }

    fn passthrough(&mut self, path: &str, passthrough: &Passthrough, pools: &[Pool]) {
        let glob_path = format!("{path}.path");
        if !passthrough.path.starts_with('/') {
            self.error(&glob_path, "must start with `/`");
        }
        self.glob(&glob_path, &passthrough.path);
        if !pools.iter().any(|pool| pool.name == passthrough.pool) {
            self.error(
                format!("{path}.pool"),
                format!("there is no pool `{}`", passthrough.pool),
            );
        }
    }
}

/// Names that must be unique in the whole fleet.
#[derive(Default)]
struct Names {
    pools: Seen<String>,
    models: Seen<String>,
    backends: Seen<String>,
}

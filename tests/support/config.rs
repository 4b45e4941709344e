//! Configurations for the gateway under test.

use serde_json::{Map, Value, json};

use super::backend::Backend;

/// A configuration in the making. JSON is YAML.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) config: Value,
    pub(crate) env: Vec<(String, String)>,
}

impl Setup {
    /// One pool for every model with these backends, named `b0`, `b1`, ….
    pub(crate) fn to(backends: &[&Backend]) -> Self {
        let urls: Vec<String> = backends.iter().map(|backend| backend.url()).collect();
        Self::urls(&urls)
    }

    /// The same for any addresses.
    pub(crate) fn urls(urls: &[String]) -> Self {
        Self::pools(json!([pool("default", &["*"], urls)]))
    }

    /// These pools.
    pub(crate) fn pools(pools: Value) -> Self {
        let health = json!({
            "interval": "200ms", "timeout": "2s", "unhealthy_after": 2, "healthy_after": 1,
            "slots_every": "2s",
        });
        // These cases are about relaying; those about guards turn them on.
        let guard = json!({"preset": "off"});
        let fleet = json!({"pools": pools, "health": health, "resume": false});
        let config = json!({"fleet": fleet, "guard": guard});
        Self {
            config,
            env: Vec::new(),
        }
    }

    /// Set what `path` (steps divided by dots) names.
    pub(crate) fn set(mut self, path: &str, value: Value) -> Self {
        let mut at = &mut self.config;
        for step in path.split('.') {
            if !at.is_object() {
                *at = Value::Object(Map::new());
            }
            at = &mut at[step];
        }
        *at = value;
        self
    }

    /// The context window of all backends, in tokens, whatever they say themselves.
    pub(crate) fn window(self, tokens: u64) -> Self {
        self.every_backend("n_ctx", &json!(tokens))
    }

    /// So many slots on every backend: requests up to that many wait for nothing.
    pub(crate) fn slots(self, count: usize) -> Self {
        self.every_backend("slots", &json!(count))
    }

    fn every_backend(mut self, key: &str, value: &Value) -> Self {
        for pool in self.config["fleet"]["pools"].as_array_mut().unwrap() {
            for backend in pool["backends"].as_array_mut().unwrap() {
                backend[key] = value.clone();
            }
        }
        self
    }

    /// An environment variable for the process.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }
}

/// A pool whose backends are named `b0`, `b1`, … after the pool's own name, if it is not the default.
pub(crate) fn pool(name: &str, models: &[&str], urls: &[String]) -> Value {
    let prefix = if name == "default" {
        String::new()
    } else {
        format!("{name}-")
    };
    let backends: Vec<Value> = urls
        .iter()
        .enumerate()
        .map(|(i, url)| json!({"name": format!("{prefix}b{i}"), "url": url}))
        .collect();
    json!({"name": name, "models": models, "backends": backends})
}

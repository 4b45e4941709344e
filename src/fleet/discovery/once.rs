//! Looking once, for whoever only wants to know.

use std::time::Duration;

use tokio::time::timeout;

use super::{Discovery, Found, News};
use crate::config::Config;

/// A pool whose source has given it no backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Name of the pool.
    pub pool: String,
    /// Backends it has without them.
    pub listed: usize,
    /// Why, in words for people.
    pub why: String,
}

impl Discovery {
    /// `config` with the backends that the sources of its pools tell within `patience`, and the pools that got none.
    /// What `accept` refuses is told there, too. Call it inside a runtime.
    pub async fn once(
        config: &Config,
        patience: Duration,
        accept: impl Fn(Config) -> Result<Config, String>,
    ) -> (Config, Vec<Missing>) {
        let (mut this, mut complete) = (Self::default(), config.clone());
        this.follow(config);
        let looking = async {
            while !this.heard_all() {
                let Found { pool, news } = this.found().await;
                let News::Changed(backends) = news else {
                    continue;
                };
                match accept(this.merged(config, Some((&pool, &backends)))) {
                    Ok(accepted) => {
                        complete = accepted;
                        this.applied(&pool, backends);
                    }
                    Err(why) => this.refused(&pool, &why),
                }
            }
        };
        // Those that are late are told.
        let _ = timeout(patience, looking).await;
        let missing = this.missing(config, patience);
        (complete, missing)
    }

    fn missing(&self, config: &Config, patience: Duration) -> Vec<Missing> {
        let pools = config.fleet.pools.iter();
        let missing = pools.filter_map(|pool| {
            let source = self.sources.get(&pool.name)?;
            let why = source.trouble.clone();
            source.known.is_empty().then(|| Missing {
                pool: pool.name.clone(),
                listed: pool.backends.len(),
                why: why.unwrap_or_else(|| format!("no answer within {patience:?}")),
            })
        });
        missing.collect()
    }
}

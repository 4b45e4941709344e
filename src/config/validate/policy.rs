//! Policies compile, and the profiles that keys and pools name exist.

use super::Checker;
use crate::config::schema::Config;

impl Checker<'_> {
    pub(super) fn policy(&mut self, config: &mut Config) {
        if let Some(policy) = &mut config.policy
            && let Err(mistakes) = policy.compile()
        {
            for mistake in mistakes {
                self.error(format!("policy.{}", mistake.path), mistake.message);
            }
            return;
        }
        let engine = config.policy.as_ref().and_then(|policy| policy.engine());
        let known: Vec<&str> = engine
            .map(|engine| engine.profiles().collect())
            .unwrap_or_default();
        let keys = config.auth.keys.iter().enumerate();
        let keys = keys.map(|(n, key)| (format!("auth.keys[{n}].policy"), key.policy.as_deref()));
        let pools = config.fleet.pools.iter().enumerate();
        let pools =
            pools.map(|(n, pool)| (format!("fleet.pools[{n}].policy"), pool.policy.as_deref()));
        for (path, profile) in keys.chain(pools) {
            if let Some(profile) = profile.filter(|profile| !known.contains(profile)) {
                let message = match config.policy {
                    Some(_) => format!("`policy` has no profile `{profile}`"),
                    None => "there is no section `policy`".to_owned(),
                };
                self.error(path, message);
            }
        }
    }
}

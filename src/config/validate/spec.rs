//! Speculative profiles, and who is given which.

use super::Checker;
use crate::config::schema::{Config, SpecProfile};

impl Checker<'_> {
    pub(super) fn spec(&mut self, config: &Config) {
        let spec = &config.spec;
        for (name, profile) in &spec.profiles {
            let path = format!("spec.profiles.{name}");
            self.name(&path, name);
            if matches!(name.as_str(), "auto" | "off" | "unknown" | "none") {
                self.error(&path, format!("`{name}` has a meaning of its own"));
            }
            self.spec_profile(&path, profile);
        }
        for (n, rule) in spec.rules.iter().enumerate() {
            let path = format!("spec.rules[{n}]");
            let pools = &config.fleet.pools;
            for (n, name) in rule.pools.iter().enumerate() {
                if !pools.iter().any(|pool| pool.name == *name) {
                    let path = format!("{path}.pools[{n}]");
                    self.error(path, format!("there is no pool `{name}`"));
                }
            }
            let name = rule.profile.as_str();
            if !matches!(name, "off" | "auto") && !spec.has_profile(name) {
                let message =
                    format!("must be off, auto or a profile; there is no profile `{name}`");
                self.error(format!("{path}.profile"), message);
            }
        }
        self.profiles_of_backends(config);
        self.positive("spec.reprefill_max", spec.reprefill_max);
        if spec.reprefill_rate == 0 {
            self.error("spec.reprefill_rate", "must be at least 1");
        }
    }

    /// A name that is nowhere else is most likely a mistake, and no turn could ask for it.
    fn profiles_of_backends(&mut self, config: &Config) {
        for (n, pool) in config.fleet.pools.iter().enumerate() {
            for (m, backend) in pool.backends.iter().enumerate() {
                let name = backend.profile.as_deref();
                if let Some(name) = name.filter(|name| !config.spec.has_profile(name)) {
                    self.error(
                        format!("fleet.pools[{n}].backends[{m}].profile"),
                        format!("`{name}` is no type of llama-server's, nor in `spec.profiles`"),
                    );
                }
            }
        }
    }

    fn spec_profile(&mut self, path: &str, profile: &SpecProfile) {
        let SpecProfile {
            kind,
            n_match,
            n_min,
            n_max,
            p_min,
            draft_model,
        } = profile;
        if n_match.is_some_and(|n| n == 0) {
            self.error(format!("{path}.n_match"), "must be at least 1");
        }
        if let (Some(min), Some(max)) = (n_min, n_max)
            && min > max
        {
            self.error(format!("{path}.n_min"), "must be at most `n_max`");
        }
        if p_min.is_some_and(|p| !(0.0..=1.0).contains(&p)) {
            self.error(format!("{path}.p_min"), "must be from 0 to 1");
        }
        let drafts = kind.has_draft_model();
        let foreign = [
            ("p_min", p_min.is_some() && !drafts),
            ("draft_model", draft_model.is_some() && !drafts),
            ("n_match", n_match.is_some() && drafts),
        ];
        for (key, is_foreign) in foreign {
            if is_foreign {
                let message = format!("`{}` has no such setting", kind.as_str());
                self.error(format!("{path}.{key}"), message);
            }
        }
    }
}

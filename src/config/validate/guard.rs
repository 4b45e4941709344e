//! What the guards are told.

use std::collections::HashSet;

use super::Checker;
use crate::config::schema::{Config, Context, ModelProfile, Sampling};

impl Checker<'_> {
    pub(super) fn guard(&mut self, config: &Config) {
        self.context(&config.guard.context);
        self.sampling(&config.guard.sampling);
        for (n, pool) in config.fleet.pools.iter().enumerate() {
            let Some(name) = &pool.model_profile else {
                continue;
            };
            let profiles = &config.guard.sampling.profiles;
            if !profiles.iter().any(|profile| profile.name == *name) {
                let path = format!("fleet.pools[{n}].model_profile");
                self.error(path, format!("guard.sampling.profiles has no `{name}`"));
            }
        }
    }

    fn context(&mut self, context: &Context) {
        let Context {
            threshold,
            target,
            critical,
            ..
        } = *context;
        if !(threshold > 0.0 && threshold <= 1.0) {
            self.error("guard.context.threshold", "must be more than 0, at most 1");
        }
        if !(target > 0.0 && target < threshold) {
            let message = "must be more than 0 and less than `threshold`";
            self.error("guard.context.target", message);
        }
        if !(critical >= threshold && critical <= 1.0) {
            self.error("guard.context.critical", "must be from `threshold` to 1");
        }
        self.positive("guard.context.count_timeout", context.count_timeout);
    }

    fn sampling(&mut self, sampling: &Sampling) {
        let limits = [
            ("max_tokens_floor", sampling.max_tokens_floor),
            ("max_tokens_cap", sampling.max_tokens_cap),
            ("tool_turn_max_tokens", sampling.tool_turn_max_tokens),
        ];
        for (key, limit) in limits {
            if limit == Some(0) {
                self.error(format!("guard.sampling.{key}"), "must be at least 1");
            }
        }
        if sampling
            .tool_turn_temperature
            .is_some_and(|t| t.is_nan() || t < 0.0)
        {
            let path = "guard.sampling.tool_turn_temperature";
            self.error(path, "must be at least 0");
        }
        if sampling.narrowing_keep == 0 {
            self.error("guard.sampling.narrowing_keep", "must be at least 1");
        }
        let mut names = HashSet::new();
        for (n, profile) in sampling.profiles.iter().enumerate() {
            let path = format!("guard.sampling.profiles[{n}]");
            self.name(&format!("{path}.name"), &profile.name);
            if !names.insert(&profile.name) {
                let message = format!("`{}` is there twice", profile.name);
                self.error(format!("{path}.name"), message);
            }
            self.profile(&path, profile);
        }
    }

    fn profile(&mut self, path: &str, profile: &ModelProfile) {
        let numbers = [
            ("temperature", profile.temperature, 0.0, f64::MAX),
            ("top_p", profile.top_p, 0.0, 1.0),
            ("min_p", profile.min_p, 0.0, 1.0),
            ("repeat_penalty", profile.repeat_penalty, 0.0, f64::MAX),
            ("presence_penalty", profile.presence_penalty, -2.0, 2.0),
            ("frequency_penalty", profile.frequency_penalty, -2.0, 2.0),
        ];
        for (key, value, min, max) in numbers {
            if value.is_some_and(|value| !(min..=max).contains(&value)) {
                let most = match max {
                    f64::MAX => String::new(),
                    max => format!(" and at most {max}"),
                };
                let message = format!("must be at least {min}{most}");
                self.error(format!("{path}.{key}"), message);
            }
        }
        if profile.max_tokens == Some(0) {
            self.error(format!("{path}.max_tokens"), "must be at least 1");
        }
    }
}

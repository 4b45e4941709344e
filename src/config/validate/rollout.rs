//! Rollouts: of something that is there, in steps that lead somewhere.

use url::Url;

use super::{Checker, Seen};
use crate::config::endpoint::Endpoint;
use crate::config::schema::{Backend, Config, Pool, Relative, Rollout, Subject};

/// Most sessions a side has to have; their hashes are kept.
const MOST_SESSIONS: u32 = 1000;

impl Checker<'_> {
    pub(super) fn rollouts(&mut self, config: &mut Config) {
        for (n, rollout) in config.spec.rollouts.iter_mut().enumerate() {
            for (m, webhook) in rollout.webhooks.iter_mut().enumerate() {
                let path = format!("spec.rollouts[{n}].webhooks[{m}]");
                self.fill(&format!("{path}.token_env"), webhook.token_env.as_mut());
                let url = Url::parse(&webhook.url).ok();
                if !url.is_some_and(|u| matches!(u.scheme(), "http" | "https") && u.has_host()) {
                    let message = format!(
                        "`{}` is no address such as https://hooks.example/rollouts",
                        webhook.url
                    );
                    self.error(format!("{path}.url"), message);
                }
            }
        }
        let (mut names, mut pools) = (Seen::default(), Seen::default());
        for (n, rollout) in config.spec.rollouts.iter().enumerate() {
            let path = format!("spec.rollouts[{n}]");
            self.name(&format!("{path}.name"), &rollout.name);
            if let Some(first) = names.before(rollout.name.clone(), &path) {
                let message = format!("`{}` is the name of {first} already", rollout.name);
                self.error(format!("{path}.name"), message);
            }
            // A session would be on two sides at once.
            if let Some(first) = pools.before(rollout.pool.clone(), &path) {
                let message = format!("pool `{}` has a rollout already: {first}", rollout.pool);
                self.error(format!("{path}.pool"), message);
            }
            self.rollout(&path, rollout, config);
        }
    }

    fn rollout(&mut self, path: &str, rollout: &Rollout, config: &Config) {
        let pools = &config.fleet.pools;
        match pools.iter().find(|pool| pool.name == rollout.pool) {
            None => self.error(
                format!("{path}.pool"),
                format!("there is no pool `{}`", rollout.pool),
            ),
            Some(pool) => self.rollout_in(path, rollout, pool),
        }
        for (key, subject) in [
            ("baseline", &rollout.baseline),
            ("candidate", &rollout.candidate),
        ] {
            if let Subject::Profile(name) = subject
                && !config.spec.has_profile(name)
            {
                let message = format!("there is no profile `{name}`");
                self.error(format!("{path}.{key}"), message);
            }
        }
        if rollout.baseline == rollout.candidate {
            let message = "is the baseline: there is nothing to compare";
            self.error(format!("{path}.candidate"), message);
        }
        if !(rollout.alpha > 0.0 && rollout.alpha <= 0.5) {
            self.error(format!("{path}.alpha"), "must be above 0 and at most 0.5");
        }
        self.steps(path, rollout);
        self.bounds(path, rollout);
        let is_profile = matches!(rollout.candidate, Subject::Profile(_));
        if !rollout.hooks.set_profile.is_empty() && !is_profile {
            let message = "only a candidate that is a profile can be set";
            self.error(format!("{path}.hooks.set_profile"), message);
        }
        self.positive(format!("{path}.hooks.timeout"), rollout.hooks.timeout);
        self.crossover(path, rollout);
    }

    fn crossover(&mut self, path: &str, rollout: &Rollout) {
        let is_profile = |subject: &Subject| matches!(subject, Subject::Profile(_));
        let path = format!("{path}.crossover");
        if !rollout.crossover {
            return;
        }
        if !(is_profile(&rollout.candidate) && is_profile(&rollout.baseline)) {
            self.error(path, "only profiles can be exchanged");
        } else if rollout.hardware_equal {
            self.error(
                path,
                "is of no use where `hardware_equal` says that there is nothing to take away",
            );
        }
    }

    /// Names of backends, where the pool lists its own; discovered ones are not known yet.
    fn rollout_in(&mut self, path: &str, rollout: &Rollout, pool: &Pool) {
        if pool.discovery.is_some() {
            return;
        }
        let is_here = |name: &str| {
            let of = |backend: &Backend| {
                let endpoint = || Some(Endpoint::parse(&backend.url).ok()?.default_name());
                backend.name.clone().or_else(endpoint)
            };
            let mut names = pool.backends.iter().filter_map(of);
            names.any(|known| known == name)
        };
        let missing = |name: &str| format!("pool `{}` has no backend `{name}`", pool.name);
        if !is_here(&rollout.control) {
            self.error(format!("{path}.control"), missing(&rollout.control));
        }
        for (key, subject) in [
            ("baseline", &rollout.baseline),
            ("candidate", &rollout.candidate),
        ] {
            if let Subject::Backend(name) = subject
                && !is_here(name)
            {
                self.error(format!("{path}.{key}.backend"), missing(name));
            }
        }
        if rollout.candidate == Subject::Backend(rollout.control.clone()) {
            self.error(format!("{path}.control"), "is the candidate");
        }
        if let Subject::Backend(name) = &rollout.baseline
            && *name != rollout.control
        {
            let message = "must be the baseline's backend";
            self.error(format!("{path}.control"), message);
        }
    }

    fn steps(&mut self, path: &str, rollout: &Rollout) {
        let steps = &rollout.steps;
        if steps.is_empty() {
            self.error(format!("{path}.steps"), "must have at least one");
        }
        if steps.len() > 20 {
            self.error(format!("{path}.steps"), "at most 20");
        }
        if steps.first().is_some_and(|first| first.0 > 0.5) {
            let message = "the first must leave the control as many sessions: at most 50%";
            self.error(format!("{path}.steps[0]"), message);
        }
        for (n, pair) in steps.windows(2).enumerate() {
            if pair[1] <= pair[0] {
                let path = format!("{path}.steps[{}]", n + 1);
                self.error(path, "must be more than the one before");
            }
        }
        if steps.first().is_some_and(|first| first.0 <= 0.0) {
            self.error(format!("{path}.steps[0]"), "must be more than 0%");
        }
        let step = &rollout.step;
        self.positive(format!("{path}.step.max_time"), step.max_time);
        if step.min_time > step.max_time {
            self.error(
                format!("{path}.step.min_time"),
                "must be at most `max_time`",
            );
        }
        if step.min_turns == 0 {
            self.error(
                format!("{path}.step.min_turns"),
                "must be at least 1: no traffic never promotes",
            );
        }
        if !(1..=MOST_SESSIONS).contains(&step.min_sessions) {
            let message = format!("must be from 1 to {MOST_SESSIONS}");
            self.error(format!("{path}.step.min_sessions"), message);
        }
    }

    fn bounds(&mut self, path: &str, rollout: &Rollout) {
        let never = &rollout.never_worse;
        if never.decode_tps.is_some_and(|Relative(most)| most > 0.0) {
            let message = "is a loss that is put up with: 0% or less";
            self.error(format!("{path}.never_worse.decode_tps"), message);
        }
        let rises = [
            ("ttft", never.ttft.map(|r| r.0)),
            ("error_rate", never.error_rate.map(|p| p.0)),
            ("malformed_rate", never.malformed_rate.map(|p| p.0)),
            ("loop_rate", never.loop_rate.map(|p| p.0)),
        ];
        for (key, rise) in rises {
            if rise.is_some_and(|rise| rise < 0.0) {
                let message = "is a rise that is put up with: 0 or more";
                self.error(format!("{path}.never_worse.{key}"), message);
            }
        }
    }
}

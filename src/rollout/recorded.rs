//! Recorded benchmarks of backends: what two of them differ by, and what one of them was like.

use std::collections::BTreeMap;

use crate::bench::Baseline;
use crate::config::{Config, RequestClass, Rollout, Subject};
use crate::spec::Ledger;
use crate::spec::rollout::{Hardware, Ratios, recorded_share};

/// Tests of one backend against another: classes of requests, and speeds of each.
const TESTS: f64 = (RequestClass::ALL.len() * 3) as f64;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Recorded {
    /// By backend; or why its artifact is of no use.
    artifacts: BTreeMap<String, Result<Baseline, String>>,
}

impl Recorded {
    /// Reads those of `config`. One that cannot be read is told, and is of no use.
    pub(super) async fn read(config: &Config) -> Self {
        let paths = config.spec.recorded.clone();
        let read = move || {
            let all = paths.into_iter().map(|(backend, path)| {
                let artifact = Baseline::read(&path).map_err(|error| error.to_string());
                (backend, artifact)
            });
            all.collect()
        };
        let artifacts: BTreeMap<String, Result<Baseline, String>> =
            tokio::task::spawn_blocking(read).await.unwrap_or_default();
        for (backend, artifact) in &artifacts {
            if let Err(error) = artifact {
                tracing::error!(backend, error, "a recorded benchmark is of no use");
            }
        }
        Self { artifacts }
    }

    /// Lets what is observed be compared with them.
    pub(super) fn tell(&self, ledger: &Ledger) {
        let known = self.artifacts.iter().filter_map(|(backend, artifact)| {
            let artifact = artifact.as_ref().ok()?;
            Some((backend.as_str().into(), artifact.all()))
        });
        ledger.record(known.collect());
    }

    /// What the backends of the candidate differ from the control by, in words as well; or why that is not known.
    /// None: nothing is recorded of any of them.
    pub(super) fn hardware(
        &self,
        plan: &Rollout,
        control: &str,
        candidates: &[String],
    ) -> Option<Result<(Hardware, String), String>> {
        if !candidates
            .iter()
            .any(|name| self.artifacts.contains_key(name))
        {
            return None;
        }
        Some(self.differences(plan, control, candidates))
    }

    fn differences(
        &self,
        plan: &Rollout,
        control: &str,
        candidates: &[String],
    ) -> Result<(Hardware, String), String> {
        let than = self.artifact(control)?;
        let alpha = plan.alpha * recorded_share(plan) / (TESTS * self.artifacts.len() as f64);
        let profile = match &plan.baseline {
            Subject::Profile(name) => Some(name.as_str()),
            Subject::Build(_) | Subject::Backend(_) => None,
        };
        let mut all: Option<BTreeMap<RequestClass, Ratios>> = None;
        for name in candidates {
            let of_one = self
                .artifact(name)?
                .against(than, profile, alpha)
                .map_err(|why| format!("the artifacts of {name} and {control}: {why}"))?;
            all = Some(match all {
                None => of_one,
                // Only what is known of every one of them, and then any of them.
                Some(known) => {
                    let both = known.into_iter().filter_map(|(class, ratios)| {
                        Some((class, ratios.hull(*of_one.get(&class)?)))
                    });
                    both.collect()
                }
            });
        }
        let all = all.unwrap_or_default();
        if all.is_empty() {
            return Err("the artifacts have no class of requests in common".to_owned());
        }
        let classes: Vec<_> = all.keys().map(|class| class.as_str()).collect();
        let told = format!(
            "what the servers differ by is recorded for {}",
            classes.join(", ")
        );
        Ok((Hardware(all), told))
    }

    fn artifact(&self, backend: &str) -> Result<&Baseline, String> {
        match self.artifacts.get(backend) {
            Some(Ok(artifact)) => Ok(artifact),
            Some(Err(error)) => Err(format!("`spec.recorded` of {backend}: {error}")),
            None => Err(format!("`spec.recorded` has nothing of {backend}")),
        }
    }
}

#[cfg(test)]
mod tests;

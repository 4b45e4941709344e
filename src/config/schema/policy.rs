//! Rules for what agents may do: as they are written, and compiled.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::policy::{Engine, Mistake, Source};

/// The `policy` section.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(from = "Source", into = "Source")]
#[schemars(with = "Source")]
pub struct Policy {
    source: Source,
    engine: Option<Arc<Engine>>,
}

impl Policy {
    /// The compiled rules. Present in every configuration that [`crate::config::load`] returned.
    pub fn engine(&self) -> Option<&Arc<Engine>> {
        self.engine.as_ref()
    }

    /// Compile it.
    ///
    /// # Errors
    /// Every mistake in it.
    pub(in crate::config) fn compile(&mut self) -> Result<(), Vec<Mistake>> {
        self.engine = Some(Arc::new(Engine::new(&self.source)?));
        Ok(())
    }
}

impl PartialEq for Policy {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl From<Source> for Policy {
    fn from(source: Source) -> Self {
        Self {
            source,
            engine: None,
        }
    }
}

impl From<Policy> for Source {
    fn from(policy: Policy) -> Self {
        policy.source
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::config;
    use crate::policy::{Actor, SessionState, TurnPolicy, Verdict};

    /// What becomes of a shell's call by the policy of an example.
    fn verdict(example: &str, profiles: &[&str], command: &str) -> Verdict {
        let config = config::parse(example, std::iter::empty()).unwrap();
        let engine = config.policy.as_ref().unwrap().engine().unwrap();
        let pool = config.fleet.pools[0].policy.as_deref();
        let active = engine
            .active(pool.into_iter().chain(profiles.iter().copied()))
            .unwrap();
        let actor = Actor {
            root: Some("/r".into()),
            ..Actor::default()
        };
        let turn = TurnPolicy::new(engine.clone(), active, actor, SessionState::default(), &[]);
        turn.tool_call("Bash", &json!({"command": command}).to_string())
            .verdict
    }

    fn reason(verdict: Verdict) -> String {
        match verdict {
            Verdict::Block(blocked) => blocked.reason,
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn the_build_example_does_what_it_says() {
        let example = include_str!("../../../conf/examples/policy-build.yaml");
        assert_eq!(
            reason(verdict(example, &[], "touch a")),
            "worktree_not_in_use"
        );
        assert_eq!(
            reason(verdict(example, &["plan"], "touch a")),
            "worktree_not_in_use"
        );
        assert_eq!(verdict(example, &[], "git worktree add w"), Verdict::Allow);
    }

    #[test]
    fn the_example_of_own_rules_does_what_it_says() {
        let example = include_str!("../../../conf/examples/policy-own-rules.yaml");
        for (command, expected) in [
            ("git push -f", "force_push"),
            ("git -C x push --force-with-lease=main", "force_push"),
            ("git reset --hard HEAD~1", "destructive_reset"),
            ("cd x && terraform apply", "live_infrastructure"),
            ("git push origin main", "Allow"),
            ("git commit -m x", "Allow"),
            ("terraform plan", "Allow"),
        ] {
            assert_eq!(
                reason(verdict(example, &["trial"], command)),
                expected,
                "{command}"
            );
        }
    }

    #[test]
    fn mistakes_stand_where_the_file_has_them() {
        let text = "policy:\n  rules:\n    - id: a\n      on: tool_call\n      when: 'tool.nme == \"x\"'\n      then: {block: {reason: x}}\n";
        let error = config::parse(text, std::iter::empty()).unwrap_err();
        let mistake = &error.errors[0];
        assert_eq!(
            (mistake.path.as_str(), mistake.position.unwrap().line),
            ("policy.rules[0].when", 5)
        );
        assert!(
            mistake.message.contains("column 5") && mistake.message.contains("`nme`"),
            "{mistake}"
        );
        for text in [
            "fleet: {pools: [{name: a, models: ['*'], policy: build, backends: [{url: 'http://127.0.0.1:1'}]}]}",
            "policy: {profile: nope}",
        ] {
            assert!(config::parse(text, std::iter::empty()).is_err(), "{text}");
        }
    }
}

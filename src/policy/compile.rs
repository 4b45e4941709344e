//! From the words of a policy to its engine: every mistake is found, not only the first.

use std::collections::{BTreeMap, BTreeSet};

use cel::Env;
use sha2::{Digest, Sha256};

use super::engine::{Action, Fact, Mistake, Needed, Rule};
use super::expr::{Expr, Fault};
use super::source::{Fact as FactSource, Mode, Requirement, Rule as RuleSource, Source, Stage};

pub(super) fn mistake(path: &str, message: impl std::fmt::Display) -> Mistake {
    Mistake {
        path: path.to_owned(),
        message: message.to_string(),
    }
}

/// Compiles expressions, and collects what is wrong with them.
pub(super) struct Compiler {
    env: Env,
    /// Names that may follow `session.`.
    names: BTreeSet<String>,
    pub(super) captures: BTreeSet<String>,
    pub(super) mistakes: Vec<Mistake>,
}

impl Compiler {
    pub(super) fn new(source: &Source, builtin: &Source) -> Self {
        let facts = || builtin.facts.iter().chain(&source.facts);
        let captures: BTreeSet<String> = facts()
            .flat_map(|(_, fact)| fact.capture.keys().cloned())
            .collect();
        let names = facts().map(|(name, _)| name.clone());
        Self {
            env: Env::stdlib(),
            names: names.chain(captures.iter().cloned()).collect(),
            captures,
            mistakes: Vec::new(),
        }
    }

    fn expr(&mut self, path: &str, source: &str) -> Option<Expr> {
        match Expr::compile(&self.env, source, &self.names) {
            Ok(expr) => Some(expr),
            Err(faults) => {
                for Fault {
                    line,
                    column,
                    message,
                } in faults
                {
                    let message =
                        format!("line {line}, column {column} of the expression: {message}");
                    self.mistakes.push(mistake(path, message));
                }
                None
            }
        }
    }

    pub(super) fn facts(&mut self, source: &Source, builtin: &Source) -> BTreeMap<String, Fact> {
        let builtin = builtin
            .facts
            .iter()
            .filter(|(name, _)| !source.facts.contains_key(*name));
        let all: Vec<_> = builtin.chain(&source.facts).collect();
        let compiled = all.into_iter().filter_map(|(name, fact)| {
            let compiled = self.fact(&format!("facts.{name}"), fact)?;
            Some((name.clone(), compiled))
        });
        compiled.collect()
    }

    fn fact(&mut self, path: &str, fact: &FactSource) -> Option<Fact> {
        let optional = |this: &mut Self, key: &str, source: &Option<String>| {
            source
                .as_ref()
                .map(|source| this.expr(&format!("{path}.{key}"), source))
        };
        if fact.all_of.is_empty() != fact.by.is_none() {
            self.mistakes
                .push(mistake(path, "`all_of` and `by` need each other"));
        }
        let when = self.expr(&format!("{path}.when"), &fact.when);
        let result = optional(self, "result", &fact.result);
        let by = optional(self, "by", &fact.by);
        let mut capture = BTreeMap::new();
        for (name, source) in &fact.capture {
            if let Some(expr) = self.expr(&format!("{path}.capture.{name}"), source) {
                capture.insert(name.clone(), expr);
            }
        }
        let paths = fact
            .capture
            .iter()
            .filter(|(_, source)| source.contains("shell.path"));
        Some(Fact {
            when: when?,
            result: result.flatten(),
            paths: paths.map(|(name, _)| name.clone()).collect(),
            capture,
            stale_after: fact.stale_after.clone(),
            all_of: fact.all_of.clone(),
            by: by.flatten(),
        })
    }

    pub(super) fn rules(&mut self, source: &Source, builtin: &Source) -> Vec<Rule> {
        let mut ids = BTreeSet::new();
        let mut rules = Vec::new();
        for (n, rule) in source.rules.iter().enumerate() {
            let path = format!("rules[{n}]");
            if !ids.insert(rule.id.clone()) {
                self.mistakes.push(mistake(
                    &format!("{path}.id"),
                    format!("`{}` is there twice", rule.id),
                ));
            }
            rules.extend(self.rule(&path, rule));
        }
        for rule in builtin.rules.iter().filter(|rule| !ids.contains(&rule.id)) {
            let path = format!("builtin rule {}", rule.id);
            rules.extend(self.rule(&path, rule));
        }
        rules
    }

    fn rule(&mut self, path: &str, rule: &RuleSource) -> Option<Rule> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if rule.id.is_empty() || rule.id.len() > 64 || !rule.id.chars().all(plain) {
            let message = format!(
                "`{}` is no name: 1 to 64 of letters, digits and . _ -",
                rule.id
            );
            self.mistakes.push(mistake(&format!("{path}.id"), message));
        }
        let when = rule
            .when
            .as_ref()
            .map(|when| self.expr(&format!("{path}.when"), when));
        let action = self.action(path, rule);
        let json = serde_json::to_vec(rule).unwrap_or_default();
        let version: String = Sha256::digest(json)
            .iter()
            .take(4)
            .map(|b| format!("{b:02x}"))
            .collect();
        Some(Rule {
            id: rule.id.as_str().into(),
            version: version.into(),
            stage: rule.on,
            level: rule.level,
            mode: rule.mode,
            when: match when {
                Some(expr) => Some(expr?),
                None => None,
            },
            action: action?,
        })
    }

    fn action(&mut self, path: &str, rule: &RuleSource) -> Option<Action> {
        let requires = matches!(rule.on, Stage::SessionStart | Stage::Completion);
        match (&rule.then, requires) {
            (None, true) if !rule.require.is_empty() => {
                Some(Action::Require(self.needs(path, &rule.require)?))
            }
            (Some(then), false) if rule.require.is_empty() => {
                match (&then.block, &then.rewrite, &then.lease) {
                    (Some(block), None, None) => Some(Action::Block(block.clone())),
                    (None, None, Some(lease)) if rule.on == Stage::ToolCall => {
                        Some(Action::Lease(lease.clone()))
                    }
                    (None, Some(rewrite), None) if rule.on == Stage::ToolCall => {
                        let paths = rewrite
                            .paths
                            .as_ref()
                            .map(|source| self.expr(&format!("{path}.then.rewrite.paths"), source));
                        let mut input = BTreeMap::new();
                        for (name, source) in &rewrite.input {
                            input.insert(
                                name.clone(),
                                self.expr(&format!("{path}.then.rewrite.input.{name}"), source)?,
                            );
                        }
                        Some(Action::Rewrite {
                            paths: paths.flatten(),
                            input,
                        })
                    }
                    (None, Some(_), None) => {
                        self.no_action(path, "only a `tool_call` can be rewritten")
                    }
                    (None, None, Some(_)) => {
                        self.no_action(path, "only a `tool_call` can need a lease")
                    }
                    _ => self.no_action(path, "`then` needs one of `block`, `rewrite` and `lease`"),
                }
            }
            (_, true) => self.no_action(
                path,
                "`session_start` and `completion` need `require`, and no `then`",
            ),
            (_, false) => self.no_action(path, "it needs `then`, and no `require`"),
        }
    }

    fn no_action(&mut self, path: &str, message: &str) -> Option<Action> {
        self.mistakes.push(mistake(path, message));
        None
    }

    fn needs(&mut self, path: &str, requirements: &[Requirement]) -> Option<Vec<Needed>> {
        let needs = requirements.iter().enumerate().map(|(n, requirement)| {
            let when = self.expr(&format!("{path}.require[{n}].when"), &requirement.when)?;
            Some(Needed {
                when,
                blocker: requirement.blocker.clone(),
                hint: requirement.hint.clone(),
            })
        });
        needs.collect::<Vec<_>>().into_iter().collect()
    }

    pub(super) fn profiles(
        &mut self,
        source: &Source,
        builtin: &Source,
        rules: &[Rule],
    ) -> BTreeMap<String, (Vec<usize>, Mode)> {
        let own = |name: &String| source.profiles.contains_key(name);
        let builtin = builtin.profiles.iter().filter(|(name, _)| !own(name));
        let mut profiles = BTreeMap::new();
        for (name, profile) in source.profiles.iter().chain(builtin) {
            let mut places = Vec::new();
            for (n, id) in profile.rules().iter().enumerate() {
                match rules.iter().position(|rule| *rule.id == **id) {
                    Some(place) => places.push(place),
                    // A rule that does not compile has been told about already.
                    None if source.rules.iter().any(|rule| rule.id == *id) => {}
                    None => {
                        let path = format!("profiles.{name}[{n}]");
                        self.mistakes
                            .push(mistake(&path, format!("there is no rule `{id}`")));
                    }
                }
            }
            profiles.insert(name.clone(), (places, profile.mode()));
        }
        profiles
    }
}

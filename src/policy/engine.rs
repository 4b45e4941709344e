//! A policy, compiled.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cel::{Context, Env};
use sha2::{Digest, Sha256};

use super::expr::{Expr, Fault};
use super::functions;
use super::source::{
    Block, Event, Fact as FactSource, Level, Mode, Requirement, Rule as RuleSource, Source, Stage,
};
use super::tools::Tools;

/// A mistake in a policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct Mistake {
    /// Where it is, from the `policy` section on: `rules[2].when`.
    pub path: String,
    /// What is wrong.
    pub message: String,
}

/// See the module's documentation.
pub struct Engine {
    pub(super) tools: Tools,
    pub(super) facts: BTreeMap<String, Fact>,
    pub(super) rules: Vec<Rule>,
    pub(super) context: Context<'static, 'static>,
    /// Names that stand for texts.
    pub(super) captures: BTreeSet<String>,
    profiles: BTreeMap<String, (Vec<usize>, Mode)>,
    profile: Option<String>,
    /// The working directory of every session.
    pub root: Option<String>,
    /// Blocked calls a turn tells its model about.
    pub max_denials: u32,
    /// Times a turn sends its model back from a blocked end.
    pub max_gate_rounds: u32,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rules: Vec<&str> = self.rules.iter().map(|rule| &*rule.id).collect();
        f.debug_struct("Engine")
            .field("rules", &rules)
            .finish_non_exhaustive()
    }
}

/// Something a session has done.
#[derive(Debug)]
pub(super) struct Fact {
    pub(super) when: Expr,
    pub(super) result: Option<Expr>,
    pub(super) capture: BTreeMap<String, Expr>,
    /// Captures that are paths, and made absolute.
    pub(super) paths: BTreeSet<String>,
    pub(super) stale_after: Vec<Event>,
    pub(super) all_of: Vec<String>,
    pub(super) by: Option<Expr>,
}

/// One rule.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) id: Arc<str>,
    /// Hash of its text: what a decision was made by.
    pub(super) version: Arc<str>,
    pub(super) stage: Stage,
    pub(super) level: Level,
    pub(super) mode: Mode,
    pub(super) when: Option<Expr>,
    pub(super) action: Action,
}

#[derive(Debug)]
pub(super) enum Action {
    Block(Block),
    Rewrite {
        paths: Option<Expr>,
        input: BTreeMap<String, Expr>,
    },
    Require(Vec<Needed>),
}

/// Something that must be true.
#[derive(Debug)]
pub(super) struct Needed {
    pub(super) when: Expr,
    pub(super) blocker: String,
    pub(super) hint: String,
}

/// The rules in force for a turn, by stage, with whether each acts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Active {
    rules: Vec<(usize, Mode)>,
}

impl Active {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }
}

/// A profile that there is none of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no policy profile `{0}`")]
pub struct NoProfile(pub String);

impl Engine {
    /// Compile `source` together with what is built in.
    ///
    /// # Errors
    /// Every mistake.
    pub fn new(source: &Source) -> Result<Self, Vec<Mistake>> {
        let builtin = super::builtin::source().map_err(|e| vec![mistake("builtin", e)])?;
        let mut compiler = Compiler::new(source, &builtin);
        let tools = Tools::new(&source.tools).unwrap_or_else(|errors| {
            for (class, n, error) in errors {
                let path = format!("tools.{}[{n}]", class.as_str());
                compiler.mistakes.push(mistake(&path, error));
            }
            Tools::default()
        });
        let facts = compiler.facts(source, &builtin);
        let rules = compiler.rules(source, &builtin);
        let profiles = compiler.profiles(source, &builtin, &rules);
        if let Some(profile) = &source.profile
            && !profiles.contains_key(profile)
        {
            let message = NoProfile(profile.clone()).to_string();
            compiler.mistakes.push(mistake("profile", message));
        }
        let context = functions::context().map_err(|e| vec![mistake("", e)])?;
        if !compiler.mistakes.is_empty() {
            return Err(compiler.mistakes);
        }
        Ok(Self {
            tools,
            captures: compiler.captures,
            facts,
            rules,
            context,
            profiles,
            profile: source.profile.clone(),
            root: source.root.clone(),
            max_denials: source.max_denials,
            max_gate_rounds: source.max_gate_rounds,
        })
    }

    /// Names of the profiles.
    pub fn profiles(&self) -> impl Iterator<Item = &str> {
        self.profiles.keys().map(String::as_str)
    }

    /// Ids of all rules.
    pub fn rule_ids(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().map(|rule| &*rule.id)
    }

    /// The rules of all `profiles` together, and of the default one. A rule that acts by one of them
    /// acts.
    ///
    /// # Errors
    /// [`NoProfile`].
    pub fn active<'a>(
        &'a self,
        profiles: impl IntoIterator<Item = &'a str>,
    ) -> Result<Active, NoProfile> {
        let mut active: BTreeMap<usize, Mode> = BTreeMap::new();
        for name in self.profile.iter().map(String::as_str).chain(profiles) {
            let (rules, mode) = self
                .profiles
                .get(name)
                .ok_or_else(|| NoProfile(name.to_owned()))?;
            for rule in rules {
                let mode = (*mode).min(self.rules[*rule].mode);
                let known = active.entry(*rule).or_insert(mode);
                *known = (*known).max(mode);
            }
        }
        Ok(Active {
            rules: active.into_iter().collect(),
        })
    }

    /// Those of `active` that run at `stage`.
    pub(super) fn at<'a>(
        &'a self,
        active: &'a Active,
        stage: Stage,
    ) -> impl Iterator<Item = (&'a Rule, Mode)> {
        let rules = active.rules.iter();
        rules.filter_map(move |(rule, mode)| {
            let rule = self.rules.get(*rule)?;
            (rule.stage == stage).then_some((rule, *mode))
        })
    }
}

fn mistake(path: &str, message: impl std::fmt::Display) -> Mistake {
    Mistake {
        path: path.to_owned(),
        message: message.to_string(),
    }
}

struct Compiler {
    env: Env,
    /// Names that may follow `session.`.
    names: BTreeSet<String>,
    captures: BTreeSet<String>,
    mistakes: Vec<Mistake>,
}

impl Compiler {
    fn new(source: &Source, builtin: &Source) -> Self {
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

    fn facts(&mut self, source: &Source, builtin: &Source) -> BTreeMap<String, Fact> {
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

    fn rules(&mut self, source: &Source, builtin: &Source) -> Vec<Rule> {
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
            (Some(then), false) if rule.require.is_empty() => match (&then.block, &then.rewrite) {
                (Some(block), None) => Some(Action::Block(block.clone())),
                (None, Some(rewrite)) if rule.on == Stage::ToolCall => {
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
                (None, Some(_)) => self.no_action(path, "only a `tool_call` can be rewritten"),
                _ => self.no_action(path, "`then` needs either `block` or `rewrite`"),
            },
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

    fn profiles(
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

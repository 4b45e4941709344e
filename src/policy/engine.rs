//! A policy, compiled.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cel::Context;

use super::compile::{Compiler, mistake};
use super::expr::Expr;
use super::functions;
use super::lease::Windows;
use super::source::{Block, Event, Lease, Level, Mode, Source, Stage};
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
    /// How long leases last at most.
    pub(super) leases: Windows,
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
    Lease(Lease),
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
            leases: source.leases.clone(),
            root: source.root.clone(),
            max_denials: source.max_denials,
            max_gate_rounds: source.max_gate_rounds,
        })
    }

    /// Whether a profile is in force for every turn.
    pub fn has_default(&self) -> bool {
        self.profile.is_some()
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

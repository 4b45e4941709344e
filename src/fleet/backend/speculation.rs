//! What a backend runs, and whether it does what requests ask of that.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::Serialize;

use super::Backend;
use crate::config::Spec;
use crate::fleet::facts::Facts;
use crate::spec::rollout::Site;
use crate::spec::{Honours, NONE, Place, Runs, Shown, Trial, UNKNOWN};

/// Fewest generated tokens of an answer that tell whether there are drafts.
const LEAST_GENERATED: u64 = 16;

/// What a prompt of ours has led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Probed {
    /// Generated tokens.
    pub generated: u64,
    /// Drafted tokens.
    pub drafted: u64,
    /// The same of the prompt that asked for no drafts.
    pub drafted_though_off: u64,
}

impl Backend {
    /// Speculative profile it was started with: as configured, or as a rollout has given it since.
    pub fn profile(&self) -> Option<Arc<str>> {
        let given = self.live.profile.load();
        given.as_deref().or(self.profile.as_ref()).cloned()
    }

    /// It runs this profile from now on, whatever is configured. What was found out of another one is void.
    pub fn give_profile(&self, name: &str) {
        let is_other = self.profile().is_none_or(|before| *before != *name);
        self.live.profile.store(Some(Arc::new(name.into())));
        if is_other {
            self.forget_trial();
            let facts = (*self.facts()).clone();
            self.set_facts(Facts {
                drafts: None,
                ..facts
            });
        }
    }

    /// What `ask` says of it as a rollout sees it.
    pub fn at_site<T>(&self, ask: impl FnOnce(Site<'_>) -> T) -> T {
        let (facts, runs) = (self.live.facts.load(), self.runs());
        ask(Site {
            backend: self.id.as_str(),
            runs: &runs,
            build: facts.build.as_deref(),
        })
    }

    /// Whether its profile drafts in every answer: it asks a model for drafts. N-gram types draft what they have
    /// seen.
    pub fn drafts_always(&self) -> bool {
        let is_drafting = |name: &Arc<str>| {
            let mut named = self.drafting.iter();
            named.any(|known| **known == **name) || Spec::default().drafts_always(name)
        };
        self.profile().as_ref().is_some_and(is_drafting)
    }

    /// The file it writes its log to, where that can be read here.
    pub fn log_file(&self) -> Option<&Path> {
        self.log_file.as_deref()
    }

    /// What it runs: its profile, corrected by what it says itself.
    pub fn runs(&self) -> Runs {
        let profile = self.profile();
        Runs::of(profile.as_ref(), self.live.facts.load().speculative)
    }

    /// Where turns on it run.
    pub fn place(&self) -> Place {
        let facts = self.live.facts.load();
        let build = facts.build.as_deref().unwrap_or(UNKNOWN);
        let model = facts.model_file.clone();
        Place {
            model: model
                .or_else(|| facts.model_alias.as_deref().map(Into::into))
                .unwrap_or_else(|| UNKNOWN.into()),
            flags: Arc::clone(&facts.flags.id),
            ..Place::new(&self.pool, self.id.as_str(), self.runs().name(), build)
        }
    }

    /// What it shows of itself, for the timeline; none before anything is known.
    pub fn shown(&self) -> Option<Shown> {
        let facts = self.live.facts.load();
        let build = facts.build.clone()?;
        let flags = facts.flags.shown.iter();
        let mut shown: BTreeMap<_, _> = flags.map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
        shown.insert("build".to_owned(), build);
        let model = facts.model_file.as_deref().or(facts.model_alias.as_deref());
        if let Some(model) = model {
            shown.insert("model".to_owned(), model.to_owned());
        }
        // After a restart it is not known for a moment.
        let is_told = facts.speculative.is_some() || facts.has_slots_endpoint == Some(false);
        if is_told && self.runs().is_known() {
            shown.insert("profile".to_owned(), self.runs().name().to_owned());
        }
        Some(shown)
    }

    /// Whether it does without drafts when a request asks for that.
    pub fn honours(&self) -> Honours {
        match self.live.honours.load(Ordering::Relaxed) {
            YES => Honours::Yes,
            NO => Honours::No,
            _ => Honours::Unknown,
        }
    }

    /// An answer of one of its turns has come, which had, or had not, asked for no drafts.
    pub fn has_drafted(&self, off: bool, generated: u64, drafted: u64) {
        if generated < LEAST_GENERATED || !self.runs().speculates() {
            return;
        }
        let mut trial = self.live.trial.lock();
        trial.push(off, drafted > 0);
        let verdict = trial.verdict();
        drop(trial);
        // What a probe has shown holds until an answer shows something else.
        if verdict != Honours::Unknown {
            self.honours_now(verdict, "its answers");
        }
    }

    /// What the probe of its build has led to; none: it was not tried.
    pub fn probed(&self) -> Option<Probed> {
        *self.live.probed.lock()
    }

    pub(in crate::fleet) fn set_probed(&self, found: Probed) {
        *self.live.probed.lock() = Some(found);
        let verdict = Honours::of(found.drafted, found.drafted_though_off);
        if verdict != Honours::Unknown {
            self.honours_now(verdict, "a probe");
        }
    }

    fn honours_now(&self, verdict: Honours, by: &str) {
        let code = if verdict == Honours::Yes { YES } else { NO };
        if self.live.honours.swap(code, Ordering::Relaxed) != code {
            let honours = verdict == Honours::Yes;
            tracing::info!(backend = %self.id, honours, by, "`speculative.n_max: 0`");
        }
    }

    /// Another build or model runs there: what was found out of the last one is void.
    pub(in crate::fleet) fn forget_trials(&self, before: &Facts, now: &Facts) {
        if before.is_same_server(now) {
            return;
        }
        self.forget_trial();
    }

    fn forget_trial(&self) {
        self.live.honours.store(UNTRIED, Ordering::Relaxed);
        *self.live.trial.lock() = Trial::default();
        *self.live.probed.lock() = None;
    }

    /// Why it speculates less than its profile says; none: there is no sign of that.
    pub fn is_silently_off(&self) -> Option<String> {
        let profile = self.profile().filter(|profile| **profile != *NONE)?;
        let facts = self.live.facts.load();
        if facts.speculative == Some(false) {
            return Some(format!(
                "`profile` says {profile}, and its slots do not speculate"
            ));
        }
        if !self.drafts_always() {
            return None;
        }
        let silent = |what: &str, generated: u64| {
            format!("`profile` says {profile}, and {what} of {generated} tokens had no draft")
        };
        let counts = facts.drafts.as_deref();
        let counted = counts.filter(|c| c.drafts == 0 && c.generated >= MANY_GENERATED);
        let probed = self.probed();
        let probed = probed.filter(|p| p.drafted == 0 && p.generated >= LEAST_GENERATED);
        counted
            .map(|c| silent("by its own counts all", c.generated))
            .or_else(|| probed.map(|p| silent("a probe", p.generated)))
    }
}

/// Generated tokens without a draft that are a sign in themselves.
const MANY_GENERATED: u64 = 500;

const UNTRIED: u8 = 0;
const YES: u8 = 1;
const NO: u8 = 2;

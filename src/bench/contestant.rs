//! What is measured against what.

use std::collections::BTreeMap;

use thiserror::Error;

use super::flags;
use crate::config::{Spec, SpecProfile, SpecType};

/// One profile.
#[derive(Clone, Debug, PartialEq)]
pub struct Contestant {
    /// Its name.
    pub name: String,
    /// How drafts are made, as `--spec-type` takes it; none where a given server runs a profile that only its
    /// gateway knows.
    pub types: Option<String>,
    /// Its settings, where it is of one type.
    pub profile: Option<SpecProfile>,
}

/// A contestant that cannot be understood.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("`{text}`: {why}")]
pub struct BadContestant {
    text: String,
    why: String,
}

impl Contestant {
    /// Reads `NAME`, of a built-in profile or one of `known`, or `NAME={type: …, n_max: …}`, which is YAML as in
    /// `spec.profiles`.
    ///
    /// # Errors
    /// There is no such profile, or its settings cannot be read.
    pub fn parse(text: &str, known: &BTreeMap<String, SpecProfile>) -> Result<Self, BadContestant> {
        let bad = |why: String| BadContestant {
            text: text.to_owned(),
            why,
        };
        let named = |name: &str, profile: SpecProfile| Self {
            name: name.to_owned(),
            types: Some(profile.kind.as_str().to_owned()),
            profile: Some(profile),
        };
        if let Some((name, settings)) = text.split_once('=') {
            if Spec::default().has_profile(name) || name.is_empty() {
                return Err(bad(
                    "settings need a name that is not that of a built-in profile".to_owned(),
                ));
            }
            let profile =
                serde_saphyr::from_str(settings).map_err(|error| bad(error.to_string()))?;
            return Ok(named(name, profile));
        }
        if let Some(profile) = known.get(text) {
            return Ok(named(text, profile.clone()));
        }
        match SpecType::ALL.iter().find(|kind| kind.as_str() == text) {
            Some(kind) => Ok(named(text, plain(*kind))),
            None if Spec::default().has_profile(text) => Ok(Self {
                name: text.to_owned(),
                types: Some(text.to_owned()),
                profile: None,
            }),
            None => Err(bad(
                "no such profile; NAME={type: …} gives the settings of one".to_owned(),
            )),
        }
    }

    /// One that a given gateway knows by this name.
    pub fn of_gateway(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            types: None,
            profile: None,
        }
    }

    /// Arguments that make a llama-server run it.
    ///
    /// # Errors
    /// A setting that its type does not have, a draft type without a model, or nobody knows its settings.
    pub fn arguments(&self, draft_model: Option<&str>) -> Result<Vec<String>, String> {
        match (&self.profile, &self.types) {
            (Some(profile), _) => flags::arguments(profile, draft_model),
            (None, Some(types)) => Ok(vec!["--spec-type".to_owned(), types.clone()]),
            (None, None) => Err("its settings are not known here".to_owned()),
        }
        .map_err(|why| format!("profile {}: {why}", self.name))
    }

    /// Whether a server that runs it speculates; none where that is not known.
    pub fn speculates(&self) -> Option<bool> {
        self.types.as_deref().map(|types| types != "none")
    }

    /// Whether it asks another model for drafts.
    pub fn has_draft_model(&self) -> bool {
        let kind = self.profile.as_ref().map(|profile| profile.kind);
        kind.is_some_and(SpecType::has_draft_model)
    }
}

/// A profile with the server's own settings.
pub(super) fn plain(kind: SpecType) -> SpecProfile {
    SpecProfile {
        kind,
        n_match: None,
        n_min: None,
        n_max: None,
        p_min: None,
        draft_model: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contestants_are_read() {
        let known = BTreeMap::from([("mine".to_owned(), plain(SpecType::NgramCache))]);
        let parse = |text: &str| Contestant::parse(text, &known);
        assert_eq!(parse("none").unwrap().speculates(), Some(false));
        assert_eq!(parse("mine").unwrap().types.as_deref(), Some("ngram-cache"));
        let small = parse("small={type: ngram-mod, n_max: 16}").unwrap();
        assert_eq!(
            (small.name.as_str(), small.speculates()),
            ("small", Some(true))
        );
        assert_eq!(
            small.arguments(None).unwrap()[2..],
            ["--spec-ngram-mod-n-max", "16"]
        );
        let both = parse("ngram-mod,ngram-cache").unwrap();
        assert_eq!(both.arguments(None).unwrap()[1], "ngram-mod,ngram-cache");
        for bad in [
            "other",
            "none={type: ngram-mod}",
            "x={type: draft}",
            "={type: none}",
            "",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}

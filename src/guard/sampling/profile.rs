//! Named sets of sampling options, by header, pool or model.

use serde::Serialize;
use serde_json::value::RawValue;

use super::options::{set, think};
use crate::config::{ModelProfile, Sampling};
use crate::dialect::json;
use crate::turn::{Turn, TurnError};

/// Where a turn's profile may come from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sources<'a> {
    /// `x-drover-model-profile` or its alias, as it came.
    pub header: Option<&'a str>,
    /// The pool's own.
    pub pool: Option<&'a str>,
    /// Model the client asks for.
    pub model: &'a str,
}

/// The profile of a turn, and whether the client has chosen it: header over pool over model.
///
/// # Errors
/// [`TurnError::BadRequest`] for a name that is none, listing those that are. Names are only ever
/// compared, never looked up anywhere else.
pub fn resolve<'a>(
    sampling: &'a Sampling,
    sources: Sources<'_>,
) -> Result<Option<(&'a ModelProfile, bool)>, TurnError> {
    let named = |name: &str| sampling.profiles.iter().find(|p| p.name == name);
    if let Some(name) = sources
        .header
        .map(str::trim)
        .filter(|name| !name.is_empty())
    {
        return match named(name) {
            Some(profile) => Ok(Some((profile, true))),
            None => Err(unknown(sampling, name)),
        };
    }
    let fits = |profile: &&ModelProfile| {
        profile
            .models
            .iter()
            .any(|models| models.matches(sources.model))
    };
    let profile = match sources.pool {
        Some(name) => named(name),
        None => sampling.profiles.iter().find(fits),
    };
    Ok(profile.map(|profile| (profile, false)))
}

fn unknown(sampling: &Sampling, name: &str) -> TurnError {
    let names: Vec<&str> = sampling.profiles.iter().map(|p| p.name.as_str()).collect();
    let known = match names.as_slice() {
        [] => "none is configured".to_owned(),
        names => format!("known: {}", names.join(", ")),
    };
    let name: String = name.chars().take(64).collect();
    TurnError::bad_field(
        "x-drover-model-profile",
        format!("no model profile is called `{name}`; {known}"),
    )
}

/// Set a turn's sampling options; whether that changed anything.
pub fn apply(turn: &mut Turn, profile: &ModelProfile) -> bool {
    let mut fill = Fill {
        changed: false,
        overrides: profile.overrides,
        turn,
    };
    fill.option("temperature", profile.temperature);
    fill.option("top_p", profile.top_p);
    fill.option("top_k", profile.top_k);
    fill.option("min_p", profile.min_p);
    fill.option("repeat_penalty", profile.repeat_penalty);
    fill.option("presence_penalty", profile.presence_penalty);
    fill.option("frequency_penalty", profile.frequency_penalty);
    fill.limit(profile.max_tokens);
    fill.thinking(profile.thinking);
    fill.changed
}

struct Fill<'a> {
    turn: &'a mut Turn,
    overrides: bool,
    changed: bool,
}

impl Fill<'_> {
    fn option<T: Serialize>(&mut self, name: &str, value: Option<T>) {
        let Some(value) = value else { return };
        let value = json::raw(&value);
        let said = self.turn.extra(name).map(RawValue::get);
        if said.is_none() || (self.overrides && said != Some(value.get())) {
            set(&mut self.turn.extra, name, value);
            self.changed = true;
        }
    }

    fn limit(&mut self, limit: Option<u64>) {
        let Some(limit) = limit else { return };
        let now = self.turn.max_tokens;
        if now.is_none_or(|now| self.overrides && limit < now) {
            self.turn.max_tokens = Some(limit);
            self.changed = true;
        }
    }

    fn thinking(&mut self, thinking: Option<bool>) {
        let Some(on) = thinking else { return };
        let says = self
            .turn
            .extra("chat_template_kwargs")
            .is_some_and(|switches| switches.get().contains("enable_thinking"));
        if !says || self.overrides {
            self.changed |= think(&mut self.turn.extra, on);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::openai;

    fn sampling() -> Sampling {
        let text = "guard: {sampling: {profiles: [\
            {name: cold, models: ['qwen*'], temperature: 0.1, top_k: 20, max_tokens: 50, thinking: false},\
            {name: hard, overrides: true, temperature: 0.5, max_tokens: 100},\
            {name: all, models: ['*']}]}}";
        crate::config::parse(text, std::iter::empty())
            .unwrap()
            .guard
            .sampling
    }

    fn turn(more: &str) -> Turn {
        let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"a"}}]{more}}}"#);
        openai::decode(body.as_bytes()).unwrap()
    }

    #[test]
    fn header_over_pool_over_model() {
        let sampling = sampling();
        let name = |header, pool, model| {
            let sources = Sources {
                header,
                pool,
                model,
            };
            let found = resolve(&sampling, sources).unwrap();
            found.map(|(profile, chosen)| (profile.name.as_str(), chosen))
        };
        assert_eq!(
            name(Some(" hard "), Some("all"), "qwen3"),
            Some(("hard", true))
        );
        assert_eq!(name(None, Some("all"), "qwen3"), Some(("all", false)));
        assert_eq!(name(Some(""), None, "qwen3-coder"), Some(("cold", false)));
        assert_eq!(name(None, None, "other"), Some(("all", false)));
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_known_ones() {
        let sampling = sampling();
        for header in ["nope", "../../etc/passwd", "/cold", "Cold"] {
            let sources = Sources {
                header: Some(header),
                ..Sources::default()
            };
            let error = resolve(&sampling, sources).unwrap_err();
            assert_eq!(error.status(), 400);
            assert!(
                error.to_string().ends_with("known: cold, hard, all"),
                "{error}"
            );
        }
        let none = Sampling::default();
        let sources = Sources {
            header: Some("x"),
            ..Sources::default()
        };
        assert!(
            resolve(&none, sources)
                .unwrap_err()
                .to_string()
                .contains("none is configured")
        );
        assert_eq!(resolve(&none, Sources::default()).unwrap(), None);
    }

    #[test]
    fn a_profile_fills_in_or_replaces() {
        let sampling = sampling();
        let mut asked = turn(
            r#","temperature":0.9,"max_tokens":10,"chat_template_kwargs":{"enable_thinking":true}"#,
        );
        assert!(apply(&mut asked, &sampling.profiles[0]));
        assert_eq!(asked.extra("temperature").unwrap().get(), "0.9");
        assert_eq!(asked.extra("top_k").unwrap().get(), "20");
        assert_eq!(asked.max_tokens, Some(10));
        assert!(
            asked
                .extra("chat_template_kwargs")
                .unwrap()
                .get()
                .contains("true")
        );

        let mut silent = turn("");
        assert!(apply(&mut silent, &sampling.profiles[0]));
        assert_eq!(silent.max_tokens, Some(50));
        assert_eq!(
            silent.extra("chat_template_kwargs").unwrap().get(),
            r#"{"enable_thinking":false}"#
        );

        let mut replaced = turn(r#","temperature":0.9,"max_tokens":10"#);
        assert!(apply(&mut replaced, &sampling.profiles[1]));
        assert_eq!(replaced.extra("temperature").unwrap().get(), "0.5");
        assert_eq!(replaced.max_tokens, Some(10), "never raised");
        assert!(
            !apply(&mut replaced, &sampling.profiles[1]),
            "once is enough"
        );
        assert!(
            !apply(&mut replaced, &sampling.profiles[2]),
            "an empty one does nothing"
        );
    }
}

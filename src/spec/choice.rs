//! What a turn wants: by header, by what kind of turn it is, by rule.

use std::sync::Arc;

use serde::Serialize;

use super::runs::{Honours, NONE, Runs};
use crate::config::{RequestClass, Spec, SpecRule};
use crate::turn::TurnError;

/// What is asked of the backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// No speculation.
    Off,
    /// This profile.
    Profile(Arc<str>),
}

impl Asked {
    /// `off`, `none` and names of profiles.
    fn of(name: &str) -> Self {
        match name {
            "off" | NONE => Self::Off,
            name => Self::Profile(name.into()),
        }
    }

    /// Its name in logs and in the admin API.
    pub fn name(&self) -> &str {
        match self {
            Self::Off => "off",
            Self::Profile(name) => name,
        }
    }

    /// Whether a backend that runs this serves it.
    pub fn is_served_by(&self, runs: &Runs, honours: Honours) -> bool {
        match (self, runs) {
            (Self::Off, Runs::Plain) => true,
            (Self::Off, _) => honours == Honours::Yes,
            (Self::Profile(wanted), Runs::Profile(Some(name))) => wanted == name,
            (Self::Profile(_), _) => false,
        }
    }

    /// The profile that is in effect on a backend that runs this.
    pub fn effective<'a>(&self, runs: &'a Runs, honours: Honours) -> &'a str {
        match self {
            Self::Off if honours == Honours::Yes => NONE,
            _ => runs.name(),
        }
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The client, by `x-drover-spec`: it gets what it asks for, whatever that costs.
    Header,
    /// `spec.disable_on_tool_turns`.
    ToolTurn,
    /// One of `spec.rules`.
    Rule,
}

impl Cause {
    /// Its name in metrics and in the admin API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::ToolTurn => "tool_turn",
            Self::Rule => "rule",
        }
    }
}

/// What a turn wants, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// What.
    pub asked: Asked,
    /// Why.
    pub cause: Cause,
}

/// What a choice is made from.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    /// `x-drover-spec`.
    pub header: Option<&'a str>,
    /// The turn offers tools and lets the model call them.
    pub tool_turn: bool,
    /// Name of the pool.
    pub pool: &'a str,
    /// What kind of request it is; none where that was not found out.
    pub class: Option<RequestClass>,
}

/// What the turn wants of speculation; none leaves it to the backend.
///
/// # Errors
/// [`TurnError::BadRequest`] when the header names a profile that there is none of.
pub fn resolve(spec: &Spec, sources: Sources<'_>) -> Result<Option<Choice>, TurnError> {
    if let Some(name) = sources.header.filter(|name| *name != "auto") {
        if name != "off" && !spec.has_profile(name) {
            let message = format!(
                "`x-drover-spec` is off, auto or a profile; there is no profile `{}`",
                name.chars().take(64).collect::<String>()
            );
            return Err(TurnError::bad_field("x-drover-spec", message));
        }
        let (asked, cause) = (Asked::of(name), Cause::Header);
        return Ok(Some(Choice { asked, cause }));
    }
    if spec.disable_on_tool_turns && sources.tool_turn {
        let (asked, cause) = (Asked::Off, Cause::ToolTurn);
        return Ok(Some(Choice { asked, cause }));
    }
    let fits = |rule: &&SpecRule| {
        let in_pool = rule.pools.is_empty() || rule.pools.iter().any(|p| p == sources.pool);
        let of_class = |class| rule.classes.contains(&class);
        in_pool && (rule.classes.is_empty() || sources.class.is_some_and(of_class))
    };
    let rule = spec.rules.iter().find(fits);
    Ok(rule
        .filter(|rule| rule.profile != "auto")
        .map(|rule| Choice {
            asked: Asked::of(&rule.profile),
            cause: Cause::Rule,
        }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Sources<'_> = Sources {
        header: None,
        tool_turn: false,
        pool: "default",
        class: Some(RequestClass::Prose),
    };

    fn rule(pools: &[&str], classes: &[RequestClass], profile: &str) -> SpecRule {
        SpecRule {
            pools: pools.iter().map(|p| (*p).to_owned()).collect(),
            classes: classes.to_vec(),
            profile: profile.to_owned(),
        }
    }

    fn chosen(spec: &Spec, sources: Sources<'_>) -> Option<(String, &'static str)> {
        let choice = resolve(spec, sources).unwrap()?;
        Some((choice.asked.name().to_owned(), choice.cause.as_str()))
    }

    #[test]
    fn nothing_is_asked_unless_somebody_does() {
        let tool_turn = Sources {
            tool_turn: true,
            ..PLAIN
        };
        assert_eq!(chosen(&Spec::default(), tool_turn), None);
        let auto = Sources {
            header: Some("auto"),
            ..PLAIN
        };
        assert_eq!(chosen(&Spec::default(), auto), None);
    }

    #[test]
    fn the_header_comes_first_and_auto_leaves_it_to_the_rest() {
        let spec = Spec {
            disable_on_tool_turns: true,
            rules: vec![rule(&[], &[], "ngram-mod")],
            ..Spec::default()
        };
        let with = |header, tool_turn| Sources {
            header,
            tool_turn,
            ..PLAIN
        };
        let said = |name: &str, cause| Some((name.to_owned(), cause));
        assert_eq!(
            chosen(&spec, with(Some("ngram-cache"), true)),
            said("ngram-cache", "header")
        );
        assert_eq!(
            chosen(&spec, with(Some("none"), false)),
            said("off", "header")
        );
        assert_eq!(
            chosen(&spec, with(Some("auto"), true)),
            said("off", "tool_turn")
        );
        assert_eq!(chosen(&spec, with(None, false)), said("ngram-mod", "rule"));
    }

    #[test]
    fn the_first_rule_that_fits_counts() {
        let spec = Spec {
            rules: vec![
                rule(&["coder"], &[RequestClass::Edit], "ngram-mod"),
                rule(&[], &[RequestClass::Prose], "off"),
                rule(&["default"], &[], "auto"),
                rule(&[], &[], "ngram-cache"),
            ],
            ..Spec::default()
        };
        let of = |pool, class| {
            chosen(
                &spec,
                Sources {
                    pool,
                    class,
                    ..PLAIN
                },
            )
            .map(|c| c.0)
        };
        assert_eq!(of("coder", Some(RequestClass::Edit)).unwrap(), "ngram-mod");
        assert_eq!(of("coder", Some(RequestClass::Prose)).unwrap(), "off");
        assert_eq!(
            of("default", Some(RequestClass::Code)),
            None,
            "auto ends the search"
        );
        assert_eq!(of("x", None).unwrap(), "ngram-cache");
    }

    #[test]
    fn an_unknown_profile_is_refused_by_name() {
        let header = Some("ngram-mdo");
        let error = resolve(&Spec::default(), Sources { header, ..PLAIN }).unwrap_err();
        assert!(error.to_string().contains("ngram-mdo"), "{error}");
    }

    #[test]
    fn a_list_of_types_names_each_of_them_once() {
        let ask = |header: &str| {
            let header = Some(header);
            resolve(&Spec::default(), Sources { header, ..PLAIN }).is_ok()
        };
        assert!(ask("ngram-mod,ngram-cache"));
        assert!(!ask("ngram-mod,ngram-mod"));
        assert!(!ask(&"ngram-mod,".repeat(5000)), "kept for the turn");
        assert!(!ask(""));
    }

    #[test]
    fn what_ran_is_told_whatever_was_asked() {
        let spec = Runs::Profile(Some("ngram-mod".into()));
        let off = Asked::Off;
        assert!(off.is_served_by(&Runs::Plain, Honours::Unknown));
        assert!(!off.is_served_by(&spec, Honours::Unknown));
        assert!(!off.is_served_by(&Runs::Unknown, Honours::No));
        assert!(off.is_served_by(&spec, Honours::Yes));
        assert_eq!(off.effective(&spec, Honours::Yes), "none");
        assert_eq!(off.effective(&spec, Honours::No), "ngram-mod");
        let profile = Asked::Profile("ngram-mod".into());
        assert!(profile.is_served_by(&spec, Honours::Yes));
        assert_eq!(profile.effective(&spec, Honours::Yes), "ngram-mod");
        assert!(!profile.is_served_by(&Runs::Profile(None), Honours::Yes));
    }
}

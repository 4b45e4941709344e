//! The arguments that make a llama-server run a profile, and whether a given binary knows them.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{SpecProfile, SpecType};

/// What `llama-server --help` lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Help {
    /// Each flag, and whether it takes a value.
    flags: BTreeMap<String, bool>,
    /// Flags that are listed as removed.
    removed: BTreeSet<String>,
    /// The values of `--spec-type`.
    types: BTreeSet<String>,
}

impl Help {
    /// Reads the text of `--help`: a line that begins with a dash lists the names of one argument.
    pub fn parse(text: &str) -> Self {
        let mut help = Self::default();
        let mut current: Vec<String> = Vec::new();
        for line in text.lines() {
            if line.starts_with('-') && !line.starts_with("---") {
                current = help.entry(line);
            }
            if line.contains("argument has been removed") {
                help.removed.extend(current.iter().cloned());
            }
        }
        help
    }

    fn entry(&mut self, line: &str) -> Vec<String> {
        let mut names = Vec::new();
        let mut words = line.split_whitespace().peekable();
        while let Some(word) = words.next_if(|word| word.starts_with('-')) {
            names.push(word.trim_end_matches(',').to_owned());
        }
        // A value stands one space behind the names, a description at least two.
        let behind = names.last().and_then(|last| line.split_once(last.as_str()));
        let takes_value = behind.is_some_and(|(_, rest)| {
            let rest = rest.strip_prefix(' ').unwrap_or_default();
            rest.starts_with(|c: char| !c.is_whitespace())
        });
        if names.iter().any(|name| name == "--spec-type")
            && let Some(types) = words.next()
        {
            self.types = types.split(',').map(str::to_owned).collect();
        }
        for name in &names {
            self.flags.insert(name.clone(), takes_value);
        }
        names
    }

    /// Names of all arguments of speculation that are not removed, with the types.
    pub fn speculation(&self) -> impl Iterator<Item = &str> {
        let flags = self.flags.keys().map(String::as_str);
        flags
            .filter(|name| name.starts_with("--spec-") && !self.removed.contains(*name))
            .chain(self.types.iter().map(String::as_str))
    }

    /// Whether it lists a flag that is still there.
    pub fn has(&self, flag: &str) -> bool {
        self.flags.contains_key(flag) && !self.removed.contains(flag)
    }

    /// What is wrong with `arguments`, in words; nothing when the binary should take them.
    pub fn problems(&self, arguments: &[String]) -> Vec<String> {
        let mut problems = Vec::new();
        let mut rest = arguments.iter().peekable();
        while let Some(argument) = rest.next() {
            match self.flags.get(argument) {
                None => problems.push(format!("`{argument}` is no argument of this llama-server")),
                Some(_) if self.removed.contains(argument) => {
                    problems.push(format!(
                        "`{argument}` has been removed from this llama-server"
                    ));
                }
                Some(true) => {
                    let value = rest.next();
                    if argument == "--spec-type" {
                        problems.extend(self.unknown_types(value.map_or("", String::as_str)));
                    }
                    if value.is_none() {
                        problems.push(format!("`{argument}` needs a value"));
                    }
                }
                Some(false) => {}
            }
        }
        problems
    }

    fn unknown_types(&self, types: &str) -> Vec<String> {
        let unknown = types.split(',').filter(|kind| !self.types.contains(*kind));
        unknown
            .map(|kind| format!("`{kind}` is no --spec-type of this llama-server"))
            .collect()
    }
}

/// Arguments for `profile`; draft types take `draft_model` where the profile names none.
///
/// # Errors
/// A setting that its type does not have, or a draft type without a model.
pub(super) fn arguments(
    profile: &SpecProfile,
    draft_model: Option<&str>,
) -> Result<Vec<String>, String> {
    let kind = profile.kind;
    if kind == SpecType::None {
        return match settings(profile).as_slice() {
            [] => Ok(Vec::new()),
            [(name, _), ..] => Err(format!("type none has no {name}")),
        };
    }
    let mut arguments = vec!["--spec-type".to_owned(), kind.as_str().to_owned()];
    for (name, value) in settings(profile) {
        let Some(flag) = flag(kind, name) else {
            return Err(format!("type {} has no {name}", kind.as_str()));
        };
        arguments.extend([flag, value]);
    }
    let model = profile.draft_model.as_deref().or(draft_model);
    match model.filter(|_| kind.has_draft_model()) {
        Some(model) => arguments.extend(["--spec-draft-model".to_owned(), model.to_owned()]),
        // Multi-token prediction is part of the model itself.
        None if kind.has_draft_model() && kind != SpecType::DraftMtp => {
            return Err(format!("type {} needs a draft model", kind.as_str()));
        }
        None => {}
    }
    Ok(arguments)
}

/// The settings that are given.
fn settings(profile: &SpecProfile) -> Vec<(&'static str, String)> {
    let number = |value: Option<u32>| value.map(|value| value.to_string());
    let all = [
        ("n_match", number(profile.n_match)),
        ("n_min", number(profile.n_min)),
        ("n_max", number(profile.n_max)),
        ("p_min", profile.p_min.map(|value| value.to_string())),
    ];
    let given = all
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    given.collect()
}

/// The argument for a setting, where the type has it.
fn flag(kind: SpecType, setting: &str) -> Option<String> {
    match (kind, setting) {
        (SpecType::NgramMod, "n_match" | "n_min" | "n_max") => {
            Some(format!("--spec-ngram-mod-{}", setting.replace('_', "-")))
        }
        (SpecType::NgramSimple | SpecType::NgramMapK | SpecType::NgramMapK4v, "n_match") => {
            Some(format!("--spec-{}-size-n", kind.as_str()))
        }
        (SpecType::NgramSimple | SpecType::NgramMapK | SpecType::NgramMapK4v, "n_max") => {
            Some(format!("--spec-{}-size-m", kind.as_str()))
        }
        (kind, "n_min" | "n_max" | "p_min") if kind.has_draft_model() => {
            Some(format!("--spec-draft-{}", setting.replace('_', "-")))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELP: &str = "\
----- common params -----
-h,    --help, --usage                  print usage and exit
-m,    --model FNAME                    model path to load
--spec-draft-model, -md, --model-draft FNAME
                                        draft model for speculative decoding (default: unused)
--spec-type none,draft-simple,ngram-mod
                                        comma-separated list of types of speculative decoding to use
--spec-ngram-mod-n-max N                maximum number of ngram tokens
--draft, --draft-n, --draft-max N       the argument has been removed. use --spec-draft-n-max or
                                        --spec-ngram-mod-n-max
--draft-min, --draft-n-min N            longer
                                        the argument has been removed.
--metrics                               enable prometheus compatible metrics endpoint
";

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn a_help_text_is_read() {
        let help = Help::parse(HELP);
        let fine = "-m f --metrics --spec-type ngram-mod,none --spec-ngram-mod-n-max -1 -md d";
        assert_eq!(help.problems(&words(fine)), Vec::<String>::new());
        let wrong = [
            ("--draft 3", "`--draft` has been removed"),
            ("--draft-min 3", "`--draft-min` has been removed"),
            ("--nonsense", "`--nonsense` is no argument"),
            ("--spec-type draft", "`draft` is no --spec-type"),
            ("--metrics 3", "`3` is no argument"),
            ("-m", "`-m` needs a value"),
        ];
        for (line, what) in wrong {
            let problems = help.problems(&words(line));
            assert!(problems[0].starts_with(what), "{line}: {problems:?}");
        }
        assert!(help.has("--model-draft") && !help.has("--draft-max") && !help.has("---"));
        let all: Vec<&str> = help.speculation().collect();
        assert!(
            all.contains(&"--spec-type") && all.contains(&"draft-simple"),
            "{all:?}"
        );
    }

    #[test]
    fn settings_become_the_arguments_of_their_type() {
        let profile = |text: &str| serde_saphyr::from_str::<SpecProfile>(text).unwrap();
        let of = |text: &str| arguments(&profile(text), Some("d.gguf")).map(|all| all.join(" "));
        let cases = [
            ("{type: none}", ""),
            (
                "{type: ngram-mod, n_match: 16, n_min: 4, n_max: 32}",
                "--spec-type ngram-mod --spec-ngram-mod-n-match 16 --spec-ngram-mod-n-min 4 \
                 --spec-ngram-mod-n-max 32",
            ),
            (
                "{type: ngram-map-k4v, n_match: 8, n_max: 8}",
                "--spec-type ngram-map-k4v --spec-ngram-map-k4v-size-n 8 --spec-ngram-map-k4v-size-m 8",
            ),
            (
                "{type: draft-simple, n_max: 4, p_min: 0.5}",
                "--spec-type draft-simple --spec-draft-n-max 4 --spec-draft-p-min 0.5 \
                 --spec-draft-model d.gguf",
            ),
            ("{type: ngram-cache}", "--spec-type ngram-cache"),
        ];
        for (text, wanted) in cases {
            assert_eq!(of(text).as_deref(), Ok(wanted), "{text}");
        }
        assert!(of("{type: ngram-mod, p_min: 0.5}").is_err());
        assert!(of("{type: ngram-cache, n_max: 5}").is_err());
        assert!(of("{type: none, n_max: 5}").is_err());
        assert!(arguments(&profile("{type: draft-simple}"), None).is_err());
    }
}

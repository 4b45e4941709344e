//! Variables that change what a line runs.

use super::word::Word;

/// What setting a variable means for what is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Nothing.
    None,
    /// Its value is a command line that some program will run.
    Script,
    /// Nobody can tell what later words mean.
    Unknown,
}

/// Programs, libraries and places that later words are looked up in.
const DECISIVE: &[&str] = &[
    "PATH",
    "BASH_ENV",
    "ENV",
    "IFS",
    "PROMPT_COMMAND",
    "SHELLOPTS",
    "BASHOPTS",
    "CDPATH",
    "PS0",
    "PS1",
    "PS4",
    "LD_PRELOAD",
    "DYLD_INSERT_LIBRARIES",
    "PERL5OPT",
    "RUBYOPT",
    "PYTHONSTARTUP",
    "GIT_ALIAS",
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_EXEC_PATH",
    "GIT_TEMPLATE_DIR",
];

/// Variables that name a command for others to run.
const COMMANDS: &[&str] = &[
    "EDITOR",
    "VISUAL",
    "PAGER",
    "MANPAGER",
    "LESSOPEN",
    "GIT_EDITOR",
    "GIT_SEQUENCE_EDITOR",
    "GIT_PAGER",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_EXTERNAL_DIFF",
    "GIT_ASKPASS",
    "SSH_ASKPASS",
    "GIT_PROXY_COMMAND",
];

/// What it means to set `name` to `value`; without a value, to anything.
pub(super) fn meaning(name: &str, value: Option<&Word>) -> Meaning {
    let name = name.trim_end_matches('+');
    if DECISIVE.contains(&name) || name.starts_with("GIT_CONFIG") {
        return Meaning::Unknown;
    }
    if name == "NODE_OPTIONS" {
        let loads = |text: &str| {
            [
                "-r",
                "--require",
                "--import",
                "--loader",
                "--experimental-loader",
            ]
            .iter()
            .any(|option| text.split_whitespace().any(|word| word.starts_with(option)))
        };
        return match value.and_then(Word::known) {
            Some(text) if !loads(text) => Meaning::None,
            _ => Meaning::Unknown,
        };
    }
    match COMMANDS.contains(&name) {
        true => Meaning::Script,
        false => Meaning::None,
    }
}

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
    "HOME",
    "XDG_CONFIG_HOME",
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

/// Where the system and its package managers keep programs.
const PROGRAMS: &[&str] = &[
    "/bin",
    "/sbin",
    "/usr/bin",
    "/usr/sbin",
    "/usr/local/bin",
    "/usr/local/sbin",
    "/usr/local/go/bin",
    "/usr/local/cuda/bin",
    "/opt/homebrew/bin",
    "/opt/homebrew/sbin",
    "/snap/bin",
];

/// The same in somebody's home.
const OWN_PROGRAMS: &[&str] = &[
    ".cargo/bin",
    ".local/bin",
    "go/bin",
    ".bun/bin",
    ".deno/bin",
    ".npm-global/bin",
    ".volta/bin",
    ".pyenv/bin",
    ".pyenv/shims",
    ".rbenv/bin",
    ".rbenv/shims",
    ".asdf/shims",
    ".asdf/bin",
    ".dotnet/tools",
    ".poetry/bin",
    ".rye/shims",
    ".local/share/pnpm",
    ".local/share/mise/shims",
];

/// Whether `value` adds to `PATH` only places where programs are installed: what is found there could be
/// run by its whole name as well.
fn is_usual_path(value: &Word) -> bool {
    let usual = |entry: &str| {
        let own = ["$HOME/", "${HOME}/", "~/", "/root/"]
            .iter()
            .find_map(|home| entry.strip_prefix(home))
            .or_else(|| {
                let users = entry
                    .strip_prefix("/home/")
                    .or_else(|| entry.strip_prefix("/Users/"))?;
                users.split_once('/').map(|(_, rest)| rest)
            });
        // What is quoted is no variable.
        let refers = !value.fixed && matches!(entry, "$PATH" | "${PATH}");
        refers
            || PROGRAMS.contains(&entry)
            || own.is_some_and(|own| OWN_PROGRAMS.contains(&own))
                && !(value.fixed && entry.starts_with(['$', '~']))
    };
    !value.text.is_empty() && value.text.split(':').all(usual)
}

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
    if name == "PATH" && value.is_some_and(is_usual_path) {
        return Meaning::None;
    }
    if DECISIVE.contains(&name) || name.starts_with("GIT_CONFIG") {
        return Meaning::Unknown;
    }
    // Settings of npm's: `npm_config_script_shell`.
    if name.to_ascii_lowercase().ends_with("config_script_shell") {
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

//! Programs that run others: those that are looked through, and those that hide what they run.

use super::options::{has, value};
use super::word::Word;

/// Programs that run the command that follows, with their options that take a value, and how many
/// words of their own come first.
pub(super) const WRAPPERS: &[(&str, &[&str], usize)] = &[
    ("builtin", &[], 0),
    ("exec", &["-a"], 0),
    ("nohup", &[], 0),
    ("time", &["-f", "-o", "--format", "--output"], 0),
    ("setsid", &[], 0),
    ("nice", &["-n", "--adjustment"], 0),
    ("ionice", &["-c", "-n", "-p", "--class"], 0),
    ("stdbuf", &["-i", "-o", "-e"], 0),
    (
        "sudo",
        &["-u", "-g", "-h", "-p", "-C", "-D", "-R", "-T", "-U"],
        0,
    ),
    ("doas", &["-u", "-C"], 0),
    ("timeout", &["-s", "-k", "--signal", "--kill-after"], 1),
    ("gtimeout", &["-s", "-k", "--signal", "--kill-after"], 1),
    ("chroot", &["--userspec", "--groups"], 1),
    ("unbuffer", &[], 0),
    ("busybox", &[], 0),
    ("rtk", &[], 0),
    ("caffeinate", &["-t", "-w"], 0),
    ("strace", &["-e", "-o", "-p", "-s"], 0),
    ("ltrace", &["-e", "-o", "-p", "-s"], 0),
    ("faketime", &["-f"], 1),
    ("dbus-run-session", &[], 0),
    ("xvfb-run", &["-n", "-s", "-e", "-f"], 0),
    ("proxychains", &["-f"], 0),
    ("proxychains4", &["-f"], 0),
    ("coproc", &[], 0),
    ("!", &[], 0),
];

/// Why nobody can tell what a program will run, or what later words will mean.
pub(super) fn hides(name: &str, words: &[Word]) -> Option<&'static str> {
    let renames = match name {
        "alias" => true,
        "hash" => has(words, "-p"),
        "enable" => has(words, "-f"),
        "gh" => words.get(1).is_some_and(|word| word.text == "alias"),
        _ => false,
    };
    match name {
        _ if renames => Some("it gives a command another name"),
        "less" | "more"
            if words
                .iter()
                .any(|word| word.text.starts_with('+') && word.text.contains(['!', '|'])) =>
        {
            Some("it runs a program from a pager")
        }
        "npm" | "pnpm" | "yarn" | "npx"
            if words
                .iter()
                .any(|word| word.text.replace('_', "-").contains("script-shell")) =>
        {
            Some("it runs scripts with another shell")
        }
        "rg" if value(words, None, "--pre").is_some() => Some("it runs a program for each file"),
        "parallel" => Some("it makes up commands for `parallel`"),
        _ => None,
    }
}

/// The pager that a reader is told to run.
pub(super) fn pager(words: &[Word]) -> Option<Word> {
    value(words, Some("-P"), "--pager").or_else(|| value(words, Some("-H"), "--html"))
}

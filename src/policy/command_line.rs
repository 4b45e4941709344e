//! The command line in the arguments of a call.

use serde_json::Value;

use super::call::CWD_KEYS;
use super::shell;

/// Arguments that hold a command line, by the names agents give them.
pub(super) const COMMAND_KEYS: &[&str] = &[
    "command",
    "cmd",
    "command_line",
    "commandline",
    "script",
    "chars",
    "commands",
];

/// Texts in a shell's arguments that are no part of a command.
pub(super) const REMARKS: &[&str] = &[
    "description",
    "justification",
    "explanation",
    "reason",
    "purpose",
    "title",
    "session_id",
    "shell_id",
    "bash_id",
    "id",
];

/// Stands for a command line that cannot be read: none that a shell accepts.
pub(super) const UNREADABLE: &str = "(";

/// Whether a tool that nobody knows is told what to run.
pub(super) fn has_command(input: &Value) -> bool {
    let Some(fields) = input.as_object() else {
        return false;
    };
    let runs = |key: &str| {
        let names = [
            "command",
            "cmd",
            "command_line",
            "commandline",
            "script",
            "commands",
        ];
        names.iter().any(|name| key.eq_ignore_ascii_case(name))
    };
    let lines = |value: &Value| value.is_string() || value.is_array();
    fields.iter().any(|(key, value)| runs(key) && lines(value))
}

/// The command line in a shell's arguments. What two clients may find under different keys is all of
/// it; texts under keys nobody knows cannot be read.
pub(super) fn command(input: &Value) -> String {
    let Some(fields) = input.as_object() else {
        return UNREADABLE.to_owned();
    };
    let mut lines: Vec<String> = Vec::new();
    let mut other = false;
    for (key, value) in fields {
        let is = |known: &&str| key.eq_ignore_ascii_case(known);
        if COMMAND_KEYS.iter().any(is) {
            let line = command_line(value, key.eq_ignore_ascii_case("commands"));
            if !lines.contains(&line) {
                lines.push(line);
            }
        } else if !CWD_KEYS.iter().chain(REMARKS).any(is) {
            other |= matches!(value, Value::String(_) | Value::Array(_) | Value::Object(_));
        }
    }
    if lines.is_empty() && other || lines.iter().any(|line| line.contains('\0')) {
        return UNREADABLE.to_owned();
    }
    match lines.len() {
        1 => lines.swap_remove(0),
        _ => lines.join("\n"),
    }
}

/// A text, a list of words, `["bash", "-lc", line]`; with `each`, a list of lines.
pub(super) fn command_line(value: &Value, each: bool) -> String {
    let words = match value {
        Value::String(line) => return line.clone(),
        Value::Array(words) => words.iter().map(Value::as_str).collect::<Option<Vec<_>>>(),
        _ => None,
    };
    match words {
        None => UNREADABLE.to_owned(),
        Some(lines) if each => lines.join("\n"),
        // No program has white space in its name: this client joins the words.
        Some(words)
            if words
                .first()
                .is_some_and(|word| word.contains(char::is_whitespace)) =>
        {
            words.join(" ")
        }
        Some(words) => {
            let words: Vec<String> = words.into_iter().map(shell::quote).collect();
            words.join(" ")
        }
    }
}

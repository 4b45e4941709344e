//! Arguments changed by a rule; everything else in them keeps its bytes.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::value::RawValue;

use super::call::{Call, PATCH_KEYS, PATH_KEYS};
use super::tools::Class;
use super::{patch, path, shell};

/// `arguments` with the values of some keys replaced.
///
/// # Errors
/// When they are no JSON object, or a key is missing.
pub(super) fn replace(
    arguments: &str,
    new: &BTreeMap<String, serde_json::Value>,
) -> Result<String, String> {
    let fields: BTreeMap<&str, &RawValue> =
        serde_json::from_str(arguments).map_err(|error| error.to_string())?;
    let mut places: Vec<(Range<usize>, String)> = Vec::new();
    for (key, value) in new {
        let raw = fields
            .get(key.as_str())
            .ok_or_else(|| format!("there is no argument `{key}`"))?;
        let start = raw.get().as_ptr() as usize - arguments.as_ptr() as usize;
        places.push((start..start + raw.get().len(), value.to_string()));
    }
    Ok(splice(arguments, places))
}

/// `text` with `places` replaced.
fn splice(text: &str, mut places: Vec<(Range<usize>, String)>) -> String {
    places.sort_by_key(|(range, _)| std::cmp::Reverse(range.start));
    let mut text = text.to_owned();
    for (range, new) in places {
        text.replace_range(range, &new);
    }
    text
}

/// `call` with every path replaced by what `new` says about it.
///
/// # Errors
/// What `new` says, or that it cannot be done.
pub(super) fn paths(
    call: &Call<'_>,
    arguments: &str,
    root: &str,
    new: &dyn Fn(&str) -> Result<String, String>,
) -> Result<String, String> {
    let mut changed = BTreeMap::new();
    if call.class == Class::Shell {
        let (key, line) = command_line(call, root, new)?;
        changed.insert(key, line);
        return replace(arguments, &changed);
    }
    let text = |key: &str| call.input.get(key).and_then(serde_json::Value::as_str);
    for key in PATH_KEYS {
        if let Some(old) = text(key) {
            changed.insert((*key).to_owned(), new(&path::resolve(root, old))?.into());
        }
    }
    for key in PATCH_KEYS {
        if let Some(old) = text(key).filter(|old| !patch::files(old).is_empty()) {
            let renamed = patch::rename(old, |file| new(&path::resolve(root, file)))?;
            changed.insert((*key).to_owned(), renamed.into());
        }
    }
    replace(arguments, &changed)
}

/// The command line, made to run elsewhere: absolute paths in it are replaced, and it begins with a
/// change of directory. Whether that was enough the rules say when they are asked again.
fn command_line(
    call: &Call<'_>,
    root: &str,
    new: &dyn Fn(&str) -> Result<String, String>,
) -> Result<(String, serde_json::Value), String> {
    let mut keys = super::command_line::COMMAND_KEYS
        .iter()
        .filter(|key| call.input.get(**key).is_some());
    let key = keys.next().ok_or("it has no command line")?;
    if keys.next().is_some() || *key == "commands" {
        return Err("it has more than one command line".to_owned());
    }
    let line = &call.command;
    let script = call.script();
    let mut places: Vec<(Range<usize>, String)> = Vec::new();
    let words = script
        .commands
        .iter()
        .flat_map(|command| command.words.iter().chain(&command.writes));
    for word in words {
        let (Some(span), Some(text)) = (&word.span, word.known()) else {
            continue;
        };
        if !text.starts_with('/') || places.iter().any(|(known, _)| known == span) {
            continue;
        }
        let moved = new(text)?;
        if moved != path::normalize(text) {
            places.push((span.clone(), shell::quote(&moved)));
        }
    }
    let line = splice(line, places);
    let here = call.cwd();
    let there = new(&here)?;
    let line = match there == path::normalize(&here) && here != root {
        true => line,
        false => format!("cd {} && {line}", shell::quote(&there)),
    };
    let value = match call.input.get(*key) {
        Some(serde_json::Value::Array(_)) => serde_json::json!(["bash", "-c", line]),
        _ => line.into(),
    };
    Ok(((*key).to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_arguments_keep_their_bytes() {
        let arguments = r#"{ "z": 1.50,  "file_path":"a" , "b":"\u0041"}"#;
        let new = BTreeMap::from([("file_path".to_owned(), "x\"y".into())]);
        let expected = r#"{ "z": 1.50,  "file_path":"x\"y" , "b":"\u0041"}"#;
        assert_eq!(replace(arguments, &new).unwrap(), expected);
        let missing = BTreeMap::from([("q".to_owned(), "".into())]);
        assert!(replace(arguments, &missing).is_err());
    }
}

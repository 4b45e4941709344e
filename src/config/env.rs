//! `DROVER__SECTION__KEY=value`: environment variables laid over the file.
//!
//! Double underscores separate the steps of a path, a number is an index of a list:
//! `DROVER__FLEET__POOLS__0__NAME=coder`. Values are YAML, so `[a, b]` is a list and `null` unsets.

use super::error::ConfigError;
use super::tree::{Content, Entry, Node, Origin, Step};

const PREFIX: &str = "DROVER__";

/// Lays every `DROVER__…` variable over `root`, in the order of their names.
///
/// # Errors
/// All variables whose name is no path, or whose list index leaves a gap.
pub(super) fn overlay<'a>(
    root: &mut Node,
    variables: impl Iterator<Item = (&'a str, &'a str)>,
) -> Vec<ConfigError> {
    let mut ours: Vec<_> = variables
        .filter_map(|(name, value)| Some((name.strip_prefix(PREFIX)?, name, value)))
        .collect();
    // Indexes in numeric order: item 10 of a list is appended after item 9.
    ours.sort_by_cached_key(|(path, _, _)| {
        path.split("__")
            .map(|part| (part.parse::<usize>().unwrap_or(0), part.to_owned()))
            .collect::<Vec<_>>()
    });
    ours.into_iter()
        .filter_map(|(path, name, value)| {
            let origin = Origin::Env(name.to_owned());
            let steps = match steps(path) {
                Some(steps) => steps,
                None => return Some(origin.error("", "empty part in the name of a variable")),
            };
            place(root, &steps, &origin, leaf(value, &origin)).err()
        })
        .collect()
}

/// The raw text of the variable `name`, for values that YAML would read as something else than text.
pub(super) fn text_node(value: &str, origin: Origin, path: String) -> Node {
    Node {
        origin,
        path,
        content: Content::Scalar(value.into()),
    }
}

fn steps(path: &str) -> Option<Vec<Step>> {
    path.split("__")
        .map(|part| match part.parse() {
            Ok(index) => Some(Step::Index(index)),
            Err(_) if part.is_empty() => None,
            Err(_) => Some(Step::Key(part.to_ascii_lowercase())),
        })
        .collect()
}

/// The value as YAML, or as plain text when it is none (a URL with odd characters, a secret).
fn leaf(value: &str, origin: &Origin) -> Node {
    match Node::parse(value) {
        Ok(mut node) if !value.trim().is_empty() && !value.trim_start().starts_with('#') => {
            adopt(&mut node, origin);
            node
        }
        _ => text_node(value, origin.clone(), String::new()),
    }
}

/// Everything below came from the variable too; places inside its value would only mislead.
fn adopt(node: &mut Node, origin: &Origin) {
    node.origin = origin.clone();
    match &mut node.content {
        Content::Scalar(_) => {}
        Content::List(items) => items.iter_mut().for_each(|item| adopt(item, origin)),
        Content::Map(entries) => entries.iter_mut().for_each(|entry| {
            entry.origin = origin.clone();
            adopt(&mut entry.value, origin);
        }),
    }
}

fn place(node: &mut Node, steps: &[Step], origin: &Origin, leaf: Node) -> Result<(), ConfigError> {
    let Some((step, rest)) = steps.split_first() else {
        *node = leaf;
        return Ok(());
    };
    let empty = || text_node("", origin.clone(), String::new());
    match step {
        Step::Key(key) => {
            if !matches!(node.content, Content::Map(_)) {
                node.content = Content::Map(Vec::new());
            }
            let Content::Map(entries) = &mut node.content else {
                return Ok(());
            };
            let n = match entries.iter().position(|entry| entry.key == *key) {
                Some(n) => n,
                None => {
                    entries.push(Entry {
                        key: key.clone(),
                        origin: origin.clone(),
                        value: empty(),
                    });
                    entries.len() - 1
                }
            };
            place(&mut entries[n].value, rest, origin, leaf)
        }
        Step::Index(n) => {
            if !matches!(node.content, Content::List(_)) {
                node.content = Content::List(Vec::new());
            }
            let Content::List(items) = &mut node.content else {
                return Ok(());
            };
            if *n > items.len() {
                let message = format!("index {n} leaves a gap: the list has {}", items.len());
                return Err(origin.error("", message));
            }
            if *n == items.len() {
                items.push(empty());
            }
            place(&mut items[*n], rest, origin, leaf)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn overlaid(file: &str, variables: &[(&str, &str)]) -> (serde_json::Value, Vec<ConfigError>) {
        let mut root = Node::parse(file).unwrap();
        let errors = overlay(&mut root, variables.iter().copied());
        (root.to_value(), errors)
    }

    #[test]
    fn replaces_adds_and_appends() {
        let (value, errors) = overlaid(
            "limits: {max_body_bytes: 1MiB}\nfleet: {pools: [{name: a}]}\n",
            &[
                ("DROVER__LIMITS__MAX_BODY_BYTES", "2MiB"),
                ("DROVER__FLEET__POOLS__0__MODELS", "[x, y]"),
                ("DROVER__FLEET__POOLS__1__NAME", "b"),
                ("DROVER__ADMIN__TOKEN_ENV", "null"),
                ("DROVER_UNRELATED", "1"),
                ("PATH", "/bin"),
            ],
        );
        assert_eq!(errors, []);
        assert_eq!(
            value,
            json!({
                "limits": {"max_body_bytes": "2MiB"},
                "fleet": {"pools": [{"name": "a", "models": ["x", "y"]}, {"name": "b"}]},
                "admin": {"token_env": null},
            })
        );
    }

    #[test]
    fn indexes_are_applied_in_numeric_order() {
        let names: Vec<String> = (0..12).map(|n| format!("DROVER__LISTEN__{n}")).collect();
        let variables: Vec<_> = names.iter().rev().map(|n| (n.as_str(), "x")).collect();
        let (value, errors) = overlaid("", &variables);
        assert_eq!(errors, []);
        assert_eq!(value["listen"].as_array().unwrap().len(), 12);
    }

    #[test]
    fn a_gap_and_an_empty_step_name_the_variable() {
        let (_, errors) = overlaid(
            "listen: [a]",
            &[("DROVER__LISTEN__5", "b"), ("DROVER__LIMITS____X", "1")],
        );
        assert_eq!(errors.len(), 2);
        assert!(
            errors
                .iter()
                .any(|e| e.message.contains("leaves a gap")
                    && e.message.contains("DROVER__LISTEN__5"))
        );
        assert!(
            errors
                .iter()
                .any(|e| e.message.contains("DROVER__LIMITS____X"))
        );
    }

    #[test]
    fn text_that_is_no_yaml_stays_text() {
        let (value, errors) = overlaid("", &[("DROVER__ADMIN__ADDR", "[::1]:9090")]);
        assert_eq!(errors, []);
        assert_eq!(value["admin"]["addr"], "[::1]:9090");
    }
}

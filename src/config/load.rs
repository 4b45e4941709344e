//! From text to a checked [`Config`]: parse, overlay the environment, deserialize, validate, resolve.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_path_to_error::Segment;

use super::env;
use super::error::{ConfigError, ConfigErrors};
use super::schema::{Backend, Config};
use super::tree::{Content, Node, Origin, Step, child_path};
use super::validate::Checker;

/// More mistakes than this in one document are not listed one by one.
const MAX_ERRORS: usize = 100;

/// Reads the file at `path` (the defaults when `None`), lays `DROVER__…` variables of `env` over it,
/// checks everything and resolves the secrets named in it.
///
/// # Errors
/// Every mistake found, with its path and, when it stands in the file, its place.
pub fn load(
    path: Option<&Path>,
    env: impl Iterator<Item = (String, String)>,
) -> Result<Config, ConfigErrors> {
    let text = match path.map(std::fs::read_to_string).transpose() {
        Ok(text) => text.unwrap_or_default(),
        Err(error) => {
            let error = ConfigError {
                path: String::new(),
                position: None,
                message: format!("cannot be read: {error}"),
            };
            return Err(ConfigErrors::one(path.map(Path::to_path_buf), error));
        }
    };
    parse(&text, env).map_err(|errors| ConfigErrors {
        file: path.map(Path::to_path_buf),
        ..errors
    })
}

/// [`load`] for a document already in memory.
///
/// # Errors
/// As [`load`].
pub fn parse(
    text: &str,
    env: impl Iterator<Item = (String, String)>,
) -> Result<Config, ConfigErrors> {
    let env: BTreeMap<String, String> = env.collect();
    let mut root = Node::parse(text).map_err(|error| ConfigErrors::one(None, error))?;
    if !matches!(root.content, Content::Map(_)) {
        let error = root.origin.error("", "expected a table of sections");
        return Err(ConfigErrors::one(None, error));
    }
    let mut errors = env::overlay(&mut root, env.iter().map(|(k, v)| (k.as_str(), v.as_str())));
    root.label("");
    let origins = root.origins();

    let config = deserialize(root, &env, &mut errors);
    match config {
        // Cross-checks of a document that is partly missing would only add noise.
        Some(mut config) if errors.is_empty() => {
            let mut checker = Checker::new(&origins, &env);
            checker.check(&mut config);
            errors = checker.into_errors();
            if errors.is_empty() {
                return Ok(config);
            }
        }
        _ => {}
    }
    errors.sort_by_key(|error| error.position.map_or((1, None), |at| (0, Some(at))));
    errors.dedup();
    Err(ConfigErrors { file: None, errors })
}

/// Reads a document that is a list of backends, as in `fleet.pools[].backends`. They are not checked yet:
/// [`check`] does, with the rest of the fleet.
///
/// # Errors
/// The first mistake, with its path.
pub fn listed(text: &str) -> Result<Vec<Backend>, String> {
    let root = Node::parse(text).map_err(|error| error.to_string())?;
    if !matches!(root.content, Content::List(_)) {
        return Err("expected a list of backends".to_owned());
    }
    serde_path_to_error::deserialize(root.to_value()).map_err(|error| error.to_string())
}

/// Checks a configuration that was put together from parts that were loaded, and fills in the secrets it names.
///
/// # Errors
/// As [`load`], without places.
pub fn check(
    config: &mut Config,
    env: impl Iterator<Item = (String, String)>,
) -> Result<(), ConfigErrors> {
    let (origins, env) = (BTreeMap::new(), env.collect());
    let mut checker = Checker::new(&origins, &env);
    checker.check(config);
    match checker.into_errors() {
        errors if errors.is_empty() => Ok(()),
        errors => Err(ConfigErrors { file: None, errors }),
    }
}

/// Serde stops at the first mistake, so each one is noted, cut out of the document, and the rest tried
/// again.
fn deserialize(
    mut root: Node,
    env: &BTreeMap<String, String>,
    errors: &mut Vec<ConfigError>,
) -> Option<Config> {
    let mut cut = BTreeSet::<String>::new();
    loop {
        let error = match serde_path_to_error::deserialize::<_, Config>(root.to_value()) {
            Ok(config) => return Some(config),
            Err(error) => error,
        };
        let message = error.inner().to_string();
        let steps = steps(error.path());
        let culprit = culprit(&mut root, steps, &message);
        if culprit.retry_as_text(&mut root, env) {
            continue;
        }
        // What was cut out for its own mistake is not missing on top of that.
        let echo = match quoted(&message, "missing field `") {
            Some(key) => cut.contains(&child_path(&culprit.path, key)),
            None => cut.iter().any(|path| is_child(path, &culprit.path)),
        };
        if !echo {
            errors.push(culprit.error(message));
        }
        if errors.len() >= MAX_ERRORS || !culprit.cut(&mut root) {
            return None;
        }
        cut.insert(culprit.path);
    }
}

/// The name that follows `prefix` at the start of one of serde's messages.
fn quoted<'a>(message: &'a str, prefix: &str) -> Option<&'a str> {
    message.strip_prefix(prefix)?.split('`').next()
}

fn is_child(path: &str, parent: &str) -> bool {
    path.strip_prefix(parent)
        .and_then(|rest| rest.strip_prefix('.'))
        .is_some_and(|key| !key.contains(['.', '[']))
}

/// What serde stumbled over.
struct Culprit {
    /// Where it is in the tree now, which cuts may have shortened.
    steps: Vec<Step>,
    /// Its path in the document as it was read.
    path: String,
    origin: Origin,
}

fn steps(path: &serde_path_to_error::Path) -> Vec<Step> {
    path.iter()
        .filter_map(|segment| match segment {
            Segment::Seq { index } => Some(Step::Index(*index)),
            Segment::Map { key } => Some(Step::Key(key.clone())),
            Segment::Enum { .. } | Segment::Unknown => None,
        })
        .collect()
}

fn culprit(root: &mut Node, mut steps: Vec<Step>, message: &str) -> Culprit {
    while root.get_mut(&steps).is_none() && steps.pop().is_some() {}
    let (path, mut origin) = match root.get_mut(&steps) {
        Some(node) => (node.path.clone(), node.origin.clone()),
        None => (String::new(), Origin::File(None)),
    };
    // A key that should not be there is shown itself, not its value, which may start lines below.
    if let Some((Step::Key(key), parent)) = steps.split_last()
        && quoted(message, "unknown field `").is_some()
        && let Some(entry) = root.get_mut(parent).and_then(|node| node.entry(key))
    {
        origin.clone_from(&entry.origin);
    }
    Culprit {
        steps,
        path,
        origin,
    }
}

impl Culprit {
    fn error(&self, message: String) -> ConfigError {
        self.origin.error(&self.path, message)
    }

    /// `DROVER__AUTH__KEYS__0__KEY=1234` is a number to YAML and a text to the schema: variables have
    /// no quotes to say so, hence the text is tried before it is called a mistake.
    fn retry_as_text(&self, root: &mut Node, env: &BTreeMap<String, String>) -> bool {
        let Origin::Env(name) = &self.origin else {
            return false;
        };
        match (root.get_mut(&self.steps), env.get(name)) {
            (Some(node), Some(raw)) if matches!(&node.content, Content::Scalar(v) if !v.is_string()) =>
            {
                *node = env::text_node(raw, self.origin.clone(), self.path.clone());
                true
            }
            _ => false,
        }
    }

    fn cut(&self, root: &mut Node) -> bool {
        let Some((last, parent)) = self.steps.split_last() else {
            return false;
        };
        root.get_mut(parent)
            .is_some_and(|parent| parent.remove(last).is_some())
    }
}

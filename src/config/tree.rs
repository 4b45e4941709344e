//! A YAML document as a tree that remembers where each value stands, and into which environment
//! overrides can be laid before it is given to serde.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_saphyr::{MessageFormatter as _, Spanned, UserMessageFormatter};

use super::error::{ConfigError, Position};

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The file, with the place when the parser knows it.
    File(Option<Position>),
    /// The environment variable of this name.
    Env(String),
}

impl Origin {
    /// An error about the value that came from here.
    pub(super) fn error(&self, path: &str, message: impl fmt::Display) -> ConfigError {
        let (position, message) = match self {
            Self::File(position) => (*position, message.to_string()),
            Self::Env(name) => (None, format!("{message} (set by {name})")),
        };
        ConfigError {
            path: path.to_owned(),
            position,
            message,
        }
    }
}

/// A value with its origin.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) origin: Origin,
    /// Path in the document as it was read, filled in by [`Node::label`].
    pub(super) path: String,
    pub(super) content: Content,
}

/// What a value is.
#[derive(Clone, Debug)]
pub(super) enum Content {
    Scalar(Value),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key of a map and its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    /// Where the key stands; errors about unknown keys point here.
    pub(super) origin: Origin,
    pub(super) value: Node,
}

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

impl Node {
    /// Parses one YAML document.
    ///
    /// # Errors
    /// Broken syntax, duplicate keys, or a document beyond the parser's budget.
    pub(super) fn parse(text: &str) -> Result<Self, ConfigError> {
        if text.lines().all(|line| {
            let line = line.trim();
            line.is_empty() || line.starts_with('#') || line == "---"
        }) {
            return Ok(Self::file(Content::Map(Vec::new()), None));
        }
        let options = serde_saphyr::options! {
            with_snippet: false,
            // YAML 1.2: `y`, `no` and `on` are texts.
            strict_booleans: true,
            budget: serde_saphyr::budget! {
                max_buffered_comment_events: 10_000,
                max_nodes: 50_000,
                max_aliases: 1_000,
                max_depth: 64,
            },
        };
        serde_saphyr::from_str_with_options::<Spanned<Node>>(text, options)
            .map_err(|error| ConfigError {
                path: String::new(),
                position: error.location().and_then(position),
                message: UserMessageFormatter
                    .format_message(error.without_snippet())
                    .into_owned(),
            })
            .map(located)
    }

    fn file(content: Content, position: Option<Position>) -> Self {
        Self {
            origin: Origin::File(position),
            path: String::new(),
            content,
        }
    }

    /// Writes each node's path into it, so that it is still known after parts have been cut out.
    pub(super) fn label(&mut self, path: &str) {
        path.clone_into(&mut self.path);
        match &mut self.content {
            Content::Scalar(_) => {}
            Content::List(items) => {
                for (n, item) in items.iter_mut().enumerate() {
                    item.label(&format!("{path}[{n}]"));
                }
            }
            Content::Map(entries) => {
                for entry in entries {
                    let path = child_path(path, &entry.key);
                    entry.value.label(&path);
                }
            }
        }
    }

    /// Every labelled path with the origin of its value.
    pub(super) fn origins(&self) -> BTreeMap<String, Origin> {
        let mut all = BTreeMap::new();
        self.collect_origins(&mut all);
        all
    }

    fn collect_origins(&self, all: &mut BTreeMap<String, Origin>) {
        all.insert(self.path.clone(), self.origin.clone());
        match &self.content {
            Content::Scalar(_) => {}
            Content::List(items) => items.iter().for_each(|item| item.collect_origins(all)),
            Content::Map(entries) => entries
                .iter()
                .for_each(|entry| entry.value.collect_origins(all)),
        }
    }

    /// The same document for serde.
    pub(super) fn to_value(&self) -> Value {
        match &self.content {
            Content::Scalar(value) => value.clone(),
            Content::List(items) => items.iter().map(Self::to_value).collect(),
            Content::Map(entries) => entries
                .iter()
                .map(|entry| (entry.key.clone(), entry.value.to_value()))
                .collect(),
        }
    }

    /// The node at `steps`, if it exists.
    pub(super) fn get_mut(&mut self, steps: &[Step]) -> Option<&mut Node> {
        let Some((step, rest)) = steps.split_first() else {
            return Some(self);
        };
        let child = match (&mut self.content, step) {
            (Content::List(items), Step::Index(n)) => items.get_mut(*n)?,
            (Content::Map(entries), Step::Key(key)) => {
                &mut entries.iter_mut().find(|entry| entry.key == *key)?.value
            }
            _ => return None,
        };
        child.get_mut(rest)
    }

    /// The key of a map with its value.
    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.content {
            Content::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// Cuts the child `step` out.
    pub(super) fn remove(&mut self, step: &Step) -> Option<Node> {
        match (&mut self.content, step) {
            (Content::List(items), Step::Index(n)) if *n < items.len() => Some(items.remove(*n)),
            (Content::Map(entries), Step::Key(key)) => {
                let n = entries.iter().position(|entry| entry.key == *key)?;
                Some(entries.remove(n).value)
            }
            _ => None,
        }
    }
}

/// `parent.key`, or `key` at the top.
pub(super) fn child_path(parent: &str, key: &str) -> String {
    match parent {
        "" => key.to_owned(),
        parent => format!("{parent}.{key}"),
    }
}

fn position(location: serde_saphyr::Location) -> Option<Position> {
    (location.line() > 0).then(|| Position {
        line: location.line(),
        column: location.column(),
    })
}

fn located(spanned: Spanned<Node>) -> Node {
    Node {
        origin: Origin::File(position(spanned.referenced)),
        ..spanned.value
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl NodeVisitor {
    fn scalar<E>(value: impl Into<Value>) -> Result<Node, E> {
        Ok(Node::file(Content::Scalar(value.into()), None))
    }
}

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Node, E> {
        Self::scalar(Value::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Node, E> {
        Self::scalar(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Node, E> {
        Self::scalar(value)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Node, E> {
        Self::scalar(value)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Node, E> {
        Self::scalar(value)
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Node, E> {
        Self::scalar(value)
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Node, E> {
        Self::scalar(value)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element::<Spanned<Node>>()? {
            items.push(located(item));
        }
        Ok(Node::file(Content::List(items), None))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let value = map.next_value::<Spanned<Node>>()?;
            entries.push(Entry {
                key: key.value,
                origin: Origin::File(position(key.referenced)),
                value: located(value),
            });
        }
        Ok(Node::file(Content::Map(entries), None))
    }
}

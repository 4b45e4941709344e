//! Which members of a JSON object make it a call.

use std::ops::Range;

use serde_json::{Map, Value};

use super::super::offered::Offered;
use super::json::{JsonScan, Scan};
use super::literal::trim_end;
use super::typed;

/// Key with its quotes, and value.
pub(super) type Member = (Range<usize>, Range<usize>);

/// A call as its JSON object shows it.
#[derive(Debug, Default)]
pub(super) struct Shape {
    pub(super) name: Option<String>,
    pub(super) arguments: Option<Range<usize>>,
    others: Vec<Member>,
    /// What could not be read, to the end.
    damaged: Option<Range<usize>>,
}

const NAME_KEYS: [&str; 2] = ["name", "tool_name"];
const OTHER_NAME_KEYS: [&str; 2] = ["function", "tool"];
const ARGUMENT_KEYS: [&str; 6] = [
    "arguments",
    "parameters",
    "args",
    "tool_input",
    "input",
    "params",
];
const OTHER_KEYS: [&str; 4] = ["type", "id", "tool_call_id", "index"];

/// Whether a call's name stands under this key.
pub(super) fn is_name_key(key: &str) -> bool {
    NAME_KEYS.contains(&key)
}

/// Whether a call written without any tags may have this key.
pub(super) fn is_call_key(key: &str) -> bool {
    matches!(key, "name" | "arguments" | "parameters" | "type" | "id")
}

/// A key without its quotes.
pub(super) fn key<'a>(src: &'a str, key: &Range<usize>) -> &'a str {
    src[key.clone()].trim_matches(['"', '\''])
}

/// The text of a string literal.
pub(super) fn text(literal: &str) -> Option<String> {
    if let Some(text) = literal.strip_prefix('\'') {
        return Some(text.strip_suffix('\'')?.to_owned());
    }
    serde_json::from_str(literal).ok()
}

impl Shape {
    /// The complete object that begins at `begin`.
    pub(super) fn whole(src: &str, begin: usize) -> Self {
        Self::partial(src, begin, src.len())
    }

    /// The object that begins at `begin`, as far as it can be read before `end`.
    pub(super) fn partial(src: &str, begin: usize, end: usize) -> Self {
        let src = &src[..end];
        if src.as_bytes().get(begin) != Some(&b'{') {
            return Self::default();
        }
        let mut scan = JsonScan::new(begin);
        let mut members = Vec::new();
        let confused = loop {
            match scan.next(src) {
                Scan::Member(key, value) => members.push((key, value)),
                Scan::Complete(_) | Scan::More => break false,
                _ => break true,
            }
        };
        let damaged = confused && scan.at() < end;
        // The object's own closing bracket ends what is damaged.
        let mut rest_end = trim_end(src, begin, end);
        if damaged && src[..rest_end].ends_with('}') {
            rest_end = trim_end(src, begin, rest_end - 1);
        }
        let mut unread = None;
        if let Some((key, value)) = scan.open_member() {
            members.push((key, value..rest_end.max(value)));
        } else if damaged {
            match members.last_mut() {
                Some((k, value)) if ARGUMENT_KEYS.contains(&key(src, k)) => {
                    value.end = rest_end.max(value.end);
                }
                Some((_, value)) => unread = Some(value.end..rest_end.max(value.end)),
                None => {}
            }
        }
        let mut shape = Self::of(src, members);
        shape.damaged = unread;
        shape
    }

    /// An object of these members.
    pub(super) fn of(src: &str, members: Vec<Member>) -> Self {
        let find = |keys: &[&str]| {
            let holds = |wanted: &&str| {
                let mut all = members.iter();
                all.find(|(k, _)| key(src, k) == *wanted)
                    .map(|(_, value)| value.clone())
            };
            keys.iter().find_map(holds)
        };
        if let Some(function) = find(&["function"]).filter(|at| src[at.clone()].starts_with('{')) {
            return Self::partial(src, function.start, function.end);
        }
        let name = find(&NAME_KEYS).or_else(|| find(&OTHER_NAME_KEYS));
        let others = |(k, _): &Member| {
            let k = key(src, k);
            let known = [&NAME_KEYS[..], &OTHER_NAME_KEYS, &OTHER_KEYS];
            !known.iter().any(|keys| keys.contains(&k))
        };
        Self {
            name: name.and_then(|at| text(&src[at])),
            arguments: find(&ARGUMENT_KEYS),
            others: members.iter().filter(|m| others(m)).cloned().collect(),
            damaged: None,
        }
    }

    /// The arguments as they are written. Without any, the members beside the name are the arguments.
    pub(super) fn arguments_text(&self, src: &str) -> String {
        if let Some(arguments) = &self.arguments {
            return src[arguments.clone()].to_owned();
        }
        if let Some(damaged) = &self.damaged {
            return src[damaged.clone()].trim().to_owned();
        }
        let mut text = String::from("{");
        for (key, value) in &self.others {
            if text.len() > 1 {
                text.push_str(", ");
            }
            text.push_str(&src[key.clone()]);
            text.push_str(": ");
            text.push_str(&src[value.clone()]);
        }
        text.push('}');
        text
    }
}

/// The only tool whose required and known arguments are these.
pub(super) fn only_fit<'a>(offered: &'a Offered, arguments: &str) -> Option<&'a str> {
    let arguments: Map<String, Value> = serde_json::from_str(arguments).ok()?;
    let mut fitting = offered.names().filter(|name| {
        let schema = offered.schema_value(name);
        let required = schema.and_then(|schema| schema.get("required")?.as_array());
        required.is_some_and(|required| !required.is_empty())
            && schema.is_some_and(|schema| typed::fits(schema, &arguments))
    });
    fitting.next().filter(|_| fitting.next().is_none())
}

/// Whether `arguments` can be those of a tool with this schema. A tool's own definition has the same
/// shape as a call, so arguments that are a schema are none. With `fitting`, they must fit the schema
/// as far as names and top-level types go.
pub(super) fn is_plausible(schema: Option<&Value>, arguments: &str, fitting: bool) -> bool {
    let Ok(Value::Object(arguments)) = serde_json::from_str(arguments) else {
        return false;
    };
    let properties = schema.and_then(|schema| schema.get("properties")?.as_object());
    let defines = |map: &Map<String, Value>| {
        map.get("properties").is_some_and(Value::is_object) && map.contains_key("type")
    };
    if defines(&arguments) && !properties.is_some_and(|known| known.contains_key("properties")) {
        return false;
    }
    !fitting || schema.is_some_and(|schema| typed::fits(schema, &arguments))
}

//! The reference page of the configuration, written from its JSON schema.

use std::fmt::Write as _;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use super::schema::Config;
use super::tree::{Content, Node};

const HEAD: &str = "\
# Configuration

<!-- Generated from the doc comments in src/config/schema; `drover check --print-docs` prints it. -->

Drover reads one YAML file (`--config FILE`). Every key is optional unless marked **required**, unknown
keys are errors, and `drover check --config FILE` names every mistake with its line before anything is
bound. `conf/drover.yaml` is the default configuration with every key explained, `conf/examples/` holds
complete examples.

Durations are written with a unit: `500ms`, `30s`, `2h`. Sizes are bytes or carry a unit: `65536`, `64KiB`,
`32MiB`. Globs know `*`, `?`, `[abc]` and `{a,b}`.

Environment variables override the file: `DROVER__SECTION__KEY=value`, two underscores between the steps,
numbers for list items, values in YAML (`DROVER__FLEET__POOLS__0__MODELS='[\"*\"]'`).
";

/// The whole page in Markdown.
pub fn markdown() -> String {
    let settings = SchemaSettings::draft2020_12().with(|s| s.inline_subschemas = true);
    let schema = settings.into_generator().into_root_schema_for::<Config>();
    let mut page = HEAD.to_owned();
    // The order in which the structs declare their keys, which the schema's map has lost.
    let order = serde_saphyr::to_string(&Config::default())
        .ok()
        .and_then(|text| Node::parse(&text).ok());
    section(&mut page, "", schema.as_value(), order.as_ref());
    page
}

/// One table of keys, then the tables of what is nested in them.
fn section(page: &mut String, path: &str, schema: &Value, order: Option<&Node>) {
    let Some(properties) = object(schema) else {
        return kinds(page, path, schema);
    };
    let heading = match path {
        "" => "Top level",
        path => path,
    };
    let _ = write!(page, "\n## {heading}\n\n");
    if !path.is_empty()
        && let Some(text) = description(schema)
    {
        let _ = write!(page, "{text}\n\n");
    }
    page.push_str("| key | type | default | meaning |\n|---|---|---|---|\n");
    let required = schema["required"].as_array();
    let keys = ordered(properties, order);
    for key in &keys {
        let property = &properties[*key];
        let needed = required.is_some_and(|r| r.iter().any(|name| name == *key));
        let default = match (needed, property.get("default")) {
            (true, _) => "**required**".to_owned(),
            (false, Some(value)) => default_cell(value),
            (false, None) => "—".to_owned(),
        };
        let meaning = description(property).unwrap_or_default();
        let _ = writeln!(
            page,
            "| `{key}` | {} | {default} | {meaning} |",
            type_name(property).replace('|', "\\|"),
        );
    }
    for key in keys {
        let property = &properties[key];
        let path = match path {
            "" => key.to_owned(),
            path => format!("{path}.{key}"),
        };
        let below = order.and_then(|node| Some(&node.entry(key)?.value));
        match property.get("items") {
            Some(items) => section(
                page,
                &format!("{path}[]"),
                table(items),
                below.and_then(first),
            ),
            None => section(page, &path, table(property), below),
        }
    }
}

/// A table of the forms of a value that says by `kind` which it has; other values have no section.
fn kinds(page: &mut String, path: &str, schema: &Value) {
    let forms = schema.get("oneOf").and_then(Value::as_array);
    let forms: Vec<_> = forms
        .into_iter()
        .flatten()
        .filter_map(|form| Some((form, object(form)?)))
        .filter_map(|(form, keys)| Some((form, keys, keys.get("kind")?)))
        .collect();
    if forms.is_empty() {
        return;
    }
    let text = description(schema).unwrap_or_default();
    let _ = write!(page, "\n## {path}\n\n{text}\n\n");
    page.push_str("| `kind` | meaning | further keys |\n|---|---|---|\n");
    for (form, keys, kind) in forms {
        let keys = keys.iter().filter(|(key, _)| *key != "kind");
        let keys = keys.map(|(key, property)| {
            let meaning = description(property).unwrap_or_default();
            format!("`{key}` ({}): {meaning}", type_name(property))
        });
        let keys = match keys.collect::<Vec<_>>().join(" ") {
            keys if keys.is_empty() => "none".to_owned(),
            keys => keys,
        };
        let meaning = description(form).unwrap_or_default();
        let _ = writeln!(page, "| {} | {meaning} | {keys} |", type_name(kind));
    }
}

fn object(schema: &Value) -> Option<&Map<String, Value>> {
    schema.get("properties")?.as_object()
}

/// The table among the forms a value may take (`"addr"` or `{addr, tls}`, null or a table).
fn table(schema: &Value) -> &Value {
    schema
        .get("anyOf")
        .and_then(Value::as_array)
        .and_then(|forms| forms.iter().find(|form| object(form).is_some()))
        .unwrap_or(schema)
}

fn ordered<'a>(properties: &'a Map<String, Value>, order: Option<&Node>) -> Vec<&'a str> {
    let declared: Vec<&str> = match order.map(|node| &node.content) {
        Some(Content::Map(entries)) => entries.iter().map(|entry| entry.key.as_str()).collect(),
        _ => Vec::new(),
    };
    let mut keys: Vec<&str> = properties.keys().map(String::as_str).collect();
    keys.sort_by_key(|key| declared.iter().position(|d| d == key).unwrap_or(usize::MAX));
    keys
}

fn first(node: &Node) -> Option<&Node> {
    match &node.content {
        Content::List(items) => items.first(),
        _ => None,
    }
}

fn description(schema: &Value) -> Option<String> {
    let text = schema.get("description")?.as_str()?;
    Some(
        text.split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .replace('|', "\\|"),
    )
}

/// Sections are described by their own tables.
fn default_cell(value: &Value) -> String {
    match value {
        Value::Object(_) => "see below".to_owned(),
        Value::Array(items) if items.iter().any(Value::is_object) => "see below".to_owned(),
        Value::String(text) => format!("`{text}`"),
        value => format!("`{value}`"),
    }
}

fn type_name(schema: &Value) -> String {
    if let Some(format) = schema.get("format").and_then(Value::as_str) {
        // Formats of Rust's integers say less than "integer" does.
        if !format.starts_with("uint") {
            return format.to_owned();
        }
    }
    if let Some(value) = schema.get("const") {
        return format!("`{}`", value.as_str().unwrap_or_default());
    }
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return one_of(
            values
                .iter()
                .map(|v| format!("`{}`", v.as_str().unwrap_or("null"))),
        );
    }
    for union in ["anyOf", "oneOf"] {
        if let Some(forms) = schema.get(union).and_then(Value::as_array) {
            return one_of(forms.iter().map(type_name));
        }
    }
    match schema.get("type") {
        Some(Value::Array(types)) => {
            one_of(
                types
                    .iter()
                    .filter_map(Value::as_str)
                    .map(|name| match name {
                        "string" => format_or(schema, "string"),
                        "object" => "table".to_owned(),
                        name => name.to_owned(),
                    }),
            )
        }
        Some(Value::String(name)) => match name.as_str() {
            "array" => format!("list of {}", type_name(&schema["items"])),
            "object" => "table".to_owned(),
            name => name.to_owned(),
        },
        _ => "any".to_owned(),
    }
}

fn format_or(schema: &Value, name: &str) -> String {
    schema
        .get("format")
        .and_then(Value::as_str)
        .unwrap_or(name)
        .to_owned()
}

fn one_of(names: impl Iterator<Item = String>) -> String {
    names.collect::<Vec<_>>().join(" or ")
}

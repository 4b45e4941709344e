//! The `response_format` of a constrained re-ask: llama-server decodes strictly to a call of one of
//! the allowed tools, and the gateway turns that text into the call.
//!
//! The schema only steers. It may be looser than the client's where the grammar builder has no
//! words for something; the answer is validated against the client's schema like any other call.

mod keywords;
mod pattern;
mod read;
mod shape;

#[cfg(test)]
mod tests;

use std::fmt::Write;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::judge::RawCall;
use crate::turn::Tool;
pub use pattern::is_plain as is_plain_pattern;
use read::Reader;
use shape::Shape;

/// The `response_format` for a call of one of `tools`, or of those in `only`; none when that leaves
/// no tool.
pub fn schema_for(tools: &[Tool], only: Option<&[&str]>) -> Option<Box<RawValue>> {
    let mut reader = Reader::default();
    let mut calls = Vec::new();
    for tool in tools {
        if only.is_some_and(|only| !only.contains(&tool.name.as_str())) {
            continue;
        }
        let arguments = match tool.parameters.as_deref() {
            Some(schema) => reader.arguments(schema),
            None => Shape::any_object(),
        };
        let name = serde_json::to_string(&tool.name).ok()?;
        let mut call = String::new();
        let _ = write!(
            call,
            r#"{{"type":"object","properties":{{"name":{{"const":{name}}},"arguments":{arguments}}},"required":["name","arguments"],"additionalProperties":false}}"#,
        );
        calls.push(call);
    }
    if calls.is_empty() {
        return None;
    }
    let mut schema = format!(r#"{{"anyOf":[{}]"#, calls.join(","));
    for (number, definition) in reader.definitions().iter().enumerate() {
        let start = if number == 0 { r#","$defs":{"# } else { "," };
        let _ = write!(schema, r#"{start}"d{number}":{definition}"#);
        if number + 1 == reader.definitions().len() {
            schema.push('}');
        }
    }
    schema.push('}');
    let format = format!(
        r#"{{"type":"json_schema","json_schema":{{"name":"tool_call","schema":{schema}}}}}"#
    );
    RawValue::from_string(format).ok()
}

/// The call in an answer that was decoded under [`schema_for`]; its arguments keep their bytes.
/// None when the text is anything else, such as one that the token limit cut.
pub fn parse_constrained(text: &str) -> Option<RawCall> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Call<'a> {
        name: String,
        #[serde(borrow)]
        arguments: &'a RawValue,
    }
    let call: Call<'_> = serde_json::from_str(text).ok()?;
    Some(RawCall {
        name: call.name,
        arguments: call.arguments.get().to_owned(),
    })
}

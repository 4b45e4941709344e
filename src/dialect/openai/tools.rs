//! OpenAI tool definitions and choices.

use std::borrow::Cow;

use bytes::BytesMut;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::dialect::json::{self, ObjectWriter};
use crate::turn::{Tool, ToolChoice, TurnError};

#[derive(Deserialize)]
struct WireTool<'a> {
    #[serde(borrow)]
    r#type: Option<Cow<'a, str>>,
    #[serde(borrow)]
    function: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct WireFunction {
    name: String,
    parameters: Option<Box<RawValue>>,
    #[serde(default, rename = "description")]
    _description: Option<String>,
}

/// Decode `tools`. A kind that llama-server does not know (it would refuse the whole request) is
/// left out: the model cannot call it, and everything else works.
pub(super) fn decode(tools: &RawValue) -> Result<Vec<Tool>, TurnError> {
    let raw = json::list("tools", tools)?;
    let mut decoded = Vec::with_capacity(raw.len());
    for (position, raw) in raw.into_iter().enumerate() {
        let error = |error: serde_json::Error| {
            let field = format!("tools[{position}]");
            TurnError::bad_field(&field, format!("`{field}`: {error}"))
        };
        let wire: WireTool<'_> = serde_json::from_str(raw.get()).map_err(error)?;
        let ("function", Some(function)) =
            (wire.r#type.as_deref().unwrap_or("function"), wire.function)
        else {
            continue;
        };
        let WireFunction {
            name, parameters, ..
        } = serde_json::from_str(function.get()).map_err(error)?;
        let members: json::Members<'_> = serde_json::from_str(function.get()).map_err(error)?;
        let nulls = members.0.iter().any(|(_, value)| value.get() == "null");
        let upstream = if wire.r#type.is_some() && !nulls {
            raw.to_owned()
        } else {
            rewritten(&members)
        };
        decoded.push(Tool {
            name,
            parameters,
            upstream,
        });
    }
    Ok(decoded)
}

/// The same definition with the `type` that llama-server insists on, and without the nulls that it
/// refuses.
fn rewritten(function: &json::Members<'_>) -> Box<RawValue> {
    let mut out = BytesMut::new();
    let mut tool = ObjectWriter::new(&mut out);
    tool.member("type", "function");
    let mut inner = ObjectWriter::new(tool.key("function"));
    for (name, value) in &function.0 {
        if value.get() != "null" {
            inner.raw(name, value);
        }
    }
    inner.end();
    tool.end();
    serde_json::from_slice(&out).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

#[derive(Deserialize)]
struct ChoiceObject {
    r#type: Option<String>,
    function: Option<ChoiceFunction>,
    allowed_tools: Option<AllowedTools>,
}

#[derive(Deserialize)]
struct ChoiceFunction {
    name: String,
}

#[derive(Deserialize)]
struct AllowedTools {
    mode: Option<String>,
}

/// Decode `tool_choice`, a word or an object.
pub(super) fn decode_choice(choice: &RawValue, tools: &[Tool]) -> Result<ToolChoice, TurnError> {
    let error = |message: String| TurnError::bad_field("tool_choice", message);
    if let Ok(word) = serde_json::from_str::<String>(choice.get()) {
        return choice_by_word(&word)
            .ok_or_else(|| error(format!("unknown `tool_choice` `{word}`")));
    }
    let object: ChoiceObject = serde_json::from_str(choice.get())
        .map_err(|cause| error(format!("`tool_choice`: {cause}")))?;
    match (object.function, object.allowed_tools) {
        (Some(ChoiceFunction { name }), _) if tools.iter().any(|tool| tool.name == name) => {
            Ok(ToolChoice::Named(name))
        }
        (Some(ChoiceFunction { name }), _) => Err(error(format!(
            "`tool_choice` names `{name}`, which is not among the tools"
        ))),
        (None, Some(allowed)) => {
            let mode = allowed.mode.as_deref().unwrap_or("auto");
            choice_by_word(mode).ok_or_else(|| error(format!("unknown mode `{mode}`")))
        }
        (None, None) => {
            let word = object.r#type.unwrap_or_default();
            choice_by_word(&word)
                .ok_or_else(|| error(format!("unknown `tool_choice` type `{word}`")))
        }
    }
}

/// A `tool_choice` that is one word.
pub(in crate::dialect) fn choice_by_word(word: &str) -> Option<ToolChoice> {
    match word {
        "auto" => Some(ToolChoice::Auto),
        "none" => Some(ToolChoice::None),
        "required" | "any" => Some(ToolChoice::Required),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.into()).unwrap()
    }

    #[test]
    fn definitions_keep_their_bytes_and_unknown_kinds_are_left_out() {
        let f = r#"{"type":"function","function":{"name":"f","parameters":{"type":"object"},"strict":true},"defer_loading":true}"#;
        let tools = decode(&raw(&format!(
            r#"[{f},{{"type":"web_search"}},{{"function":{{"name":"g"}}}}]"#
        )))
        .unwrap();
        assert_eq!(tools.len(), 2);
        assert_eq!(tools[0].upstream.get(), f);
        assert_eq!(
            tools[0].parameters.as_ref().unwrap().get(),
            r#"{"type":"object"}"#
        );
        assert_eq!(
            tools[1].upstream.get(),
            r#"{"type":"function","function":{"name":"g"}}"#
        );
    }

    #[test]
    fn nulls_that_llama_server_refuses_are_left_out() {
        let tools = decode(&raw(
            r#"[{"type":"function","function":{"name":"f","description":null,"parameters":null,"strict":true}}]"#,
        ))
        .unwrap();
        assert_eq!(
            tools[0].upstream.get(),
            r#"{"type":"function","function":{"name":"f","strict":true}}"#
        );
    }

    #[test]
    fn choices() {
        let tools = decode(&raw(r#"[{"type":"function","function":{"name":"f"}}]"#)).unwrap();
        let choice = |text: &str| decode_choice(&raw(text), &tools);
        assert_eq!(choice(r#""required""#), Ok(ToolChoice::Required));
        assert_eq!(choice(r#""none""#), Ok(ToolChoice::None));
        let named = r#"{"type":"function","function":{"name":"f"}}"#;
        assert_eq!(choice(named), Ok(ToolChoice::Named("f".into())));
        let allowed = r#"{"type":"allowed_tools","allowed_tools":{"mode":"required","tools":[]}}"#;
        assert_eq!(choice(allowed), Ok(ToolChoice::Required));
        assert!(choice(r#"{"type":"function","function":{"name":"g"}}"#).is_err());
        assert!(choice(r#""maybe""#).is_err());
    }
}

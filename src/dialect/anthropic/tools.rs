//! Anthropic tool definitions and choices.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::dialect::{json, llama};
use crate::turn::{Tool, ToolChoice, TurnError};

#[derive(Deserialize)]
struct WireTool<'a> {
    #[serde(borrow)]
    r#type: Option<Cow<'a, str>>,
    name: Option<String>,
    description: Option<String>,
    #[serde(borrow)]
    input_schema: Option<&'a RawValue>,
}

/// The decoded `tools`.
#[derive(Default)]
pub(super) struct Tools {
    pub(super) offered: Vec<Tool>,
    /// Names of those that are run elsewhere.
    left_out: Vec<String>,
}

/// Decode `tools`. Tools that Anthropic's service runs itself (`web_search_20250305` and the like)
/// have no schema and nobody here to run them: they are left out.
pub(super) fn decode(raw: &RawValue) -> Result<Tools, TurnError> {
    let mut tools = Tools::default();
    for (position, raw) in json::list("tools", raw)?.into_iter().enumerate() {
        let wire: WireTool<'_> = serde_json::from_str(raw.get()).map_err(|error| {
            let field = format!("tools.{position}");
            TurnError::bad_field(&field, format!("{field}: {error}"))
        })?;
        let own = wire.r#type.as_deref().is_none_or(|kind| kind == "custom");
        let Some(name) = wire.name else {
            continue;
        };
        if !own && wire.input_schema.is_none() {
            tools.left_out.push(name);
            continue;
        }
        let description = wire.description.as_deref();
        let tool = llama::function(name, description, wire.input_schema);
        tools.offered.push(tool);
    }
    Ok(tools)
}

/// A decoded `tool_choice`.
#[derive(Default)]
pub(super) struct Choice {
    pub(super) choice: ToolChoice,
    /// Whether several calls at once are wanted, when the client says.
    pub(super) parallel: Option<bool>,
}

#[derive(Deserialize)]
struct WireChoice {
    r#type: String,
    name: Option<String>,
    disable_parallel_tool_use: Option<bool>,
}

/// Decode `tool_choice`. One that names a tool of Anthropic's service is left to the model.
pub(super) fn decode_choice(raw: &RawValue, tools: &Tools) -> Result<Choice, TurnError> {
    let error = |message: String| TurnError::bad_field("tool_choice", message);
    let wire: WireChoice =
        serde_json::from_str(raw.get()).map_err(|cause| error(format!("tool_choice: {cause}")))?;
    let choice = match (wire.r#type.as_str(), wire.name) {
        ("auto", _) => ToolChoice::Auto,
        ("any", _) => ToolChoice::Required,
        ("none", _) => ToolChoice::None,
        ("tool", Some(name)) if tools.offered.iter().any(|tool| tool.name == name) => {
            ToolChoice::Named(name)
        }
        ("tool", Some(name)) if tools.left_out.contains(&name) => ToolChoice::Auto,
        ("tool", name) => {
            let name = name.unwrap_or_default();
            return Err(error(format!("tool_choice: no tool is called `{name}`")));
        }
        (other, _) => return Err(error(format!("tool_choice: unknown type `{other}`"))),
    };
    let parallel = wire.disable_parallel_tool_use.map(|disabled| !disabled);
    Ok(Choice { choice, parallel })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.into()).unwrap()
    }

    #[test]
    fn definitions_become_functions_and_service_tools_are_left_out() {
        let tools = decode(&raw(
            r#"[{"name":"f","description":"d","input_schema":{"type":"object" ,"properties":{}},"cache_control":{"type":"ephemeral"},"defer_loading":true},
                {"type":"web_search_20250305","name":"web_search"},{"name":"g"}]"#,
        ))
        .unwrap();
        let upstream: Vec<_> = tools
            .offered
            .iter()
            .map(|tool| tool.upstream.get())
            .collect();
        assert_eq!(
            upstream,
            [
                r#"{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object" ,"properties":{}}}}"#,
                r#"{"type":"function","function":{"name":"g","parameters":{"type":"object","properties":{}}}}"#,
            ]
        );
    }

    #[test]
    fn choices() {
        let tools = decode(&raw(
            r#"[{"name":"f"},{"type":"web_search_20250305","name":"web_search"}]"#,
        ))
        .unwrap();
        let choice = |text: &str| decode_choice(&raw(text), &tools).map(|c| (c.choice, c.parallel));
        let any = r#"{"type":"any","disable_parallel_tool_use":true}"#;
        assert_eq!(choice(any), Ok((ToolChoice::Required, Some(false))));
        let named = r#"{"type":"tool","name":"f"}"#;
        assert_eq!(choice(named), Ok((ToolChoice::Named("f".into()), None)));
        assert!(choice(r#"{"type":"tool","name":"x"}"#).is_err());
        let elsewhere = r#"{"type":"tool","name":"web_search"}"#;
        assert_eq!(choice(elsewhere), Ok((ToolChoice::Auto, None)));
        assert_eq!(choice(r#"{"type":"none"}"#), Ok((ToolChoice::None, None)));
    }
}

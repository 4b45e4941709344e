//! `tool_choice` in all its forms.

use serde_json::value::RawValue;

use super::content::Element;
use super::tools::Tools;
use crate::dialect::json;
use crate::dialect::openai::choice_by_word;
use crate::turn::{ToolChoice, TurnError};

/// A decoded `tool_choice`.
#[derive(Default)]
pub(super) struct Choice {
    pub(super) choice: ToolChoice,
    /// Upstream names of the tools that may be called, where the client narrowed them.
    pub(super) allowed: Option<Vec<String>>,
}

impl From<ToolChoice> for Choice {
    fn from(choice: ToolChoice) -> Self {
        Self {
            choice,
            allowed: None,
        }
    }
}

/// Decode `tool_choice`. One that names a tool nobody here can run is left to the model.
pub(super) fn decode(raw: &RawValue, tools: &Tools) -> Result<Choice, TurnError> {
    const FIELD: &str = "tool_choice";
    if raw.get().starts_with('"') {
        let word: String = json::field(FIELD, raw)?;
        let choice = choice_by_word(&word);
        let unknown = || TurnError::bad_field(FIELD, format!("unknown `{FIELD}` `{word}`"));
        return choice.map(Choice::from).ok_or_else(unknown);
    }
    let choice = Element::read(FIELD.to_owned(), raw)?;
    let kind = choice.text("type").unwrap_or_default();
    match kind.as_str() {
        "function" | "custom" => {
            let name = choice.text("name").unwrap_or_default();
            let found = tools.find(choice.text("namespace").as_deref(), &name);
            let missing = || choice.error(&format!("no tool is called `{name}`"));
            Ok(ToolChoice::Named(found.ok_or_else(missing)?).into())
        }
        "allowed_tools" => allowed(&choice, tools),
        "local_shell" if tools.is_offered("local_shell") => {
            Ok(ToolChoice::Named("local_shell".to_owned()).into())
        }
        kind => Ok(choice_by_word(kind).unwrap_or_default().into()),
    }
}

fn allowed(choice: &Element<'_>, tools: &Tools) -> Result<Choice, TurnError> {
    let mode = choice.text("mode").unwrap_or_else(|| "auto".to_owned());
    let mode =
        choice_by_word(&mode).ok_or_else(|| choice.error(&format!("unknown mode `{mode}`")))?;
    let Some(list) = choice.raw("tools") else {
        return Ok(mode.into());
    };
    let mut names = Vec::new();
    for raw in json::list("tool_choice.tools", list)? {
        let tool = Element::read("tool_choice.tools".to_owned(), raw)?;
        let name = tool.text("name").or_else(|| tool.text("type"));
        let namespace = tool.text("namespace");
        names.extend(name.and_then(|name| tools.find(namespace.as_deref(), &name)));
    }
    // Nothing that can be run here is allowed.
    let choice = if names.is_empty() {
        ToolChoice::None
    } else {
        mode
    };
    Ok(Choice {
        choice,
        allowed: Some(names),
    })
}

#[cfg(test)]
mod tests {
    use super::super::tools::{self, tests::TOOLS};
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.into()).unwrap()
    }

    #[test]
    fn choices() {
        let tools = tools::decode(&raw(TOOLS)).unwrap();
        let choice = |text: &str| decode(&raw(text), &tools).map(|c| (c.choice, c.allowed));
        let named = |name: &str| Ok((ToolChoice::Named(name.into()), None));
        assert_eq!(choice(r#""required""#), Ok((ToolChoice::Required, None)));
        assert_eq!(choice(r#"{"type":"function","name":"ls"}"#), named("ls"));
        assert_eq!(
            choice(r#"{"type":"function","name":"say"}"#),
            named("mcp__echo__say")
        );
        assert_eq!(
            choice(r#"{"type":"function","namespace":"mcp__echo","name":"say"}"#),
            named("mcp__echo__say")
        );
        assert_eq!(
            choice(r#"{"type":"custom","name":"apply_patch"}"#),
            named("apply_patch")
        );
        assert_eq!(choice(r#"{"type":"local_shell"}"#), named("local_shell"));
        assert_eq!(
            choice(r#"{"type":"web_search_preview"}"#),
            Ok((ToolChoice::Auto, None))
        );
        let allowed = r#"{"type":"allowed_tools","mode":"required","tools":[{"type":"function","name":"ls"},{"type":"web_search"},{"type":"local_shell"}]}"#;
        let names = vec!["ls".to_owned(), "local_shell".to_owned()];
        assert_eq!(choice(allowed), Ok((ToolChoice::Required, Some(names))));
        let none = r#"{"type":"allowed_tools","mode":"auto","tools":[{"type":"web_search"}]}"#;
        assert_eq!(choice(none), Ok((ToolChoice::None, Some(vec![]))));
        assert!(choice(r#"{"type":"function","name":"gone"}"#).is_err());
        assert!(choice(r#""maybe""#).is_err());
    }
}

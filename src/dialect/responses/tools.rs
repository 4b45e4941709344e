//! Tools: flattened into functions for the model, and how a client gets their calls back.

use std::collections::HashMap;
use std::fmt::Write;

use serde_json::value::RawValue;

use super::content::Element;
use super::names::flat;
use crate::dialect::{json, llama};
use crate::turn::{Tool, ToolForm, ToolKind, TurnError};

/// Arguments of a tool that takes any text.
const FREEFORM: &str = r#"{"type":"object","properties":{"input":{"type":"string"}},"required":["input"],"additionalProperties":false}"#;

/// Arguments of `local_shell` (OpenAI's API reference, "Local shell call").
const LOCAL_SHELL: &str = r#"{"type":"object","properties":{"command":{"type":"array","items":{"type":"string"}},"working_directory":{"type":"string"},"timeout_ms":{"type":"integer"}},"required":["command"],"additionalProperties":false}"#;

/// The decoded `tools`.
#[derive(Default)]
pub(super) struct Tools {
    pub(super) offered: Vec<Tool>,
    /// The client's view of those that are no plain functions.
    pub(super) forms: HashMap<String, ToolForm>,
}

impl Tools {
    /// What the model calls the client's tool.
    pub(super) fn upstream_name(&self, namespace: Option<&str>, name: &str) -> String {
        let known = self
            .forms
            .iter()
            .find(|(_, form)| form.name == name && form.namespace.as_deref() == namespace);
        known.map_or_else(|| flat(namespace, name), |(upstream, _)| upstream.clone())
    }

    pub(super) fn is_offered(&self, name: &str) -> bool {
        self.offered.iter().any(|tool| tool.name == name)
    }

    /// The offered tool a choice names; its group may be left out.
    pub(super) fn find(&self, namespace: Option<&str>, name: &str) -> Option<String> {
        let exact = self.upstream_name(namespace, name);
        if self.is_offered(&exact) {
            return Some(exact);
        }
        let mut named = self.forms.iter().filter(|(_, form)| form.name == name);
        match (named.next(), named.next()) {
            (Some((upstream, _)), None) if namespace.is_none() => Some(upstream.clone()),
            _ => None,
        }
    }

    fn add(&mut self, tool: &Element<'_>, kind: ToolKind, group: Option<&Group>) {
        let own_name = (kind == ToolKind::LocalShell).then(|| "local_shell".to_owned());
        let Some(name) = own_name
            .or_else(|| tool.text("name"))
            .filter(|n| !n.is_empty())
        else {
            return;
        };
        let namespace = group.map(|group| group.name.clone());
        let mut upstream = flat(namespace.as_deref(), &name);
        let plain = kind == ToolKind::Function && namespace.is_none();
        // Two groups may hide the same name behind different cuts of it.
        while self.is_offered(&upstream) {
            if plain && !self.forms.contains_key(&upstream) {
                return;
            }
            upstream.push('_');
        }
        if !plain || upstream != name {
            let form = ToolForm {
                kind,
                namespace,
                name,
            };
            self.forms.insert(upstream.clone(), form);
        }
        let description = description(tool, kind, group);
        let constant = match kind {
            ToolKind::Function => None,
            ToolKind::Custom => Some(FREEFORM),
            ToolKind::LocalShell => Some(LOCAL_SHELL),
        };
        let parameters = match constant {
            Some(schema) => serde_json::from_str(schema).ok(),
            None => tool.raw("parameters"),
        };
        let function = llama::function(upstream, description.as_deref(), parameters);
        self.offered.push(function);
    }
}

/// A group of tools.
struct Group {
    name: String,
    /// What it says about itself; told once, with its first tool.
    description: Option<String>,
}

/// Decode `tools`. Those that OpenAI's service runs itself (`web_search` and the like) have nobody
/// here to run them: they are left out.
pub(super) fn decode(raw: &RawValue) -> Result<Tools, TurnError> {
    let mut tools = Tools::default();
    for (position, raw) in json::list("tools", raw)?.into_iter().enumerate() {
        let tool = Element::read(format!("tools[{position}]"), raw)?;
        match tool.text("type").as_deref() {
            Some("namespace") => group(&mut tools, &tool)?,
            kind => {
                if let Some(kind) = served(kind) {
                    tools.add(&tool, kind, None);
                }
            }
        }
    }
    Ok(tools)
}

fn group(tools: &mut Tools, group: &Element<'_>) -> Result<(), TurnError> {
    let (Some(name), Some(members)) = (group.text("name"), group.raw("tools")) else {
        return Ok(());
    };
    let mut described = Group {
        name,
        description: group.text("description"),
    };
    let path = format!("{}.tools", group.path);
    for (position, raw) in json::list(&path, members)?.into_iter().enumerate() {
        let tool = Element::read(format!("{path}[{position}]"), raw)?;
        if let Some(kind) = served(tool.text("type").as_deref()) {
            tools.add(&tool, kind, Some(&described));
            described.description = None;
        }
    }
    Ok(())
}

fn served(kind: Option<&str>) -> Option<ToolKind> {
    match kind {
        None | Some("function") => Some(ToolKind::Function),
        Some("custom") => Some(ToolKind::Custom),
        Some("local_shell") => Some(ToolKind::LocalShell),
        _ => None,
    }
}

/// What the model is told about a tool. A grammar cannot be enforced inside a JSON string, so that
/// it is shown.
fn description(tool: &Element<'_>, kind: ToolKind, group: Option<&Group>) -> Option<String> {
    let mut all: Vec<String> = Vec::new();
    all.extend(group.and_then(|group| group.description.clone()));
    all.extend(tool.text("description"));
    match kind {
        ToolKind::Function => {}
        ToolKind::Custom => {
            let mut how = "Put the text, just as it is, into the argument `input`.".to_owned();
            let format = tool.raw("format");
            let format = format.and_then(|raw| Element::read(tool.path.clone(), raw).ok());
            if let Some(grammar) = format.as_ref().and_then(|format| format.text("definition")) {
                let syntax = format.and_then(|format| format.text("syntax"));
                let syntax = syntax.as_deref().unwrap_or("following");
                let _ = write!(how, " It must match this {syntax} grammar:\n{grammar}");
            }
            all.push(how);
        }
        ToolKind::LocalShell => all.push(
            "Runs a command on the user's machine. `command` is the program and its arguments."
                .to_owned(),
        ),
    }
    (!all.is_empty()).then(|| all.join("\n\n"))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.into()).unwrap()
    }

    pub(in crate::dialect::responses) const TOOLS: &str = r#"[{"type":"function","name":"ls","description":"d","strict":false,"parameters":{"type":"object" ,"properties":{}}},
        {"type":"namespace","name":"mcp__echo","description":"Echoes.","tools":[{"type":"function","name":"say","description":"Says."},{"type":"function","name":"sing"}]},
        {"type":"custom","name":"apply_patch","description":"Edits.","format":{"type":"grammar","syntax":"lark","definition":"start: x"}},
        {"type":"web_search","external_web_access":true},{"type":"local_shell"},{"type":"function","name":"bare"},{"type":"tool_search","execution":"client"}]"#;

    #[test]
    fn every_tool_a_client_can_run_becomes_a_function() {
        let tools = decode(&raw(TOOLS)).unwrap();
        let upstream: Vec<_> = tools
            .offered
            .iter()
            .map(|tool| tool.upstream.get())
            .collect();
        assert_eq!(
            upstream,
            [
                r#"{"type":"function","function":{"name":"ls","description":"d","parameters":{"type":"object" ,"properties":{}}}}"#.to_owned(),
                r#"{"type":"function","function":{"name":"mcp__echo__say","description":"Echoes.\n\nSays.","parameters":{"type":"object","properties":{}}}}"#.to_owned(),
                r#"{"type":"function","function":{"name":"mcp__echo__sing","parameters":{"type":"object","properties":{}}}}"#.to_owned(),
                format!(r#"{{"type":"function","function":{{"name":"apply_patch","description":"Edits.\n\nPut the text, just as it is, into the argument `input`. It must match this lark grammar:\nstart: x","parameters":{FREEFORM}}}}}"#),
                format!(r#"{{"type":"function","function":{{"name":"local_shell","description":"Runs a command on the user's machine. `command` is the program and its arguments.","parameters":{LOCAL_SHELL}}}}}"#),
                r#"{"type":"function","function":{"name":"bare","parameters":{"type":"object","properties":{}}}}"#.to_owned(),
            ]
        );
        assert_eq!(tools.forms.len(), 4);
        let say = &tools.forms["mcp__echo__say"];
        assert_eq!(
            (say.namespace.as_deref(), say.name.as_str()),
            (Some("mcp__echo"), "say")
        );
    }

    #[test]
    fn names_that_collide_stay_apart_and_are_found_again() {
        let tools = decode(&raw(
            r#"[{"type":"namespace","name":"a","tools":[{"name":"b__c"}]},{"type":"namespace","name":"a__b","tools":[{"name":"c"}]},{"type":"function","name":"f"},{"type":"function","name":"f"}]"#,
        ))
        .unwrap();
        let names: Vec<_> = tools
            .offered
            .iter()
            .map(|tool| tool.name.as_str())
            .collect();
        assert_eq!(names, ["a__b__c", "a__b__c_", "f"]);
        assert_eq!(tools.upstream_name(Some("a__b"), "c"), "a__b__c_");
        assert_eq!(tools.upstream_name(Some("a"), "b__c"), "a__b__c");
        assert_eq!(tools.upstream_name(Some("gone"), "x"), "gone__x");
    }
}

//! The answer to a request without a script.

use serde_json::Value;

use super::{
    prose,
    request::{Format, Request, ToolChoice},
    rng::Rng,
    schema,
    step::{Call, Step},
};

/// What the model says when no script tells it, for a request with room for `room` tokens.
pub(crate) fn made_up(request: &Request, room: usize, rng: &mut Rng) -> Vec<Step> {
    if request.tool_choice == ToolChoice::Required
        && let Some(tool) = request.tools.first()
    {
        let arguments = match &tool.parameters {
            Value::Null => "{}".to_owned(),
            parameters => schema::document(parameters, rng),
        };
        let arguments = Value::String(arguments);
        return vec![Step::ToolCall(Call {
            name: tool.name.clone(),
            arguments,
            id: None,
        })];
    }
    vec![Step::Text(match &request.format {
        Format::JsonSchema(schema) => schema::document(schema, rng),
        Format::JsonObject => "{\"answer\": \"ok\"}".into(),
        Format::Text if request.ignore_eos => {
            let mut text = prose::answer(rng);
            // A token has at most six bytes.
            while text.len() < room.saturating_mul(6) {
                text.push(' ');
                text.push_str(&prose::sentence(rng));
            }
            text
        }
        Format::Text => prose::answer(rng),
    })]
}

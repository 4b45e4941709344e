//! Tools as llama-server takes them.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::dialect::json;
use crate::turn::Tool;

#[derive(Serialize)]
struct Upstream<'a> {
    r#type: &'static str,
    function: Function<'a>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    parameters: &'a RawValue,
}

/// The schema of a tool without arguments.
#[derive(Serialize)]
struct Nothing {
    r#type: &'static str,
    properties: Properties,
}

#[derive(Serialize)]
struct Properties {}

/// A function with this JSON Schema of its arguments; without one it takes none.
pub fn function(name: String, description: Option<&str>, parameters: Option<&RawValue>) -> Tool {
    let parameters = parameters.map_or_else(
        || {
            json::raw(&Nothing {
                r#type: "object",
                properties: Properties {},
            })
        },
        RawValue::to_owned,
    );
    let function = Function {
        name: &name,
        description,
        parameters: &parameters,
    };
    let upstream = json::raw(&Upstream {
        r#type: "function",
        function,
    });
    Tool {
        name,
        parameters: Some(parameters),
        upstream,
    }
}

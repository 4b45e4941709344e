//! Arguments to repair, and damage to do to them.

use proptest::prelude::*;
use serde_json::{Map, Value};

/// Fragments that tempt a repairer to touch what is inside a string.
const TEMPTING: [&str; 24] = [
    "}}}}",
    "]}",
    "```json\n{}\n```",
    "<parameter name=\"x\">1</parameter>",
    "</tool_call>",
    "<|im_end|>",
    "<think>",
    "00000000-0000-0000-0000-000000000000",
    "Please follow these rules:",
    "You are provided with function signatures within <tools></tools> XML tags:",
    "{\"name\":\"Bash\",\"arguments\":{}}",
    "{'a': True}",
    "\\d+\\.\\w",
    "C:\\users\\new",
    "it's \"quoted\"",
    "trailing, ]",
    "line\nbreak\r\n\ttab",
    "\u{0}\u{1f}\u{7f}\u{2028}",
    "émoji \u{1f980} \u{feff}",
    "\\u0041",
    "\\",
    "\"",
    "None",
    "// comment",
];

fn text() -> impl Strategy<Value = String> {
    let tempting = proptest::sample::select(&TEMPTING[..]).prop_map(str::to_owned);
    let piece = prop_oneof![3 => tempting, 1 => "\\PC{0,12}", 1 => any::<String>()];
    prop::collection::vec(piece, 0..5).prop_map(|pieces| pieces.concat())
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        6 => text().prop_map(Value::String),
        1 => any::<bool>().prop_map(Value::Bool),
        1 => any::<i64>().prop_map(Value::from),
        1 => any::<u64>().prop_map(Value::from),
        1 => (-1e300f64..1e300).prop_map(Value::from),
        1 => Just(Value::Null),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
            prop::collection::hash_map(text(), inner, 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Arguments of all kinds.
pub(super) fn object() -> impl Strategy<Value = Value> {
    prop::collection::hash_map(text(), value(), 0..6)
        .prop_map(|members| Value::Object(members.into_iter().collect::<Map<_, _>>()))
}

/// A way to damage the text of an object without losing anything of what it says.
#[derive(Clone, Copy, Debug)]
pub(super) enum Damage {
    CloserMissing,
    CloserSurplus,
    TrailingComma,
    SingleQuotes,
    RawControls,
    LooseEscapes,
    Fence,
    Tags,
    Encoded,
    EncodedBare,
    Python,
}

pub(super) const DAMAGES: [Damage; 11] = [
    Damage::CloserMissing,
    Damage::CloserSurplus,
    Damage::TrailingComma,
    Damage::SingleQuotes,
    Damage::RawControls,
    Damage::LooseEscapes,
    Damage::Fence,
    Damage::Tags,
    Damage::Encoded,
    Damage::EncodedBare,
    Damage::Python,
];

impl Damage {
    /// The damaged text of `value`.
    pub(super) fn apply(self, value: &Value) -> String {
        let json = value.to_string();
        match self {
            Self::CloserMissing => json[..json.len() - 1].to_owned(),
            Self::CloserSurplus => json + "}]}",
            Self::Fence => format!("```json\n{json}\n```"),
            Self::Tags => format!("<tool_call>\n<arguments>{json}</arguments>\n</tool_call>"),
            Self::Encoded => Value::String(json).to_string(),
            Self::EncodedBare => {
                let quoted = Value::String(json).to_string();
                quoted[1..quoted.len() - 1].to_owned()
            }
            _ => self.write(value),
        }
    }

    /// `value` in the damaged form.
    fn write(self, value: &Value) -> String {
        let comma = match self {
            Self::TrailingComma => ",",
            _ => "",
        };
        match value {
            Value::Array(items) => {
                let items: Vec<String> = items.iter().map(|item| self.write(item)).collect();
                let comma = if items.is_empty() { "" } else { comma };
                format!("[{}{comma}]", items.join(", "))
            }
            Value::Object(members) => {
                let members: Vec<String> = members
                    .iter()
                    .map(|(key, value)| format!("{}: {}", self.string(key), self.write(value)))
                    .collect();
                let comma = if members.is_empty() { "" } else { comma };
                format!("{{{}{comma}}}", members.join(", "))
            }
            Value::String(text) => self.string(text),
            Value::Bool(true) if matches!(self, Self::Python) => "True".to_owned(),
            Value::Bool(false) if matches!(self, Self::Python) => "False".to_owned(),
            Value::Null if matches!(self, Self::Python) => "None".to_owned(),
            scalar => scalar.to_string(),
        }
    }

    fn string(self, text: &str) -> String {
        let quoted = Value::String(text.to_owned()).to_string();
        match self {
            Self::SingleQuotes => {
                let inside = &quoted[1..quoted.len() - 1];
                let inside = inside.replace("\\\"", "\"").replace('\'', "\\'");
                format!("'{inside}'")
            }
            Self::RawControls => {
                let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
                format!("\"{escaped}\"")
            }
            Self::LooseEscapes => {
                // Backslashes as they are where what follows makes them no escape.
                let mut loose = String::new();
                let mut rest = quoted.as_str();
                while let Some(at) = rest.find("\\\\") {
                    let after = rest[at + 2..].chars().next();
                    let keep = after.is_some_and(|c| c.is_alphabetic() && !"bfnrtu".contains(c));
                    loose.push_str(&rest[..at]);
                    loose.push_str(if keep { "\\" } else { "\\\\" });
                    rest = &rest[at + 2..];
                }
                loose + rest
            }
            _ => quoted,
        }
    }
}

//! Reading a request's JSON object with llama-server's checks and error texts.
//!
//! Values stay raw until they are asked for: key order inside `tools` is part of the prompt.

use std::{borrow::Cow, collections::HashMap};

use serde::de::DeserializeOwned;
use serde_json::{Value, value::RawValue};

use super::errors::ApiError;

/// The top-level fields of a request body.
pub(crate) struct Fields<'a>(HashMap<Cow<'a, str>, &'a RawValue>);

impl<'a> Fields<'a> {
    /// Reads `body`. A body that is JSON but no object has no fields, as in llama-server.
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, ApiError> {
        match serde_json::from_slice::<HashMap<Cow<'a, str>, &'a RawValue>>(body) {
            Ok(fields) => Ok(Self(fields)),
            Err(error) if error.is_data() => Ok(Self(HashMap::new())),
            Err(error) => Err(ApiError::invalid(parse_error(body, &error))),
        }
    }

    /// The raw value of a field; `None` when it is missing or null.
    pub(crate) fn raw(&self, name: &str) -> Option<&'a str> {
        self.0
            .get(name)
            .map(|raw| raw.get())
            .filter(|text| *text != "null")
    }

    /// The value of a field as any JSON.
    pub(crate) fn value(&self, name: &str) -> Option<Value> {
        self.raw(name)
            .and_then(|raw| serde_json::from_str(raw).ok())
    }

    /// A field of a fixed type, or llama-server's type error.
    fn typed<T: DeserializeOwned>(&self, name: &str, wanted: &str) -> Result<Option<T>, ApiError> {
        let Some(raw) = self.raw(name) else {
            return Ok(None);
        };
        serde_json::from_str(raw).map(Some).map_err(|_| {
            ApiError::invalid(format!(
                "Field '{name}': [json.exception.type_error.302] type must be {wanted}, but is {}",
                type_name(raw)
            ))
        })
    }

    /// A number field.
    pub(crate) fn number(&self, name: &str) -> Result<Option<f64>, ApiError> {
        self.typed(name, "number")
    }

    /// A boolean field, false when missing.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, ApiError> {
        Ok(self.typed(name, "boolean")?.unwrap_or(false))
    }

    /// A whole number within bounds; fractions are cut off.
    pub(crate) fn integer(
        &self,
        name: &str,
        least: i64,
        most: i64,
    ) -> Result<Option<i64>, ApiError> {
        let Some(number) = self.number(name)? else {
            return Ok(None);
        };
        let whole = number as i64;
        if whole < least || whole > most {
            return Err(ApiError::invalid(format!(
                "Field '{name}': Value must be between {least} <= value <= {most}, but got {whole}"
            )));
        }
        Ok(Some(whole))
    }

    /// A string, or a list of strings; other values are ignored.
    pub(crate) fn strings(&self, name: &str) -> Vec<String> {
        match self.value(name) {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(many)) => many
                .iter()
                .filter_map(|value| value.as_str().map(str::to_owned))
                .collect(),
            _ => Vec::new(),
        }
    }
}

/// The type names of llama-server's JSON library, by the first byte of a value.
fn type_name(raw: &str) -> &'static str {
    match raw.as_bytes().first() {
        Some(b'"') => "string",
        Some(b'{') => "object",
        Some(b'[') => "array",
        Some(b't' | b'f') => "boolean",
        Some(b'n') => "null",
        _ => "number",
    }
}

fn parse_error(body: &[u8], error: &serde_json::Error) -> String {
    if body.is_empty() {
        return "[json.exception.parse_error.101] parse error at line 1, column 1: attempting to parse \
                an empty input; check that your input string or stream contains the expected JSON"
            .into();
    }
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or("invalid");
    format!(
        "[json.exception.parse_error.101] parse error at line {}, column {}: syntax error while parsing value - {what}",
        error.line(),
        error.column()
    )
}

/// A copy of JSON text without the white space between its tokens.
pub(crate) fn minify(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let (mut in_string, mut escaped) = (false, false);
    for c in json.chars() {
        if in_string {
            out.push(c);
            (in_string, escaped) = match c {
                _ if escaped => (true, false),
                '\\' => (true, true),
                '"' => (false, false),
                _ => (true, false),
            };
        } else if !c.is_ascii_whitespace() {
            in_string = c == '"';
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_types_and_bounds_say_what_the_real_server_says() {
        let fields =
            Fields::parse(br#"{"max_tokens":"5","stream":"yes","n":3,"stop":null}"#).unwrap();
        assert_eq!(
            fields.number("max_tokens").unwrap_err().message,
            "Field 'max_tokens': [json.exception.type_error.302] type must be number, but is string"
        );
        assert_eq!(
            fields.flag("stream").unwrap_err().message,
            "Field 'stream': [json.exception.type_error.302] type must be boolean, but is string"
        );
        assert_eq!(
            fields.integer("n", 1, 2).unwrap_err().message,
            "Field 'n': Value must be between 1 <= value <= 2, but got 3"
        );
        assert_eq!(fields.raw("stop"), None);
    }

    #[test]
    fn bodies_that_are_no_object() {
        assert!(Fields::parse(b"[1]").unwrap().raw("messages").is_none());
        assert!(Fields::parse(b"\"x\"").unwrap().raw("messages").is_none());
        let error = Fields::parse(b"{\"a\": 1").err().unwrap();
        assert_eq!(error.status, 400);
        assert!(
            error
                .message
                .starts_with("[json.exception.parse_error.101] parse error at line 1, column 7")
        );
        assert!(
            Fields::parse(b"")
                .err()
                .unwrap()
                .message
                .contains("empty input")
        );
    }

    #[test]
    fn minifying_keeps_strings_and_order() {
        assert_eq!(
            minify(r#"{ "b": "x \" y" , "a" : [ 1 , 2 ] }"#),
            r#"{"b":"x \" y","a":[1,2]}"#
        );
    }
}

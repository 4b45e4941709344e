//! What is wrong with arguments, in words for the model.

use std::fmt::{self, Write};

use jsonschema::ValidationError;
use jsonschema::error::ValidationErrorKind;
use serde_json::Value;

use super::super::clip;

/// Longest description of one violation, in bytes.
const MAX_TEXT: usize = 300;

/// One way in which arguments do not match their schema. Bounded, whatever the arguments are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// JSON pointer (RFC 6901) of the value; empty for the arguments themselves.
    pub path: String,
    /// What was expected of it.
    pub expected: String,
    /// What it is.
    pub found: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.path.is_empty() {
            "the arguments"
        } else {
            &self.path
        };
        write!(f, "{place}: {}", self.expected)?;
        if self.found.is_empty() {
            return Ok(());
        }
        write!(f, " (found {})", self.found)
    }
}

impl Violation {
    /// A violation by the arguments as a whole.
    pub(super) fn at_root(expected: &str) -> Self {
        Self {
            path: String::new(),
            expected: expected.to_owned(),
            found: String::new(),
        }
    }

    pub(super) fn of(error: &ValidationError<'_>) -> Self {
        let found = match error.kind() {
            // The value is not what is wrong: something in it is missing or too much.
            ValidationErrorKind::Required { .. }
            | ValidationErrorKind::AdditionalProperties { .. }
            | ValidationErrorKind::UnevaluatedProperties { .. } => String::new(),
            _ => describe(error.instance()),
        };
        let mut expected = bounded(&error.masked_with("the value"), MAX_TEXT);
        if let Some(cause) = closest_alternative(error) {
            let place = clip(cause.instance_path().as_str(), 100);
            let cause = bounded(&cause.masked_with("the value"), MAX_TEXT / 2);
            let place = if place.is_empty() { "there" } else { &place };
            let _ = write!(expected, "; the closest one says {place}: {cause}");
        }
        Self {
            path: clip(error.instance_path().as_str(), 160).into_owned(),
            expected,
            found,
        }
    }
}

/// Of several alternatives none of which matched: the error of the one that came furthest.
fn closest_alternative<'e>(error: &'e ValidationError<'_>) -> Option<&'e ValidationError<'static>> {
    let (ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context }) =
        error.kind()
    else {
        return None;
    };
    context
        .iter()
        .min_by_key(|errors| {
            let wrong_type = errors.iter().any(|inner| {
                matches!(inner.kind(), ValidationErrorKind::Type { .. })
                    && inner.instance_path() == error.instance_path()
            });
            (wrong_type, errors.len())
        })?
        .first()
}

/// A value in a few words.
fn describe(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{:?}", clip(text, 60)),
        Value::Array(items) => format!("an array of {}", items.len()),
        Value::Object(members) => {
            let keys: Vec<_> = members.keys().take(5).map(|key| clip(key, 30)).collect();
            format!("an object with the keys [{}]", keys.join(", "))
        }
        scalar => scalar.to_string(),
    }
}

/// `value` as text, without building more of it than is kept.
pub(super) fn bounded(value: &impl fmt::Display, limit: usize) -> String {
    struct Bounded(String, usize);
    impl Write for Bounded {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            let room = self.1.saturating_sub(self.0.len());
            self.0.push_str(&clip(text, room));
            if text.len() > room {
                return Err(fmt::Error);
            }
            Ok(())
        }
    }
    let mut out = Bounded(String::new(), limit);
    // An error only means that the text was long enough.
    let _ = write!(out, "{value}");
    out.0
}

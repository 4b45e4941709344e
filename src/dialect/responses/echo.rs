//! What an answer repeats about its request.

use serde_json::value::RawValue;

use crate::dialect::json;
use crate::turn::{AnswerForm, Extra};

/// Settings every answer has, with what stands for "not given" (OpenAI's API reference, "The
/// response object").
const SETTINGS: &[(&str, &str)] = &[
    ("background", "false"),
    ("max_output_tokens", "null"),
    ("max_tool_calls", "null"),
    ("metadata", "{}"),
    ("parallel_tool_calls", "true"),
    ("previous_response_id", "null"),
    ("prompt_cache_key", "null"),
    ("reasoning", r#"{"effort":null,"summary":null}"#),
    ("safety_identifier", "null"),
    ("service_tier", "\"default\""),
    // Nothing is stored, whatever was asked for.
    ("store", "false"),
    ("temperature", "null"),
    ("text", r#"{"format":{"type":"text"}}"#),
    ("tool_choice", "\"auto\""),
    ("top_logprobs", "0"),
    ("top_p", "null"),
    ("truncation", "\"disabled\""),
    ("user", "null"),
];

/// The same, where agents send tens of kilobytes.
const OFFER: &[(&str, &str)] = &[("instructions", "null"), ("tools", "[]")];

/// Never repeated: they say what is done here, not what was asked for.
const OWN: &[&str] = &["service_tier", "store"];

/// Collects them.
#[derive(Default)]
pub(super) struct Echo<'a> {
    given: Vec<(&'static str, &'a RawValue)>,
}

impl<'a> Echo<'a> {
    /// Note a field of the request.
    pub(super) fn note(&mut self, name: &str, value: &'a RawValue) {
        let mut known = SETTINGS.iter().chain(OFFER);
        if let Some((known, _)) = known.find(|(known, _)| *known == name)
            && !OWN.contains(known)
        {
            self.given.push((known, value));
        }
    }

    /// What the answer to this request repeats.
    pub(super) fn finish(self) -> AnswerForm {
        AnswerForm {
            settings: self.members(SETTINGS),
            offer: self.members(OFFER),
            ..AnswerForm::default()
        }
    }

    fn members(&self, known: &[(&'static str, &'static str)]) -> Extra {
        known
            .iter()
            .filter_map(|(name, default)| {
                let given = self.given.iter().rev().find(|(key, _)| key == name);
                let value = match given {
                    Some((_, value)) => json::one_line(value),
                    None => RawValue::from_string((*default).to_owned()).ok()?,
                };
                Some(((*name).to_owned(), value))
            })
            .collect()
    }
}

/// What stands for instructions and tools where repeating them is not worth it.
pub(super) fn no_offer() -> impl Iterator<Item = (&'static str, &'static RawValue)> {
    OFFER
        .iter()
        .filter_map(|(name, default)| Some((*name, serde_json::from_str(default).ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_settings_are_repeated_and_the_others_have_their_defaults() {
        let mut echo = Echo::default();
        let raw = |text: &'static str| serde_json::from_str::<&RawValue>(text).unwrap();
        echo.note("temperature", raw("0.5"));
        echo.note("store", raw("true"));
        echo.note("input", raw("\"x\""));
        echo.note("tools", raw("[\n {} ]"));
        let form = echo.finish();
        let value = |name: &str| {
            let all = form.settings.iter().chain(&form.offer);
            let found = all.into_iter().find(|(key, _)| key == name);
            found.map(|(_, value)| value.get().to_owned())
        };
        assert_eq!(
            form.settings.len() + form.offer.len(),
            SETTINGS.len() + OFFER.len()
        );
        assert_eq!(value("temperature").as_deref(), Some("0.5"));
        assert_eq!(value("store").as_deref(), Some("false"));
        assert_eq!(value("tools").as_deref(), Some("[{}]"));
        assert_eq!(value("truncation").as_deref(), Some("\"disabled\""));
        assert_eq!(value("input"), None);
        assert_eq!(no_offer().count(), 2);
    }
}

//! Sampling options among the fields that are handed on.

use bytes::BytesMut;
use serde_json::value::RawValue;

use crate::dialect::json::{self, Members, ObjectWriter};
use crate::turn::Extra;

/// A field; the last one of its name.
fn get<'a>(extra: &'a Extra, name: &str) -> Option<&'a RawValue> {
    let found = extra.iter().rev().find(|(key, _)| key == name);
    found.map(|(_, value)| &**value)
}

/// Set a field, in the place of every earlier one of its name.
pub(super) fn set(extra: &mut Extra, name: &str, value: Box<RawValue>) {
    extra.retain(|(key, _)| key != name);
    extra.push((name.to_owned(), value));
}

/// Lower the temperature to `highest`, or set it where the client names none; whether that changed
/// anything.
pub fn ceiling(extra: &mut Extra, highest: f64) -> bool {
    let asked = get(extra, "temperature");
    let asked: Option<f64> = asked.and_then(|raw| serde_json::from_str(raw.get()).ok());
    if asked.is_some_and(|asked| asked <= highest) {
        return false;
    }
    set(extra, "temperature", json::raw(&highest));
    true
}

/// Keep the model from thinking, by the switch that llama-server hands to the chat template
/// (`chat_template_kwargs`, b11434); whether that changed anything.
pub fn thinking_off(extra: &mut Extra) -> bool {
    let changed = think(extra, false);
    // The effort to think with would contradict it.
    let before = extra.len();
    let thinks = |name: &str| matches!(name, "reasoning_effort" | "thinking_budget_tokens");
    extra.retain(|(name, _)| !thinks(name));
    changed || extra.len() != before
}

/// Set the template's switch for thinking, whatever else is told to the template.
pub(super) fn think(extra: &mut Extra, on: bool) -> bool {
    const SWITCHES: &str = "chat_template_kwargs";
    const SWITCH: &str = "enable_thinking";
    let known = get(extra, SWITCHES).map(ToOwned::to_owned);
    let told: Option<Members<'_>> = known
        .as_ref()
        .and_then(|value| serde_json::from_str(value.get()).ok());
    let wanted = if on { "true" } else { "false" };
    let members = told.map_or(Vec::new(), |told| told.0);
    let now = members.iter().rev().find(|(name, _)| name == SWITCH);
    if now.is_some_and(|(_, value)| value.get() == wanted) {
        return false;
    }
    let mut out = BytesMut::new();
    let mut object = ObjectWriter::new(&mut out);
    for (name, value) in members.iter().filter(|(name, _)| name != SWITCH) {
        object.raw(name, value);
    }
    object.member(SWITCH, &on);
    object.end();
    if let Ok(value) = serde_json::from_slice::<Box<RawValue>>(&out) {
        set(extra, SWITCHES, value);
    }
    true
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::dialect::openai;
    use crate::turn::Turn;

    fn turn(more: &str) -> Turn {
        let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"a"}}]{more}}}"#);
        openai::decode(body.as_bytes()).unwrap()
    }

    #[rstest]
    #[case("", true, "0.3")]
    #[case(r#","temperature":0.8"#, true, "0.3")]
    #[case(r#","temperature":0.2"#, false, "0.2")]
    #[case(r#","temperature":0"#, false, "0")]
    fn the_temperature_has_a_ceiling(
        #[case] more: &str,
        #[case] changed: bool,
        #[case] sent: &str,
    ) {
        let mut turn = turn(more);
        assert_eq!(ceiling(&mut turn.extra, 0.3), changed);
        assert_eq!(turn.extra("temperature").unwrap().get(), sent);
    }

    #[rstest]
    #[case("", r#"{"enable_thinking":false}"#, true)]
    #[case(
        r#","chat_template_kwargs":{"enable_thinking":true,"x":[1]}"#,
        r#"{"x":[1],"enable_thinking":false}"#,
        true
    )]
    #[case(
        r#","chat_template_kwargs":{"enable_thinking":false}"#,
        r#"{"enable_thinking":false}"#,
        false
    )]
    #[case(r#","reasoning_effort":"high""#, r#"{"enable_thinking":false}"#, true)]
    fn thinking_is_switched_off_beside_other_switches(
        #[case] more: &str,
        #[case] sent: &str,
        #[case] changed: bool,
    ) {
        let mut turn = turn(more);
        assert_eq!(thinking_off(&mut turn.extra), changed);
        assert_eq!(turn.extra("chat_template_kwargs").unwrap().get(), sent);
        assert!(turn.extra("reasoning_effort").is_none());
        assert!(!thinking_off(&mut turn.extra), "once is enough");
    }
}

//! How families write calls that are JSON with the name inside.

use super::piece::Family;
use super::step::Closing;

/// How a family writes such calls.
#[derive(Debug)]
pub(super) struct JsonStyle {
    pub(super) family: Family,
    pub(super) closing: Closing,
    /// Without tags: only a call's own keys count, and damage makes it text.
    pub(super) strict: bool,
    /// The arguments must fit the tool's schema.
    pub(super) fitting: bool,
    /// An object without a name is a call when it fits the arguments of exactly one tool.
    pub(super) nameless: bool,
}

const fn tagged(family: Family, tokens: &'static [&'static str]) -> JsonStyle {
    let closing = Closing {
        tokens,
        required: true,
        last: false,
        brackets: true,
        fenced: false,
    };
    JsonStyle {
        family,
        closing,
        strict: false,
        fitting: false,
        nameless: false,
    }
}

const fn open_ended(family: Family, tokens: &'static [&'static str]) -> JsonStyle {
    let mut style = tagged(family, tokens);
    style.closing.required = false;
    style
}

const fn whole(family: Family, tokens: &'static [&'static str], fitting: bool) -> JsonStyle {
    let mut style = tagged(family, tokens);
    style.closing.required = fitting;
    style.closing.last = true;
    style.closing.brackets = false;
    style.strict = true;
    style.fitting = fitting;
    style
}

pub(super) static HERMES: JsonStyle = tagged(Family::Hermes, &["</tool_call>"]);
pub(super) static TOOL_CALLS: JsonStyle = tagged(Family::Hermes, &["</tool_calls>"]);
pub(super) static FUNCTION_CALL: JsonStyle = tagged(Family::Hermes, &["</function_call>"]);
pub(super) static NEMOTRON: JsonStyle = tagged(Family::Hermes, &["</TOOLCALL>"]);
pub(super) static GRANITE: JsonStyle = open_ended(Family::Hermes, &["<|end_of_text|>"]);
pub(super) static COMMAND_R: JsonStyle = tagged(Family::Hermes, &["<|END_ACTION|>"]);
pub(super) static PYTHON_TAG: JsonStyle = open_ended(Family::Llama, &["<|eom_id|>", "<|eot_id|>"]);
pub(super) static MISTRAL: JsonStyle = open_ended(Family::Mistral, &["[/TOOL_CALLS]", "</s>"]);
pub(super) static BARE: JsonStyle = whole(Family::Llama, &["<|eom_id|>", "<|eot_id|>"], false);
pub(super) static FENCED: JsonStyle = whole(Family::Fenced, &["```"], true);

pub(super) static FENCED_NAMELESS: JsonStyle = JsonStyle {
    nameless: true,
    ..whole(Family::Fenced, &["```"], true)
};

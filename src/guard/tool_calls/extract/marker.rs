//! The strings that may begin a tool call.

use super::headed_style::{self as headed, Headed};
use super::json_style::{self as json, JsonStyle};
use super::literal::Look;
use super::param_style::{self as params, ParamStyle};

/// A string that may begin a tool call.
#[derive(Debug)]
pub(super) struct Marker {
    pub(super) text: &'static str,
    pub(super) place: Place,
    pub(super) opens: Opens,
}

/// Where a marker counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Anywhere,
    LineStart,
    AnswerStart,
}

/// What may follow a marker.
#[derive(Clone, Copy, Debug)]
pub(super) enum Opens {
    /// JSON, `<function=`, `<invoke` or GLM's name.
    ToolCallTag,
    /// JSON with the name inside.
    Json(&'static JsonStyle),
    /// An array of calls, or a name and its arguments.
    Mistral,
    /// JSON, or `NAME.call(…)`.
    PythonTag,
    /// `[NAME(k=v)]`.
    Pythonic,
    /// `call:NAME{…}`.
    Gemma,
    /// A header with the name, then JSON; the marker itself begins the header.
    Headed(&'static Headed),
    /// The same after a section token.
    HeadedSection(&'static Headed, &'static [&'static str]),
    /// Parameter tags; the marker itself opens the call.
    Params(&'static ParamStyle),
    /// The same inside a wrapper tag.
    ParamsSection(&'static [&'static ParamStyle]),
}

use Opens::{HeadedSection, Json, Params, ParamsSection};
use Place::{AnswerStart, Anywhere, LineStart};

const fn any(text: &'static str, opens: Opens) -> Marker {
    Marker {
        text,
        place: Anywhere,
        opens,
    }
}

const fn at(place: Place, text: &'static str, opens: Opens) -> Marker {
    Marker { text, place, opens }
}

const DEEPSEEK_CALL: &[&str] = &["<｜tool▁call▁begin｜>", "<｜tool_call_begin｜>"];
const KIMI_CALL: &[&str] = &["<|tool_call_begin|>"];

/// No text is a beginning of another, so the first match is the only one.
pub(super) static MARKERS: &[Marker] = &[
    any("<tool_call>", Opens::ToolCallTag),
    any("<tool_calls>", Json(&json::TOOL_CALLS)),
    any("<function_call>", Json(&json::FUNCTION_CALL)),
    any("<TOOLCALL>", Json(&json::NEMOTRON)),
    any("<|tool_call|>", Json(&json::GRANITE)),
    any("<|START_ACTION|>", Json(&json::COMMAND_R)),
    any("<function=", Params(&params::QWEN)),
    any("<function name=\"", Params(&params::MINICPM)),
    any("<|tool_call>", Opens::Gemma),
    any("<|python_tag|>", Opens::PythonTag),
    any("<|tool_call_start|>", Opens::Pythonic),
    any("[TOOL_CALLS]", Opens::Mistral),
    any(
        "<｜tool▁calls▁begin｜>",
        HeadedSection(&headed::DEEPSEEK, DEEPSEEK_CALL),
    ),
    any(
        "<｜tool_calls_begin｜>",
        HeadedSection(&headed::DEEPSEEK, DEEPSEEK_CALL),
    ),
    any("<｜tool▁call▁begin｜>", Opens::Headed(&headed::DEEPSEEK)),
    any("<｜tool_call_begin｜>", Opens::Headed(&headed::DEEPSEEK)),
    any("<｜DSML｜function_calls>", ParamsSection(&[&params::DSML])),
    any("<｜DSML｜tool_calls>", ParamsSection(&[&params::DSML])),
    any("<｜DSML｜invoke name=\"", Params(&params::DSML)),
    any(
        "<|tool_calls_section_begin|>",
        HeadedSection(&headed::KIMI, KIMI_CALL),
    ),
    any("<|tool_call_begin|>", Opens::Headed(&headed::KIMI)),
    any("<minimax:tool_call>", ParamsSection(&[&params::MINIMAX])),
    any("<function_calls>", ParamsSection(&[&params::INVOKE])),
    any("<invoke name=\"", Params(&params::INVOKE)),
    any(
        concat!("<", "antml:function_calls>"),
        ParamsSection(&[&params::INVOKE_NAMESPACED, &params::INVOKE]),
    ),
    any(
        concat!("<", "antml:invoke name=\""),
        Params(&params::INVOKE_NAMESPACED),
    ),
    any("<|channel|>", Opens::Headed(&headed::HARMONY)),
    any("<|start|>assistant", Opens::Headed(&headed::HARMONY)),
    at(LineStart, ">>>", Opens::Headed(&headed::FUNCTIONARY)),
    at(
        AnswerStart,
        "to=functions.",
        Opens::Headed(&headed::HARMONY_START),
    ),
    at(AnswerStart, "{", Json(&json::BARE)),
    at(AnswerStart, "```json", Json(&json::FENCED)),
];

/// The marker at the start of `rest`, given what is true of the place.
pub(super) fn find(
    rest: &str,
    line_start: bool,
    answer_start: bool,
    ended: bool,
) -> Result<&'static Marker, Look> {
    let bytes = rest.as_bytes();
    let second = bytes.get(1).is_none_or(|byte| SECOND[*byte as usize]);
    if !second && !answer_start {
        return Err(Look::No);
    }
    let mut partial = false;
    for marker in MARKERS {
        let text = marker.text.as_bytes();
        let (Some(first), Some(second)) = (bytes.first(), text.get(1)) else {
            if bytes.first() == text.first() && answer_start {
                return Ok(marker);
            }
            continue;
        };
        if *first != text[0] || bytes.get(1).is_some_and(|byte| byte != second) {
            continue;
        }
        let counts = match marker.place {
            Anywhere => true,
            LineStart => line_start || answer_start,
            AnswerStart => answer_start,
        };
        if !counts {
            continue;
        }
        if bytes.starts_with(text) {
            return Ok(marker);
        }
        partial |= text.starts_with(bytes);
    }
    Err(if partial && !ended {
        Look::Partial
    } else {
        Look::No
    })
}

/// Second bytes of markers: most text that begins like one is told apart by them.
static SECOND: [bool; 256] = {
    let mut table = [false; 256];
    let mut index = 0;
    while index < MARKERS.len() {
        let text = MARKERS[index].text.as_bytes();
        if text.len() > 1 {
            table[text[1] as usize] = true;
        }
        index += 1;
    }
    table
};

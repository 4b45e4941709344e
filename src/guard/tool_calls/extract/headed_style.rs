//! How families write calls whose name stands before the JSON of the arguments.

use super::piece::Family;
use super::step::Closing;

/// How a family writes such calls: header, separator, arguments.
#[derive(Debug)]
pub(super) struct Headed {
    pub(super) family: Family,
    pub(super) separators: &'static [&'static str],
    /// The name in a header; none when it is no header of a call.
    pub(super) name: fn(&str) -> Option<&str>,
    /// Arguments may stand in a code fence.
    pub(super) fenced: bool,
    pub(super) closing: Closing,
}

const fn optional(tokens: &'static [&'static str]) -> Closing {
    Closing {
        tokens,
        required: false,
        last: false,
        brackets: true,
        fenced: false,
    }
}

pub(super) static DEEPSEEK: Headed = Headed {
    family: Family::DeepSeek,
    separators: &["<｜tool▁sep｜>", "<｜tool_sep｜>"],
    name: plain_name,
    fenced: true,
    closing: optional(&[
        "<｜tool▁call▁end｜>",
        "<｜tool▁calls▁end｜>",
        "<｜tool_call_end｜>",
        "<｜tool_calls_end｜>",
        "<｜end▁of▁sentence｜>",
    ]),
};

pub(super) static KIMI: Headed = Headed {
    family: Family::Kimi,
    separators: &["<|tool_call_argument_begin|>"],
    name: kimi_name,
    fenced: false,
    closing: optional(&[
        "<|tool_call_end|>",
        "<|tool_calls_section_end|>",
        "<|im_end|>",
    ]),
};

pub(super) static HARMONY: Headed = harmony(harmony_name);

/// The generation prompt ended in `<|start|>assistant`, so the recipient comes first.
pub(super) static HARMONY_START: Headed = harmony(harmony_recipient);

const fn harmony(name: fn(&str) -> Option<&str>) -> Headed {
    Headed {
        family: Family::Harmony,
        separators: &["<|message|>"],
        name,
        fenced: false,
        closing: optional(&["<|call|>", "<|end|>"]),
    }
}

pub(super) static FUNCTIONARY: Headed = Headed {
    family: Family::Functionary,
    separators: &["\n"],
    name: functionary_name,
    fenced: false,
    closing: optional(&["<|eot_id|>"]),
};

pub(super) static MISTRAL_NAMED: Headed = Headed {
    family: Family::Mistral,
    separators: &["[ARGS]", "{"],
    name: mistral_name,
    fenced: false,
    closing: optional(&["[/TOOL_CALLS]", "</s>"]),
};

fn plain_name(header: &str) -> Option<&str> {
    Some(header.trim())
}

/// Python's prompt has a space after its brackets.
fn functionary_name(header: &str) -> Option<&str> {
    (!header.starts_with([' ', '\t'])).then(|| header.trim_end())
}

/// `functions.NAME:INDEX`.
fn kimi_name(header: &str) -> Option<&str> {
    let header = header.trim();
    let header = header.strip_prefix("functions.").unwrap_or(header);
    Some(match header.rsplit_once(':') {
        Some((name, index)) if index.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => header,
    })
}

/// `to=functions.NAME` in the header of a role or a channel.
fn harmony_name(header: &str) -> Option<&str> {
    let (_, recipient) = header.split_once("to=functions.")?;
    harmony_recipient(recipient)
}

fn harmony_recipient(recipient: &str) -> Option<&str> {
    recipient.split([' ', '<', '\t']).next()
}

/// `NAME` or `NAME[CALL_ID]id`.
fn mistral_name(header: &str) -> Option<&str> {
    header.trim().split("[CALL_ID]").next()
}

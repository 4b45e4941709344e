//! The tags of the families that give every parameter a tag of its own.

use super::literal::{MAX_HEADER, floor, is_name_byte, skip_space};
use super::piece::Family;
use super::step::Closing;

/// How a family writes calls and parameters.
#[derive(Debug)]
pub(super) struct ParamStyle {
    pub(super) family: Family,
    /// Opens a call; the name follows.
    pub(super) open: &'static str,
    pub(super) naming: Naming,
    /// Opens a parameter; the key follows.
    pub(super) param: &'static str,
    /// What a value that shows such calls opens a parameter with.
    pub(super) nested: &'static str,
    /// Closes a parameter.
    pub(super) close: &'static str,
    /// Closes the call.
    pub(super) end: &'static str,
    /// What else shows that the call is over: closing tags around it, the next call.
    pub(super) outer: &'static [&'static str],
    /// A line break on either side of a value is not part of it.
    pub(super) framed: bool,
    /// A JSON object may stand in place of the parameters.
    pub(super) json: bool,
    pub(super) closing: Closing,
}

/// How names and keys are delimited.
#[derive(Clone, Copy, Debug)]
pub(super) enum Naming {
    /// `<function=NAME>`, `<parameter=KEY>`.
    Equals,
    /// `<invoke name="NAME">`, `<parameter name="KEY">`.
    Quoted,
    /// `NAME`, `<arg_key>KEY</arg_key><arg_value>`.
    Tagged,
}

impl Naming {
    /// The name at the start of `rest`, and where it ends.
    pub(super) fn name(self, rest: &str) -> Option<(&str, usize)> {
        match self {
            Self::Tagged => {
                let length = name_length(rest);
                (length < rest.len()).then(|| (&rest[..length], length))
            }
            _ => {
                let (name, _, after) = self.key(rest)?;
                Some((name, after))
            }
        }
    }

    /// Whether more text may make a name of `rest`.
    pub(super) fn may_become_name(self, rest: &str) -> bool {
        match self {
            Self::Tagged => name_length(rest) == rest.len(),
            _ => self.may_become_key(rest),
        }
    }

    /// Whether more text may make a key of `rest`.
    pub(super) fn may_become_key(self, rest: &str) -> bool {
        if !matches!(self, Self::Tagged) {
            return !rest.contains(['<', '>', '\n']);
        }
        let (key, tags) = rest.split_at(rest.find('<').unwrap_or(rest.len()));
        let value = tags.strip_prefix("</arg_key>");
        let value = value.map(|tags| "<arg_value>".starts_with(&tags[skip_space(tags, 0)..]));
        !key.trim().contains('\n') && value.unwrap_or("</arg_key>".starts_with(tags))
    }

    /// The key at the start of `rest`, its tag's other attributes, and where the value begins.
    pub(super) fn key(self, rest: &str) -> Option<(&str, &str, usize)> {
        let head = &rest[..floor(rest, 2 * MAX_HEADER)];
        match self {
            Self::Equals => {
                let end = tag_end(head)?;
                let key = head[..end].trim().trim_matches(['"', '\'']);
                valid(key).then_some((key, "", end + 1))
            }
            Self::Quoted => {
                let end = tag_end(head)?;
                let quote = head[..end].find('"')?;
                let key = &head[..quote];
                valid(key).then_some((key, &head[quote..end], end + 1))
            }
            Self::Tagged => {
                let end = head.find("</arg_key>")?;
                let value = skip_space(head, end + "</arg_key>".len());
                let opened = head[value..].starts_with("<arg_value>");
                let key = head[..end].trim();
                (opened && valid(key)).then_some((key, "", value + "<arg_value>".len()))
            }
        }
    }
}

/// Where the tag that `head` stands in is closed, on its line.
fn tag_end(head: &str) -> Option<usize> {
    let end = head.find(['>', '<', '\n'])?;
    head[end..].starts_with('>').then_some(end)
}

fn valid(key: &str) -> bool {
    !key.is_empty() && key.len() <= MAX_HEADER && !key.contains(['\n', '<', '>'])
}

fn name_length(rest: &str) -> usize {
    let length = rest.bytes().take_while(|byte| is_name_byte(*byte)).count();
    length.min(floor(rest, MAX_HEADER))
}

const fn closed_by(tokens: &'static [&'static str]) -> Closing {
    Closing {
        tokens,
        required: false,
        last: false,
        brackets: false,
        fenced: false,
    }
}

pub(super) static QWEN: ParamStyle = ParamStyle {
    family: Family::QwenCoder,
    open: "<function=",
    naming: Naming::Equals,
    param: "<parameter=",
    nested: "<parameter=",
    close: "</parameter>",
    end: "</function>",
    outer: &["</tool_call>", "<tool_call>", "<function="],
    framed: true,
    json: true,
    closing: closed_by(&["</tool_call>", "</function>"]),
};

pub(super) static MINICPM: ParamStyle = ParamStyle {
    open: "<function name=\"",
    naming: Naming::Quoted,
    param: "<param name=\"",
    nested: "<param name=\"",
    close: "</param>",
    outer: &["<function name=\""],
    framed: false,
    json: false,
    family: Family::Invoke,
    end: "</function>",
    closing: closed_by(&[]),
};

pub(super) static GLM: ParamStyle = ParamStyle {
    family: Family::Glm,
    open: "<tool_call>",
    naming: Naming::Tagged,
    param: "<arg_key>",
    nested: "<arg_value>",
    close: "</arg_value>",
    end: "</tool_call>",
    outer: &["<tool_call>", "</tool_call>"],
    framed: false,
    json: true,
    closing: closed_by(&["</tool_call>"]),
};

const fn invoke(
    family: Family,
    outer: &'static [&'static str],
    closing: &'static [&'static str],
) -> ParamStyle {
    ParamStyle {
        family,
        open: "<invoke name=\"",
        naming: Naming::Quoted,
        param: "<parameter name=\"",
        nested: "<parameter name=\"",
        close: "</parameter>",
        end: "</invoke>",
        outer,
        framed: false,
        json: false,
        closing: closed_by(closing),
    }
}

pub(super) static INVOKE: ParamStyle = invoke(
    Family::Invoke,
    &["</function_calls>", "</tool_call>", "<invoke name=\""],
    &["</function_calls>", "</tool_call>"],
);

pub(super) static MINIMAX: ParamStyle = invoke(
    Family::MiniMax,
    &["</minimax:tool_call>", "<invoke name=\""],
    &["</minimax:tool_call>"],
);

pub(super) static INVOKE_NAMESPACED: ParamStyle = ParamStyle {
    open: concat!("<", "antml:invoke name=\""),
    naming: Naming::Quoted,
    param: concat!("<", "antml:parameter name=\""),
    nested: concat!("<", "antml:parameter name=\""),
    close: concat!("</", "antml:parameter>"),
    end: concat!("</", "antml:invoke>"),
    outer: &[
        concat!("</", "antml:function_calls>"),
        concat!("<", "antml:invoke name=\""),
    ],
    framed: false,
    json: false,
    family: Family::Invoke,
    closing: closed_by(&[concat!("</", "antml:function_calls>")]),
};

pub(super) static DSML: ParamStyle = ParamStyle {
    open: "<｜DSML｜invoke name=\"",
    naming: Naming::Quoted,
    param: "<｜DSML｜parameter name=\"",
    nested: "<｜DSML｜parameter name=\"",
    close: "</｜DSML｜parameter>",
    end: "</｜DSML｜invoke>",
    outer: &[
        "</｜DSML｜function_calls>",
        "</｜DSML｜tool_calls>",
        "<｜DSML｜invoke name=\"",
    ],
    framed: false,
    json: false,
    family: Family::DeepSeek,
    closing: closed_by(&["</｜DSML｜function_calls>", "</｜DSML｜tool_calls>"]),
};

//! Remains of a tool call, or of the text around one, where no call can be read.

use super::literal::{Look, look, skip_space};

/// Ends of calls and of what clients and templates put around messages. Each may stand for a leak
/// where nothing that it could end was shown.
const ENDS: &[&str] = &[
    "</tool_call>",
    "</tool_calls>",
    "</function_call>",
    "</function_calls>",
    "</function>",
    "</parameter>",
    "</invoke>",
    concat!("</", "antml:invoke>"),
    concat!("</", "antml:parameter>"),
    concat!("</", "antml:function_calls>"),
    "</arg_key>",
    "</arg_value>",
    "</TOOLCALL>",
    "</minimax:tool_call>",
    "<tool_call|>",
    "<|tool_call_end|>",
    "<|tool_calls_section_end|>",
    "<｜tool▁call▁end｜>",
    "<｜tool▁calls▁end｜>",
    "</tool_response>",
    "</system-reminder>",
    "</agentic-protocol>",
];

/// What begins in the middle of a call, or echoes what was never meant to be said.
const BEGINNINGS: &[&str] = &[
    "<parameter=",
    "<tool_response>",
    "<system-reminder>",
    "<agentic-protocol>",
];

/// XML of other kinds, which has the same ends.
const OTHERS: &[&str] = &["<parameter name=", "<parameter>", "<function>", "<invoke>"];

/// White space after remains that may be held while waiting for what follows.
const MAX_HELD: usize = 64;

/// What a text begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leftover {
    /// More text decides.
    More,
    /// Remains, up to here.
    End(usize),
    /// The beginning of something of which the like is an end, and not remains.
    Sample,
    /// Nothing of the kind, or a text that talks about it.
    No,
}

/// What stands before it on its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    Nothing,
    /// Prose, and a blank.
    Word,
    /// Prose, without a blank.
    Attached,
}

/// Look for remains at the start of `rest`. Beginnings count at the start of a line; ends count when
/// nothing else is on their line, or when they are stuck to the end of the answer.
pub(super) fn read(rest: &str, after: After, ended: bool) -> Leftover {
    let line_start = after == After::Nothing;
    match look(rest, OTHERS, ended) {
        Look::At(_) => return Leftover::Sample,
        Look::Partial => return Leftover::More,
        Look::No if after == After::Word => return Leftover::No,
        Look::No => {}
    }
    if line_start {
        match look(rest, BEGINNINGS, ended) {
            Look::At(index) => return Leftover::End(BEGINNINGS[index].len()),
            Look::Partial => return Leftover::More,
            Look::No => {}
        }
    }
    let mut at = 0;
    loop {
        let next = skip_space(rest, at);
        let (from, alone) = match at {
            0 => (0, false),
            _ => (next, line_start && rest[at..next].contains('\n')),
        };
        match look(&rest[from..], ENDS, ended) {
            _ if alone => return Leftover::End(at),
            Look::At(index) => at = from + ENDS[index].len(),
            Look::Partial if from - at < MAX_HELD => return Leftover::More,
            Look::No if at > 0 && next == rest.len() => return Leftover::End(next),
            Look::Partial | Look::No => return Leftover::No,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::After::{Attached, Nothing, Word};
    use super::*;

    #[test]
    fn remains_stand_alone_or_last() {
        let read = |text: &str, after| read(text, after, true);
        assert_eq!(read("</parameter>", Nothing), Leftover::End(12));
        assert_eq!(
            read("</parameter>\n</function>\n", Attached),
            Leftover::End(25)
        );
        assert_eq!(read("</tool_call>\nand more", Nothing), Leftover::End(12));
        assert_eq!(read("</tool_call>\nand more", Attached), Leftover::No);
        assert_eq!(read("</tool_call>", Word), Leftover::No);
        assert_eq!(read("</tool_call> closes a call", Nothing), Leftover::No);
        assert_eq!(read("<parameter=path>", Nothing), Leftover::End(11));
        assert_eq!(read("<parameter=path>", Attached), Leftover::No);
        assert_eq!(read("<parameter name=\"x\">", Word), Leftover::Sample);
        assert_eq!(read("</div>", Nothing), Leftover::No);
        assert_eq!(read("</para", Nothing), Leftover::No);
    }

    #[test]
    fn a_text_under_way_is_waited_for() {
        for text in [
            "<",
            "</para",
            "</parameter>",
            "</parameter> ",
            "</parameter></fun",
        ] {
            assert_eq!(read(text, Nothing, false), Leftover::More, "{text}");
        }
        let spaces = format!("</parameter>{}", " ".repeat(100));
        assert_eq!(read(&spaces, Nothing, false), Leftover::No, "not for ever");
    }
}

//! An unexpected end of turn: the model announces an action, and stops without one.
//!
//! Agents wait for the human then, who finds "Let me check the file:" and nothing else. Asking once
//! more costs a generation, and asking about a finished answer would be an annoyance, so only what
//! can hardly mean anything else counts: the last sentence is about what the model does next, now, by
//! itself, and with a tool. Languages other than English are left alone.

/// Longest last line that is looked at, in bytes.
const MAX_LINE: usize = 300;

/// What the model does next.
const OPENINGS: &[&str] = &[
    "let me ",
    "let's ",
    "i'll ",
    "i will ",
    "i'm going to ",
    "i am going to ",
    "i need to ",
];

/// What may stand before that.
const BEFORE: &[&str] = &[
    "now ",
    "now, ",
    "next ",
    "next, ",
    "first ",
    "first, ",
    "then ",
    "then, ",
    "ok, ",
    "okay, ",
    "great, ",
    "good, ",
    "great! ",
    "good! ",
    "perfect! ",
    "alright, ",
    "so ",
    "finally, ",
];

/// What may stand between that and the verb.
const BETWEEN: &[&str] = &[
    "now ",
    "first ",
    "start by ",
    "begin by ",
    "also ",
    "quickly ",
    "just ",
    "try to ",
    "next ",
    "then ",
    "go ahead and ",
    "take a ",
    "have a ",
];

/// Work that takes a tool, by the beginnings of its verbs.
const WORK: &[&str] = &[
    "add",
    "apply",
    "build",
    "call",
    "change",
    "check",
    "compil",
    "creat",
    "delet",
    "edit",
    "examin",
    "execut",
    "explor",
    "fetch",
    "find",
    "fix",
    "grep",
    "implement",
    "inspect",
    "install",
    "investigat",
    "list",
    "look",
    "modify",
    "open",
    "read",
    "refactor",
    "remov",
    "renam",
    "replac",
    "rerun",
    "re-run",
    "run",
    "scan",
    "search",
    "test",
    "trac",
    "try",
    "updat",
    "use",
    "verify",
    "view",
    "writ",
];

/// Words that make it an offer, a condition, a report or a farewell.
const NOT: &[&str] = &[
    " if ",
    " once ",
    " when ",
    " whenever ",
    " after you",
    " until ",
    " unless ",
    " you ",
    " your ",
    " later",
    " wait",
    " shall ",
    " should ",
    " would ",
    " could ",
    " know ",
    " tomorrow",
    " in the future",
    " please",
    " instead",
    " not ",
    "n't ",
    " above",
    " already",
];

/// Whether `said`, a whole answer without a tool call, ends with the announcement of one. `working`
/// says that the model has used tools just before: then a full stop will do for a colon.
pub fn announces(said: &str, working: bool) -> bool {
    let said = said.trim_end();
    let line = said.rsplit('\n').next().unwrap_or_default();
    if line.len() > MAX_LINE || line.contains('?') {
        return false;
    }
    let lower = line.to_lowercase().replace('\u{2019}', "'");
    let body = lower.trim_end_matches(['.', ':', '\u{2026}']);
    let ending = &lower[body.len()..];
    let ends = match ending.chars().next() {
        Some(':' | '\u{2026}') => true,
        Some('.') => ending.len() >= 3 || working,
        _ => false,
    };
    // A list item or a heading is part of a plan or a report.
    ends && !line.starts_with(['-', '*', '#', '>', '|', ' ', '\t'])
        && is_next_step(last_sentence(body))
}

fn last_sentence(body: &str) -> &str {
    let at = [". ", "! ", "? ", ": "]
        .iter()
        .filter_map(|end| body.rfind(end).map(|at| at + end.len()))
        .max();
    &body[at.unwrap_or(0)..]
}

fn is_next_step(sentence: &str) -> bool {
    let padded = format!(" {sentence} ");
    if NOT.iter().any(|word| padded.contains(word)) {
        return false;
    }
    let mut rest = sentence.trim_start();
    while let Some(after) = strip(rest, BEFORE) {
        rest = after;
    }
    let Some(mut rest) = strip(rest, OPENINGS) else {
        return false;
    };
    while let Some(after) = strip(rest, BETWEEN) {
        rest = after;
    }
    WORK.iter().any(|verb| rest.starts_with(verb))
}

fn strip<'t>(text: &'t str, beginnings: &[&str]) -> Option<&'t str> {
    beginnings.iter().find_map(|start| text.strip_prefix(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announcements_without_an_action() {
        for said in [
            "Let me check the file:",
            "I found the problem.\n\nNow let me update the parser:",
            "Good, the tests pass. Now I'll run the linter:",
            "I'll start by reading the configuration...",
            "Let\u{2019}s look at the failing test:",
            "OK, I'm going to fix it now. First, let me open src/main.rs:",
            "Let me first examine the directory structure\u{2026}",
        ] {
            assert!(announces(said, false), "{said}");
        }
        for said in [
            "The build fails. Let me look at the log.",
            "That did not help. I will now try to install the package.",
            "I need to check the other callers.",
            "Next, I'll implement the second half.",
        ] {
            assert!(announces(said, true), "{said}");
            assert!(!announces(said, false), "{said}: nothing has been done yet");
        }
    }

    /// Final answers, questions, offers, plans: one generation, whatever they look like.
    #[test]
    fn final_answers_are_final() {
        for said in [
            "",
            "Done.",
            "The bug is fixed. All 42 tests pass.",
            "I have updated the parser, and ran the tests.",
            "Let me know if anything else comes up.",
            "Let me know which of these you prefer:",
            "I'll wait for your answer.",
            "I'll be here.",
            "I will not change the file.",
            "If you agree, I'll run the migration.",
            "Once the build is green, I'll create the release.",
            "I'll run the tests once you have installed node.",
            "Should I run the tests?",
            "Shall I go on? I'll then write the tests.",
            "Would you like me to fix it? I can do it now.",
            "I'll fix that after you confirm.",
            "I'd run the tests first.",
            "To see it, run `make test`:",
            "Here is the plan:\n- I'll read the file.\n- I'll fix the bug.",
            "The steps are:\n1. read the file\n2. let me check:\n\nThat is it.",
            "You can now run the tests:",
            "The relevant lines are:",
            "As I said: let me explain the idea.",
            "Let me explain how it works:",
            "Let me summarize:",
            "Let me be clear: this is not a bug.",
            "I will use tabs instead.",
            "I'll keep this in mind for the future.",
            "I will check back later.",
            "```\nlet me check:\n```",
            "Ich schaue mir die Datei an:",
            "> let me check the file:",
            "The user says \"let me check the file:\"",
            "I'll read it when it's ready.",
            "I will add that as you wish, your call.",
            "Let's see what the reviewers say.",
            "Let me think about it.",
            "I can run the tests.",
            "What I did: read the file, fix the bug, run the tests.",
            "Next steps: add tests, update the docs.",
        ] {
            for working in [false, true] {
                assert!(!announces(said, working), "{said}");
            }
        }
    }
}

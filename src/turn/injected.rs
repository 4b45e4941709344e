//! Text that an agent program puts into its user's mouth.

/// Elements agents wrap around text that no human wrote: reminders, the state of the machine, project
/// instructions, the output of local commands (Claude Code, Codex, Cline, Copilot).
const WRAPPERS: &[&str] = &[
    "INSTRUCTIONS",
    "environment_context",
    "environment_details",
    "environment_info",
    "ide_diagnostics",
    "ide_opened_file",
    "ide_selection",
    "local-command-caveat",
    "local-command-stderr",
    "local-command-stdout",
    "new-diagnostics",
    "system-reminder",
    "system_reminder",
    "task-notification",
    "turn_aborted",
    "user-prompt-submit-hook",
    "user_instructions",
    "workspace_info",
];

/// The heading Codex writes above a project's instructions.
const INSTRUCTIONS_HEADING: &str = "# AGENTS.md instructions";

/// How clients begin a conversation that continues one they have summarised (Claude Code, Codex).
const SUMMARIES: &[&str] = &[
    "This session is being continued from a previous conversation",
    "Another language model started to solve this problem",
];

/// Whether a user's `text` is the client's own summary of what went before.
pub fn is_summary(text: &str) -> bool {
    SUMMARIES.iter().any(|words| text.starts_with(words))
}

/// What a human may have written of a user's `text`: injected elements at its beginning and end are
/// left out, and white space around it. Empty when nothing is left. An element that is never closed
/// is text.
pub fn human_text(text: &str) -> &str {
    let mut text = text.trim();
    while let Some(rest) = after_leading(text) {
        text = rest.trim_start();
    }
    while let Some(rest) = before_trailing(text) {
        text = rest.trim_end();
    }
    text
}

fn after_leading(text: &str) -> Option<&str> {
    let element = match text.strip_prefix(INSTRUCTIONS_HEADING) {
        Some(heading) => heading[heading.find('\n')?..].trim_start(),
        None => text,
    };
    let tag = element.strip_prefix('<')?;
    let name = WRAPPERS.iter().find(|name| opens(tag, name))?;
    let close = format!("</{name}>");
    let end = tag.find(&close)?;
    Some(&tag[end + close.len()..])
}

fn before_trailing(text: &str) -> Option<&str> {
    let before = text.strip_suffix('>')?;
    let close = before.rfind("</")?;
    let name = &before[close + 2..];
    if !WRAPPERS.contains(&name) {
        return None;
    }
    let open = format!("<{name}");
    let mut candidates = before[..close].rmatch_indices(&open);
    let (start, _) = candidates.find(|(start, _)| opens(&text[start + 1..], name))?;
    Some(&text[..start])
}

/// Whether `tag`, what follows a `<`, opens the element `name`.
fn opens(tag: &str, name: &str) -> bool {
    tag.strip_prefix(name)
        .is_some_and(|rest| rest.starts_with(['>', ' ', '\n']))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("  fix it\n", "fix it")]
    #[case("<system-reminder>\nday: 1\n</system-reminder>\n fix it", "fix it")]
    #[case(
        "<system-reminder>a</system-reminder><ide_selection x=\"1\">b</ide_selection>c",
        "c"
    )]
    #[case(
        "fix it\n\n<environment_details>\ncwd\n</environment_details>",
        "fix it"
    )]
    #[case("<environment_context>a</environment_context>", "")]
    #[case(
        "# AGENTS.md instructions for /p\n\n<INSTRUCTIONS>\nx\n</INSTRUCTIONS>",
        ""
    )]
    #[case(
        "# AGENTS.md instructions are wrong, fix them",
        "# AGENTS.md instructions are wrong, fix them"
    )]
    #[case("<system-reminder>never closed", "<system-reminder>never closed")]
    #[case(
        "<system-reminders>x</system-reminders>",
        "<system-reminders>x</system-reminders>"
    )]
    #[case(
        "what does <system-reminder>a</system-reminder> mean?",
        "what does <system-reminder>a</system-reminder> mean?"
    )]
    #[case("why </system-reminder>", "why </system-reminder>")]
    #[case("<div>a</div>", "<div>a</div>")]
    fn only_what_a_human_may_have_written_is_left(#[case] text: &str, #[case] human: &str) {
        assert_eq!(human_text(text), human);
    }
}

//! The working directory, as clients tell it to their models.

use crate::turn::{Message, Part, Role};

/// What stands before it: Claude Code, OpenCode, Codex, Cline, Qwen Code, Forge.
const MARKS: &[&str] = &[
    "Primary working directory: ",
    "Working directory: ",
    "working directory is: ",
    "working in the directory: ",
    "<cwd>",
    "<current_working_directory>",
    "Current Working Directory (",
    "Current working directory: ",
];

/// Messages that are looked into: environments are told at the beginning.
const FIRST: usize = 6;

/// The working directory a conversation names at its beginning, absolute.
pub fn stated_root(messages: &[Message]) -> Option<String> {
    let told = messages.iter().take(FIRST);
    let told = told.filter(|message| matches!(message.role(), Role::System | Role::User));
    let texts = told.flat_map(Message::parts).filter_map(|part| match part {
        Part::Text(text) => Some(text.as_str()),
        _ => None,
    });
    texts
        .into_iter()
        .find_map(|text| MARKS.iter().find_map(|mark| after(text, mark)))
}

fn after(text: &str, mark: &str) -> Option<String> {
    let rest = &text[text.find(mark)? + mark.len()..];
    let end = rest.find(['\n', '<', ')', '`', '"']).unwrap_or(rest.len());
    let path = rest[..end].trim();
    path.starts_with('/').then(|| super::path::normalize(path))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("<env>\nWorking directory: /home/a/p\nIs git: yes")]
    #[case(" - Primary working directory: /home/a/p\n")]
    #[case("<environment_context>\n  <cwd>/home/a/p</cwd>")]
    #[case("# Current Working Directory (/home/a/p) Files")]
    #[case("I'm currently working in the directory: /home/a/p\n")]
    #[case("<current_working_directory>/home/a/p</current_working_directory>")]
    fn clients_say_where_they_work(#[case] text: &str) {
        let messages = [Message::text(Role::System, text)];
        assert_eq!(stated_root(&messages).as_deref(), Some("/home/a/p"));
        assert_eq!(stated_root(&[Message::text(Role::Assistant, text)]), None);
    }
}

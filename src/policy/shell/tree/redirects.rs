//! Redirections: what commands read, which files they write, and which words are theirs.

use tree_sitter::Node;

use super::{MISREAD, Walk};
use crate::policy::shell::word::Word;
use crate::policy::shell::{Command, Stdin};

impl Walk<'_> {
    pub(super) fn redirected(&mut self, node: Node<'_>, stdin: &Stdin) {
        let mut cursor = node.walk();
        let children: Vec<Node<'_>> = node.named_children(&mut cursor).collect();
        let apart = |pair: &[Node<'_>]| self.is_new_line(pair[0].end_byte(), pair[1]);
        if children.windows(2).any(apart) {
            self.script.unknown(MISREAD);
        }
        let mut input = stdin.clone();
        let mut writes = Vec::new();
        let mut more = Vec::new();
        for redirect in &children {
            self.redirect(*redirect, &mut input, &mut writes, &mut more);
        }
        for child in &children {
            match child.kind() {
                "file_redirect" | "herestring_redirect" => self.sequence(*child, stdin),
                "heredoc_redirect" => self.behind_heredoc(*child),
                _ => self.body(*child, (stdin, &input), &mut writes, &more),
            }
        }
        // `> file program word`: the grammar takes all of it for the redirection.
        let is_alone = children
            .iter()
            .all(|child| child.kind().ends_with("_redirect"));
        if is_alone && !more.is_empty() {
            let mut command = Command::new(std::mem::take(&mut more), self.cwd.clone());
            (command.stdin, command.writes) = (input, std::mem::take(&mut writes));
            self.complete(command);
        }
        if !writes.is_empty() {
            let mut command = Command::new(vec![Word::fixed(":")], self.cwd.clone());
            command.writes = writes;
            self.script.commands.push(command);
        }
    }

    /// What is redirected, and reads the second of the two instead of the first.
    fn body(
        &mut self,
        node: Node<'_>,
        (stdin, input): (&Stdin, &Stdin),
        writes: &mut Vec<Word>,
        more: &Vec<Word>,
    ) {
        match node.kind() {
            "command" => self.command(node, input, std::mem::take(writes), Some(more)),
            // The last command of a list or pipeline is the one redirected.
            "pipeline" => self.stages(
                node,
                stdin,
                &mut |walk, stage, from, is_last| match is_last {
                    true => {
                        let input = if input == stdin { from } else { input };
                        walk.body(stage, (from, input), writes, more);
                    }
                    false => walk.node(stage, from),
                },
            ),
            "list" => self.children(node, |walk, part, is_last| match is_last {
                true => {
                    walk.begun.clone_from(&walk.cwd);
                    walk.body(part, (stdin, input), writes, more);
                }
                false => walk.node(part, stdin),
            }),
            _ => {
                self.belongs_to_nobody(more);
                let first = self.script.commands.len();
                self.node(node, input);
                // The output of a group goes where the group's goes.
                if let Some(command) = self.script.commands.get_mut(first) {
                    command.writes.append(writes);
                }
            }
        }
    }

    /// Words behind a redirection whose command is not known.
    fn belongs_to_nobody(&mut self, more: &[Word]) {
        if !more.is_empty() {
            self.script.unknown("words follow a redirection");
        }
    }

    /// What one redirection means: input, files written, and words that belong to the command. (The grammar takes
    /// every word behind the operator for a destination; the shell only the first.)
    pub(super) fn redirect(
        &mut self,
        node: Node<'_>,
        input: &mut Stdin,
        writes: &mut Vec<Word>,
        more: &mut Vec<Word>,
    ) {
        match node.kind() {
            "file_redirect" => {
                let mut cursor = node.walk();
                let words: Vec<Node<'_>> = node
                    .children_by_field_name("destination", &mut cursor)
                    .collect();
                let apart = |pair: &[Node<'_>]| self.is_new_line(pair[0].end_byte(), pair[1]);
                if words.windows(2).any(apart) {
                    self.script.unknown(MISREAD);
                }
                let mut words = words.into_iter().map(|word| self.word(word));
                let target = words.next();
                more.extend(words);
                let mut cursor = node.walk();
                let operator = node.children(&mut cursor).find(|child| !child.is_named());
                let operator = operator.map_or("", |operator| operator.kind());
                let Some(target) = target else { return };
                match operator {
                    "<" if target.known() == Some("/dev/stdin") => {}
                    "<" => *input = Stdin::Unknown,
                    "<&" if target.known() != Some("-") => *input = Stdin::Unknown,
                    ">" | ">>" | "&>" | "&>>" | ">|" | "<>" => writes.push(target),
                    // `2>&1`, `<&3`; a word that is no number is a file.
                    ">&" if !is_descriptor(&target) => writes.push(target),
                    _ => {}
                }
            }
            "herestring_redirect" => {
                let mut cursor = node.walk();
                let words = node.named_children(&mut cursor);
                let said = words.filter(|word| word.kind() != "file_descriptor").last();
                *input = said.map_or(Stdin::Unknown, |said| text_of(&self.word(said)));
            }
            "heredoc_redirect" => {
                *input = self.heredoc(node);
                let mut cursor = node.walk();
                for child in node.children_by_field_name("argument", &mut cursor) {
                    more.push(self.word(child));
                }
                let mut cursor = node.walk();
                let others: Vec<_> = node
                    .children_by_field_name("redirect", &mut cursor)
                    .collect();
                for other in others {
                    self.redirect(other, &mut Stdin::Given, writes, more);
                }
            }
            _ => {}
        }
    }

    pub(super) fn heredoc(&self, node: Node<'_>) -> Stdin {
        let mut cursor = node.walk();
        let mut children = node.named_children(&mut cursor);
        let Some(body) = children.find(|child| child.kind() == "heredoc_body") else {
            return Stdin::Text(String::new());
        };
        let mut cursor = body.walk();
        let expands = body
            .named_children(&mut cursor)
            .any(|child| child.kind() != "heredoc_content");
        match expands {
            true => Stdin::Unknown,
            false => Stdin::Text(self.text(body).to_owned()),
        }
    }

    /// What is joined to a command on the line of its here-document.
    fn behind_heredoc(&mut self, node: Node<'_>) {
        let mut cursor = node.walk();
        let children: Vec<Node<'_>> = node.named_children(&mut cursor).collect();
        for child in children {
            match child.kind() {
                "pipeline" => self.node(child, &Stdin::Unknown),
                "heredoc_body" => self.sequence(child, &Stdin::Given),
                "heredoc_start" | "heredoc_end" | "file_descriptor" | "word" => {}
                "file_redirect" | "herestring_redirect" => {}
                _ => self.node(child, &Stdin::Unknown),
            }
        }
    }
}

fn is_descriptor(word: &Word) -> bool {
    word.fixed && (word.text == "-" || word.text.bytes().all(|b| b.is_ascii_digit()))
}

fn text_of(word: &Word) -> Stdin {
    match word.known() {
        Some(text) => Stdin::Text(text.to_owned()),
        None => Stdin::Unknown,
    }
}

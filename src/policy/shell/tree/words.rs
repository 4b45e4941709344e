//! Words of a grammar's tree, and variables in them.

use tree_sitter::Node;

use super::Walk;
use crate::policy::shell::word::{self, Word};
use crate::policy::shell::{Command, Stdin, expand, options};

/// Commands that set variables by names they are given.
const SETTERS: &[&str] = &[
    "read",
    "declare",
    "typeset",
    "local",
    "export",
    "readonly",
    "mapfile",
    "readarray",
    "getopts",
    "let",
    "eval",
    "source",
    ".",
    "unset",
    "wait",
    "select",
];

impl Walk<'_> {
    /// A variable that the line sets once, before anything else may happen, and never names again but to
    /// read it, says that everywhere behind.
    pub(super) fn remember(&mut self, node: Node<'_>) {
        let at_top = |node: Node<'_>| match node.parent() {
            Some(parent) if parent.kind() == "program" => true,
            // The first of a list always runs.
            Some(parent) if parent.kind() == "list" => {
                parent.child(0) == Some(node)
                    && parent
                        .parent()
                        .is_some_and(|above| above.kind() == "program")
            }
            _ => false,
        };
        if self.depth > 0 || !at_top(node) {
            return;
        }
        let node = match node.kind() {
            "declaration_command"
                if self.text(node).starts_with("export ") && node.named_child_count() == 1 =>
            {
                node.named_child(0).unwrap_or(node)
            }
            _ => node,
        };
        let (Some(name), Some(value)) = (
            node.child_by_field_name("name"),
            node.child_by_field_name("value"),
        ) else {
            return;
        };
        let (name, value) = (self.text(name).to_owned(), self.word(value));
        let simple = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        // Whatever else names it without a `$` may change it, and so may a script that is read.
        let told = self.line.match_indices(&name).filter(|(at, _)| {
            let before = &self.line[..*at];
            let after = self.line[at + name.len()..].bytes().next();
            let inside = after.is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_')
                || before.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
            let read = before.ends_with('$') || (before.ends_with("${") && after == Some(b'}'));
            !inside && !read
        });
        let sets = self
            .text(node)
            .get(name.len()..)
            .is_some_and(|rest| rest.starts_with('='));
        if !simple || !sets || told.count() != 1 || !node.kind().eq("variable_assignment") {
            return;
        }
        if let Some(value) = value.known() {
            self.vars.insert(format!("${name}"), value.to_owned());
            self.vars.insert(format!("${{{name}}}"), value.to_owned());
        }
    }

    /// Variables that change what later words mean to the shell or to git.
    pub(super) fn assignment(&mut self, node: Node<'_>) {
        let mut cursor = node.walk();
        if node.kind() == "declaration_command" {
            for child in node.named_children(&mut cursor) {
                if child.kind() == "variable_assignment" {
                    self.assignment(child);
                }
            }
            return;
        }
        let Some(name) = node.child_by_field_name("name") else {
            return;
        };
        let name = self.text(name).to_owned();
        let value = node
            .child_by_field_name("value")
            .map(|value| self.word(value));
        expand::assigned(&name, value.as_ref(), &self.cwd, self.depth, self.script);
    }

    /// A word, unquoted.
    pub(super) fn word(&self, node: Node<'_>) -> Word {
        let mut word = Word::fixed("");
        self.add(node, &mut word, 0);
        word.span = (self.depth == 0).then(|| node.byte_range());
        word
    }

    /// A double-quoted string: what is known of the pieces in it is put in their place.
    fn string(&self, node: Node<'_>, word: &mut Word) {
        let raw = self.text(node);
        let closed = raw.len() > 1 && raw.starts_with('"') && raw.ends_with('"');
        word.fixed &= closed;
        let start = node.start_byte() + usize::from(raw.starts_with('"'));
        let end = node.end_byte() - usize::from(closed);
        let mut at = start;
        let mut cursor = node.walk();
        for child in node.named_children(&mut cursor) {
            if child.kind() == "string_content" {
                continue;
            }
            let before = self.line.get(at..child.start_byte()).unwrap_or_default();
            word.text.push_str(&word::double(before));
            let known = match child.kind() {
                "simple_expansion" | "expansion" => self.value(self.text(child)),
                "command_substitution" => self.printed(child),
                _ => None,
            };
            word.fixed &= known.is_some();
            word.text
                .push_str(known.as_deref().unwrap_or(self.text(child)));
            at = child.end_byte();
        }
        let rest = self.line.get(at..end.max(at)).unwrap_or_default();
        word.text.push_str(&word::double(rest));
    }

    /// What a variable says, unless something before may have set it by a name that nobody can tell.
    fn value(&self, read: &str) -> Option<String> {
        let value = self.vars.get(read)?;
        let sets = |command: &Command| match command.program().as_deref() {
            Some("printf") => options::has(&command.words, "-v"),
            Some(name) => SETTERS.contains(&name),
            None => true,
        };
        let told = !self.line.contains("${!") && !self.script.commands.iter().any(sets);
        told.then(|| value.clone())
    }

    /// What `$(cat <<'EOF' …)` says: agents write long messages so.
    fn printed(&self, node: Node<'_>) -> Option<String> {
        let only = node
            .named_child(0)
            .filter(|_| node.named_child_count() == 1);
        let statement = only.filter(|inner| inner.kind() == "redirected_statement")?;
        let mut cursor = statement.walk();
        let parts: Vec<Node<'_>> = statement.named_children(&mut cursor).collect();
        let [command, heredoc] = parts.as_slice() else {
            return None;
        };
        let reads = command.kind() == "command" && self.text(*command) == "cat";
        if !reads || heredoc.kind() != "heredoc_redirect" {
            return None;
        }
        let mut cursor = heredoc.walk();
        let plain = ["heredoc_start", "heredoc_body", "heredoc_end"];
        if !heredoc
            .named_children(&mut cursor)
            .all(|child| plain.contains(&child.kind()))
        {
            return None;
        }
        match self.heredoc(*heredoc) {
            Stdin::Text(text) => Some(text.trim_end_matches('\n').to_owned()),
            _ => None,
        }
    }

    fn add(&self, node: Node<'_>, word: &mut Word, level: u32) {
        let raw = self.text(node);
        match node.kind() {
            "word" | "number" | "command_name" if node.named_child_count() == 0 => {
                let (text, fixed) = word::bare(raw);
                word.text.push_str(&text);
                word.fixed &= fixed;
            }
            "raw_string" => {
                let inside = raw
                    .strip_prefix('\'')
                    .and_then(|raw| raw.strip_suffix('\''));
                word.fixed &= inside.is_some();
                word.text.push_str(inside.unwrap_or(raw));
            }
            "ansi_c_string" => {
                let inside = raw
                    .strip_prefix("$'")
                    .and_then(|raw| raw.strip_suffix('\''));
                let inside = inside.and_then(word::ansi);
                word.fixed &= inside.is_some();
                word.text.push_str(&inside.unwrap_or_default());
            }
            "string" => self.string(node, word),
            "concatenation" | "command_name" if level < 8 => {
                let mut cursor = node.walk();
                let mut at = node.start_byte();
                for child in node.children(&mut cursor) {
                    // What the grammar leaves out between its pieces (`{`, `,`) is part of the word.
                    if child.start_byte() > at {
                        word.fixed = false;
                    }
                    at = child.end_byte();
                    self.add(child, word, level + 1);
                }
            }
            "==" | "=~" | "$" | "=" | "test_operator" | "regex" => word.text.push_str(raw),
            _ => {
                word.fixed = false;
                word.text.push_str(raw);
            }
        }
    }
}

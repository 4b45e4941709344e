//! Pipes, and where the grammar draws the borders of commands in and behind them wrongly.
//!
//! tree-sitter-bash 0.25 takes `a && b > c | d` for a pipe of a list, `a | b && c` inside another pipe for one of
//! its commands, and the line behind `a | b | c` for words of `c` when its output is redirected. A shell does
//! none of it.

use tree_sitter::Node;

use super::{MISREAD, Walk};
use crate::policy::shell::{Command, Cwd, Stdin, quick};

impl Walk<'_> {
    pub(super) fn pipeline(&mut self, node: Node<'_>, stdin: &Stdin) {
        self.stages(node, stdin, &mut |walk, stage, from, _| {
            walk.node(stage, from);
        });
    }

    /// Each command of a pipeline, with what it reads and whether it is the last.
    pub(super) fn stages(&mut self, node: Node<'_>, stdin: &Stdin, each: &mut Each<'_>) {
        let mut cwd = self.cwd.clone();
        let given = self.given.clone();
        if !is_in_pipe(node) {
            self.given.clone_from(stdin);
        }
        let mut cursor = node.walk();
        let stages = node.named_children(&mut cursor);
        let stages: Vec<Node<'_>> = stages.filter(|stage| stage.kind() != "comment").collect();
        for (n, stage) in stages.iter().enumerate() {
            let from = if n == 0 { stdin } else { &Stdin::Unknown };
            let is_last = n + 1 == stages.len();
            if stage.kind() == "list" {
                self.list_in_pipe(*stage, (from, stdin), (n > 0, !is_last), each);
                cwd.clone_from(&self.cwd);
                continue;
            }
            each(self, *stage, from, is_last);
            if holds_list(*stage) {
                match n {
                    0 => cwd.clone_from(&self.begun),
                    _ => self.script.unknown(MISREAD),
                }
            }
            self.cwd.clone_from(&cwd);
        }
        self.given = given;
    }

    /// A list that the grammar takes for one command of a pipe: only its first reads from that, and only its last
    /// writes into it. `piped`: whether something stands before and behind it.
    fn list_in_pipe(
        &mut self,
        list: Node<'_>,
        (from, stdin): (&Stdin, &Stdin),
        piped: (bool, bool),
        each: &mut Each<'_>,
    ) {
        let mut parts = Vec::new();
        flatten(list, &mut parts);
        let begun = self.cwd.clone();
        for (n, (is_or, part)) in parts.iter().enumerate() {
            let is_last = n + 1 == parts.len();
            if *is_or && self.cwd != begun {
                self.cwd = Cwd::Unknown;
            }
            let before = self.cwd.clone();
            let from = if n == 0 { from } else { stdin };
            each(self, *part, from, is_last && !piped.1);
            if (n == 0 && piped.0) || (is_last && piped.1) {
                self.cwd = before;
            }
        }
    }

    /// Whether the line ends between `end` and `next`.
    pub(super) fn is_new_line(&self, end: usize, next: Node<'_>) -> bool {
        let between = self.line.get(end..next.start_byte()).unwrap_or_default();
        between.contains('\n') && between.replace("\\\n", "").contains('\n')
    }

    /// The command that begins with `first`, on a line of its own.
    pub(super) fn next_line(&mut self, first: Node<'_>, cwd: &Cwd) -> Command {
        let text = self.text(first);
        if quick::is_keyword(text) || text.contains('=') {
            self.script.unknown(MISREAD);
        }
        let mut command = Command::new(Vec::new(), cwd.clone());
        command.stdin = self.given.clone();
        command
    }
}

/// What is done with a command of a pipe: it, what it reads, and whether it is the last.
type Each<'e> = dyn FnMut(&mut Walk<'_>, Node<'_>, &Stdin, bool) + 'e;

/// The parts of a list, each with whether `||` stands before it.
fn flatten<'t>(list: Node<'t>, parts: &mut Vec<(bool, Node<'t>)>) {
    let mut cursor = list.walk();
    let mut is_or = false;
    for child in list.children(&mut cursor) {
        match child.kind() {
            "comment" => {}
            "list" if parts.is_empty() => flatten(child, parts),
            _ if child.is_named() => parts.push((is_or, child)),
            operator => is_or = operator == "||",
        }
    }
}

/// Whether a pipe is only the end of another one to the shell.
fn is_in_pipe(pipe: Node<'_>) -> bool {
    let mut above = pipe.parent();
    while let Some(node) = above {
        match node.kind() {
            "pipeline" => return true,
            "redirected_statement" | "list" => above = node.parent(),
            _ => return false,
        }
    }
    false
}

/// Whether `node` is a list with a redirection.
fn holds_list(node: Node<'_>) -> bool {
    let mut cursor = node.walk();
    let mut children = node.named_children(&mut cursor);
    node.kind() == "redirected_statement" && children.any(|child| child.kind() == "list")
}

//! Command lines by their grammar.

mod pipes;
mod redirects;
mod words;

use std::cell::RefCell;
use std::collections::HashMap;

use tree_sitter::{Node, Parser};

use super::word::Word;
use super::{Command, Cwd, MAX_COMMANDS, Script, Stdin, expand};

/// The grammar has read several commands as one, or one as several.
pub(super) const MISREAD: &str = "it could not be parsed";

/// Deepest tree that is walked; the shell's own limit is of the same order.
const MAX_NESTING: u32 = 200;

thread_local! {
    /// Making a parser costs more than using it.
    static PARSER: RefCell<Option<Parser>> = const { RefCell::new(None) };
}

/// Read `line`, and add what it runs to `script`.
pub(super) fn read(line: &str, cwd: Cwd, depth: u32, script: &mut Script) {
    let tree = PARSER.with_borrow_mut(|parser| {
        if parser.is_none() {
            let mut new = Parser::new();
            new.set_language(&tree_sitter_bash::LANGUAGE.into()).ok()?;
            *parser = Some(new);
        }
        parser.as_mut()?.parse(line, None)
    });
    let Some(tree) = tree else {
        return script.unknown(MISREAD);
    };
    if tree.root_node().has_error() {
        script.unknown(MISREAD);
    }
    let mut walk = Walk {
        line,
        given: Stdin::Given,
        begun: cwd.clone(),
        cwd,
        depth,
        script,
        nesting: 0,
        vars: HashMap::new(),
    };
    walk.node(tree.root_node(), &Stdin::Given);
}

struct Walk<'a> {
    line: &'a str,
    cwd: Cwd,
    depth: u32,
    script: &'a mut Script,
    nesting: u32,
    /// What the pipe reads that is walked.
    given: Stdin,
    /// Where the last command of a list began whose output is redirected.
    begun: Cwd,
    /// Variables by how they are written (`$X`, `${X}`) whose values are known from here on.
    vars: HashMap<String, String>,
}

impl Walk<'_> {
    fn text(&self, node: Node<'_>) -> &str {
        self.line.get(node.byte_range()).unwrap_or_default()
    }

    fn node(&mut self, node: Node<'_>, stdin: &Stdin) {
        if self.nesting >= MAX_NESTING || self.script.commands.len() > MAX_COMMANDS {
            return self.script.unknown("it is nested too deep");
        }
        self.nesting += 1;
        match node.kind() {
            "command" => self.command(node, stdin, Vec::new(), None),
            "redirected_statement" => self.redirected(node, stdin),
            "pipeline" => self.pipeline(node, stdin),
            "subshell" | "command_substitution" | "process_substitution" => {
                let cwd = self.cwd.clone();
                // `>(…)` reads what is written to it.
                let fed = self.text(node).starts_with(">(");
                self.sequence(node, if fed { &Stdin::Unknown } else { stdin });
                self.cwd = cwd;
            }
            "if_statement"
            | "while_statement"
            | "for_statement"
            | "c_style_for_statement"
            | "case_statement" => self.branching(node, stdin),
            // Whoever calls it may give it anything to read.
            "function_definition" => self.branching(node, &Stdin::Unknown),
            "variable_assignment" | "declaration_command" => {
                let mut cursor = node.walk();
                let plain = ["variable_assignment", "variable_name"];
                let option =
                    |child: Node<'_>| child.kind() == "word" && self.text(child).starts_with('-');
                let declares = node.kind() == "declaration_command";
                // `declare "$name=value"` sets what nobody can tell.
                if declares
                    && !node
                        .named_children(&mut cursor)
                        .all(|child| plain.contains(&child.kind()) || option(child))
                {
                    self.vars.clear();
                }
                self.assignment(node);
                self.sequence(node, stdin);
                self.remember(node);
            }
            _ => self.sequence(node, stdin),
        }
        self.nesting -= 1;
    }

    /// The children of a node, one after the other.
    fn sequence(&mut self, node: Node<'_>, stdin: &Stdin) {
        self.children(node, |walk, child, _| walk.node(child, stdin));
    }

    /// The same with `each` child, which hears whether it is the last.
    fn children(&mut self, node: Node<'_>, mut each: impl FnMut(&mut Self, Node<'_>, bool)) {
        if node.named_child_count() == 0 {
            return;
        }
        let mut cursor = node.walk();
        let mut entry = self.cwd.clone();
        for child in node.children(&mut cursor) {
            match child.kind() {
                // What runs beside us moves nobody.
                "&" => self.cwd.clone_from(&entry),
                // The `cd` before has failed.
                "||" if self.cwd != entry => self.cwd = Cwd::Unknown,
                _ if !child.is_named() => {}
                _ => {
                    // In a list `&&` stands between; elsewhere what comes runs even if a `cd` failed.
                    if node.kind() != "list" && self.cwd != entry {
                        self.cwd = Cwd::Unknown;
                    }
                    entry.clone_from(&self.cwd);
                    each(self, child, child.next_named_sibling().is_none());
                }
            }
        }
    }

    /// What may run or not, once or often: where it leaves us is not known.
    fn branching(&mut self, node: Node<'_>, stdin: &Stdin) {
        let before = self.cwd.clone();
        self.sequence(node, stdin);
        if self.cwd != before {
            self.cwd = Cwd::Unknown;
        }
    }

    fn command(
        &mut self,
        node: Node<'_>,
        stdin: &Stdin,
        writes: Vec<Word>,
        more: Option<&Vec<Word>>,
    ) {
        let mut command = Command::new(Vec::new(), self.cwd.clone());
        command.stdin = stdin.clone();
        let mut cursor = node.walk();
        let children: Vec<Node<'_>> = node.named_children(&mut cursor).collect();
        let mut end = node.start_byte();
        for child in children {
            if self.is_new_line(end, child) {
                let begun = command.cwd.clone();
                let next = self.next_line(child, &begun);
                self.complete(std::mem::replace(&mut command, next));
                if self.cwd != begun {
                    self.cwd = Cwd::Unknown;
                    command.cwd = Cwd::Unknown;
                }
            }
            end = child.end_byte();
            match child.kind() {
                "comment" => continue,
                "variable_assignment" => self.assignment(child),
                "command_name" => {
                    let inner = child.named_child(0).unwrap_or(child);
                    command.words.push(self.word(inner));
                }
                "file_redirect" | "herestring_redirect" => {
                    let mut input = command.stdin.clone();
                    let mut writes = std::mem::take(&mut command.writes);
                    let mut words = std::mem::take(&mut command.words);
                    self.redirect(child, &mut input, &mut writes, &mut words);
                    (command.stdin, command.writes) = (input, writes);
                    command.words = words;
                }
                "subshell" => command.words.push(Word::unknown()),
                _ => command.words.push(self.word(child)),
            }
            // Whatever is substituted into a word runs before the command.
            if self.text(child).contains(['$', '`', '(']) {
                let cwd = self.cwd.clone();
                self.substitutions(child);
                self.cwd = cwd;
            }
        }
        command.words.extend(more.into_iter().flatten().cloned());
        command.writes.extend(writes);
        self.complete(command);
    }

    /// A command with all its words.
    fn complete(&mut self, command: Command) {
        if let Some(next) = expand::change_of_directory(&command) {
            self.cwd = next;
        }
        expand::expand(command, self.depth, self.script);
    }

    /// Commands that run while a word is made.
    fn substitutions(&mut self, node: Node<'_>) {
        match node.kind() {
            "command_substitution" | "process_substitution" | "subshell" => {
                self.node(node, &Stdin::Given);
            }
            _ if self.nesting >= MAX_NESTING => self.script.unknown("it is nested too deep"),
            _ => {
                self.nesting += 1;
                let mut cursor = node.walk();
                let children: Vec<Node<'_>> = node.named_children(&mut cursor).collect();
                for child in children {
                    self.substitutions(child);
                }
                self.nesting -= 1;
            }
        }
    }
}

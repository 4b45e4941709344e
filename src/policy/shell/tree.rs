//! Command lines by their grammar.

mod words;

use std::cell::RefCell;
use std::collections::HashMap;

use tree_sitter::{Node, Parser};

use super::word::Word;
use super::{Command, Cwd, MAX_COMMANDS, Script, Stdin, expand};

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
        return script.unknown("it could not be parsed");
    };
    if tree.root_node().has_error() {
        script.unknown("it could not be parsed");
    }
    let mut walk = Walk {
        line,
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

    fn pipeline(&mut self, node: Node<'_>, stdin: &Stdin) {
        self.stages(node, stdin, |walk, stage, from, _| walk.node(stage, from));
    }

    /// Each command of a pipeline, with what it reads and whether it is the last.
    fn stages(
        &mut self,
        node: Node<'_>,
        stdin: &Stdin,
        mut each: impl FnMut(&mut Self, Node<'_>, &Stdin, bool),
    ) {
        let cwd = self.cwd.clone();
        let mut cursor = node.walk();
        for (n, child) in node.named_children(&mut cursor).enumerate() {
            let from = if n == 0 { stdin } else { &Stdin::Unknown };
            each(self, child, from, child.next_named_sibling().is_none());
            self.cwd.clone_from(&cwd);
        }
    }

    fn redirected(&mut self, node: Node<'_>, stdin: &Stdin) {
        let mut cursor = node.walk();
        let children: Vec<Node<'_>> = node.named_children(&mut cursor).collect();
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
            "pipeline" => self.stages(node, stdin, |walk, stage, from, is_last| match is_last {
                true => {
                    let input = if input == stdin { from } else { input };
                    walk.body(stage, (from, input), writes, more);
                }
                false => walk.node(stage, from),
            }),
            "list" => self.children(node, |walk, part, is_last| match is_last {
                true => walk.body(part, (stdin, input), writes, more),
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
    fn redirect(
        &mut self,
        node: Node<'_>,
        input: &mut Stdin,
        writes: &mut Vec<Word>,
        more: &mut Vec<Word>,
    ) {
        match node.kind() {
            "file_redirect" => {
                let mut cursor = node.walk();
                let mut words = node.children_by_field_name("destination", &mut cursor);
                let target = words.next().map(|target| self.word(target));
                more.extend(words.map(|word| self.word(word)));
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

    fn heredoc(&self, node: Node<'_>) -> Stdin {
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

    fn command(
        &mut self,
        node: Node<'_>,
        stdin: &Stdin,
        writes: Vec<Word>,
        more: Option<&Vec<Word>>,
    ) {
        let mut command = Command::new(Vec::new(), self.cwd.clone());
        command.writes = writes;
        command.stdin = stdin.clone();
        let mut cursor = node.walk();
        let children: Vec<Node<'_>> = node.named_children(&mut cursor).collect();
        for child in children {
            match child.kind() {
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

fn is_descriptor(word: &Word) -> bool {
    word.fixed && (word.text == "-" || word.text.bytes().all(|b| b.is_ascii_digit()))
}

fn text_of(word: &Word) -> Stdin {
    match word.known() {
        Some(text) => Stdin::Text(text.to_owned()),
        None => Stdin::Unknown,
    }
}

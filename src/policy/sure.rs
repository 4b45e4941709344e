//! What can be told of an expression without evaluating it.
//!
//! Most of a rule's condition says which calls it is about: a class, a command, a fact. That much is read
//! off once and asked directly, which costs a hundredth of an evaluation. It follows CEL in that `false && x`
//! and `true || x` hold whatever `x` is, even an error
//! (<https://github.com/google/cel-spec/blob/master/doc/langdef.md#logical-operators>); where it is not sure,
//! CEL is asked. A test compares both over the corpus of calls.

use cel::common::ast::{Expr as Node, IdedExpr, LiteralValue};

use super::bindings::Bindings;
use super::secret;
use super::shell::{self, Pattern};
use super::tools::Class;

/// See the module's documentation.
#[derive(Clone, Debug)]
pub(super) enum Sure {
    /// Nothing.
    Nothing,
    /// `tool.class == "…"`.
    Class(String),
    /// `tool.mutates`.
    Mutates,
    /// `tool.edits`.
    Edits,
    /// `tool.deploys`.
    Deploys,
    /// `shell.runs(tool.command, […])`.
    Runs(Vec<Pattern>),
    /// `secret.found(tool.text)`.
    Secret,
    /// `session.…` of a fact or of what is always known.
    Session(String),
    Not(Box<Sure>),
    And(Box<[Sure; 2]>),
    Or(Box<[Sure; 2]>),
}

impl Sure {
    /// What can be told of `node`.
    pub(super) fn of(node: &IdedExpr) -> Self {
        match &node.expr {
            Node::Select(select) => match (&select.operand.expr, select.field.as_str()) {
                (Node::Ident(root), "mutates") if root == "tool" => Self::Mutates,
                (Node::Ident(root), "edits") if root == "tool" => Self::Edits,
                (Node::Ident(root), "deploys") if root == "tool" => Self::Deploys,
                (Node::Ident(root), name) if root == "session" => Self::Session(name.to_owned()),
                _ => Self::Nothing,
            },
            Node::Call(call) => {
                let target = call.target.as_deref().map(|target| &target.expr);
                match (target, call.func_name.as_str(), call.args.as_slice()) {
                    (None, "_&&_", [one, other]) => {
                        Self::And(Box::new([Self::of(one), Self::of(other)]))
                    }
                    (None, "_||_", [one, other]) => {
                        Self::Or(Box::new([Self::of(one), Self::of(other)]))
                    }
                    (None, "!_", [inner]) => Self::Not(Box::new(Self::of(inner))),
                    (None, "_==_", [one, other]) => {
                        let class = class(one, other).or_else(|| class(other, one));
                        class.map_or(Self::Nothing, Self::Class)
                    }
                    (Some(Node::Ident(space)), "runs", [line, patterns])
                        if space == "shell" && is_field(line, "command") =>
                    {
                        runs(patterns).map_or(Self::Nothing, Self::Runs)
                    }
                    (Some(Node::Ident(space)), "found", [text])
                        if space == "secret" && is_field(text, "text") =>
                    {
                        Self::Secret
                    }
                    _ => Self::Nothing,
                }
            }
            _ => Self::Nothing,
        }
    }

    /// Whether it holds, where that is sure.
    pub(super) fn holds(&self, bindings: &Bindings<'_>) -> Option<bool> {
        let call = || bindings.call.filter(|call| call.fault.is_none());
        match self {
            Self::Nothing => None,
            Self::Class(class) => Some(bindings.call?.class.as_str() == class),
            Self::Mutates => Some(bindings.call?.mutates()),
            Self::Edits => Some(bindings.call?.edits()),
            Self::Deploys => call()?.deploys().ok().map(|deploys| !deploys.is_empty()),
            Self::Runs(patterns) => {
                let call = call()?;
                match call.class {
                    Class::Shell => shell::runs_any(&call.script(), patterns).ok(),
                    // There is no command line, and an empty one runs nothing.
                    _ => Some(false),
                }
            }
            Self::Secret => Some(secret::found(&call()?.text())),
            Self::Session(name) => bindings.flag(name),
            Self::Not(inner) => inner.holds(bindings).map(|holds| !holds),
            Self::And(sides) => match sides[0].holds(bindings) {
                Some(false) => Some(false),
                one => match (one, sides[1].holds(bindings)) {
                    (_, Some(false)) => Some(false),
                    (Some(true), Some(true)) => Some(true),
                    _ => None,
                },
            },
            Self::Or(sides) => match sides[0].holds(bindings) {
                Some(true) => Some(true),
                one => match (one, sides[1].holds(bindings)) {
                    (_, Some(true)) => Some(true),
                    (Some(false), Some(false)) => Some(false),
                    _ => None,
                },
            },
        }
    }
}

fn is_field(node: &IdedExpr, field: &str) -> bool {
    let Node::Select(select) = &node.expr else {
        return false;
    };
    select.field == field && matches!(&select.operand.expr, Node::Ident(root) if root == "tool")
}

fn text(node: &IdedExpr) -> Option<&str> {
    match &node.expr {
        Node::Literal(LiteralValue::String(text)) => Some(text.inner()),
        _ => None,
    }
}

fn class(field: &IdedExpr, value: &IdedExpr) -> Option<String> {
    is_field(field, "class")
        .then(|| text(value))
        .flatten()
        .map(str::to_owned)
}

fn runs(patterns: &IdedExpr) -> Option<Vec<Pattern>> {
    match &patterns.expr {
        Node::List(list) => list
            .elements
            .iter()
            .map(|item| text(item).map(Pattern::new))
            .collect(),
        _ => text(patterns).map(|pattern| vec![Pattern::new(pattern)]),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::super::bindings::{Actor, Bindings};
    use super::super::call::Call;
    use super::super::session::SessionPolicy;
    use super::super::tests::{done, engine};

    #[derive(Deserialize)]
    struct Corpus {
        forbidden: Vec<Entry>,
        legitimate: Vec<Entry>,
    }

    #[derive(Deserialize)]
    struct Entry {
        sh: Option<String>,
        tool: Option<String>,
        input: Option<String>,
    }

    const CORPUS: &str = include_str!("../../tests/fixtures/policy/around.yaml");

    /// Whatever is told without CEL is what CEL says: for every rule built in, over every call of the
    /// corpus, in sessions that have done nothing, and much.
    #[test]
    fn what_is_sure_is_what_cel_says() {
        let corpus: Corpus = serde_saphyr::from_str(CORPUS).unwrap();
        let engine = engine("{}").unwrap();
        let mut busy = SessionPolicy::default();
        done(
            &mut busy,
            &engine,
            "Bash",
            json!({"command": "git worktree add w && touch w/a"}),
            "fine",
        );
        for agent in ["code-reviewer", "security-auditor", "architect-reviewer"] {
            done(
                &mut busy,
                &engine,
                "Task",
                json!({"subagent_type": agent}),
                "fine",
            );
        }
        let actor = Actor {
            root: Some("/r".into()),
            ..Actor::default()
        };
        let (mut sure, mut asked) = (0, 0);
        for entry in corpus.forbidden.iter().chain(&corpus.legitimate) {
            let (name, arguments) = match &entry.sh {
                Some(line) => ("Bash", json!({"command": line}).to_string()),
                None => (entry.tool.as_deref().unwrap(), entry.input.clone().unwrap()),
            };
            let call = Call::new(&engine.tools, name, &arguments, Some("/r"));
            for session in [&SessionPolicy::default(), &busy] {
                let bindings =
                    Bindings::new(&actor, &session.state, &engine.captures).with_call(&call);
                for rule in &engine.rules {
                    let Some(when) = &rule.when else { continue };
                    asked += 1;
                    if let Some(holds) = when.sure.holds(&bindings) {
                        sure += 1;
                        let said = when.evaluates(&engine.context, &bindings);
                        assert_eq!(said, Ok(holds), "{} {name} {arguments}", rule.id);
                    }
                }
            }
        }
        assert!(
            sure * 10 > asked * 7,
            "most of it is sure: {sure} of {asked}"
        );
    }
}

//! One expression: compiled, and checked for names nobody knows.

use std::collections::BTreeSet;

use cel::common::ast::{EntryExpr, Expr as Node, IdedExpr, LiteralValue};
use cel::{Context, Env, Program, Value};

use super::bindings::{Bindings, FIELDS};
use super::functions::{METHODS, NAMESPACES, PLAIN};
use super::sure::Sure;

/// A mistake in an expression. Lines and columns begin at 1, columns count characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// Line of the expression.
    pub line: usize,
    /// Column of the line.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

/// It could not be evaluated; why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Undecided(pub String);

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Expr {
    program: Program,
    pub(super) sure: Sure,
    /// Names after `session.` that come up.
    pub session: BTreeSet<String>,
    /// Classes that `tool.class` is compared with.
    pub classes: BTreeSet<String>,
    /// The only classes it can hold for, where it says so itself.
    only: Option<BTreeSet<String>>,
}

impl Expr {
    /// Whether it can hold for calls of this class; most rules are about one class.
    pub(super) fn concerns(&self, class: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(class))
    }

    /// Compile `source`. `session` are the names that may follow `session.`, besides the known ones.
    ///
    /// # Errors
    /// Everything wrong with it.
    pub(super) fn compile(
        env: &Env,
        source: &str,
        session: &BTreeSet<String>,
    ) -> Result<Self, Vec<Fault>> {
        let program = env.compile(source).map_err(|errors| {
            let faults = errors.errors.iter().map(|error| Fault {
                line: usize::try_from(error.pos.0).unwrap_or(1).max(1),
                column: usize::try_from(error.pos.1).unwrap_or(1).max(1),
                message: error.msg.clone(),
            });
            faults.collect::<Vec<_>>()
        })?;
        let mut check = Check {
            source,
            program: &program,
            known: session,
            bound: Vec::new(),
            faults: Vec::new(),
            session: BTreeSet::new(),
            classes: BTreeSet::new(),
        };
        check.node(program.expression());
        let Check {
            faults,
            session,
            classes,
            ..
        } = check;
        if !faults.is_empty() {
            return Err(faults);
        }
        let only = only_for(program.expression());
        let sure = Sure::of(program.expression());
        Ok(Self {
            program,
            sure,
            session,
            classes,
            only,
        })
    }

    fn value(&self, root: &Context<'_, '_>, bindings: &Bindings<'_>) -> Result<Value, Undecided> {
        let mut scope = root.new_inner_scope();
        scope.set_variable_resolver(bindings);
        self.program
            .execute(&scope)
            .map_err(|error| Undecided(bindings.explain(&error.to_string())))
    }

    /// Whether it holds.
    ///
    /// # Errors
    /// [`Undecided`], also when it says neither yes nor no.
    pub(super) fn holds(
        &self,
        root: &Context<'_, '_>,
        bindings: &Bindings<'_>,
    ) -> Result<bool, Undecided> {
        match self.sure.holds(bindings) {
            Some(holds) => Ok(holds),
            None => self.evaluates(root, bindings),
        }
    }

    /// [`Self::holds`], whatever can be told without CEL.
    pub(super) fn evaluates(
        &self,
        root: &Context<'_, '_>,
        bindings: &Bindings<'_>,
    ) -> Result<bool, Undecided> {
        match self.value(root, bindings)? {
            Value::Bool(holds) => Ok(holds),
            other => Err(Undecided(format!(
                "it says {other:?}, neither true nor false"
            ))),
        }
    }

    /// The text it says.
    ///
    /// # Errors
    /// [`Undecided`], also when it says no text.
    pub(super) fn text(
        &self,
        root: &Context<'_, '_>,
        bindings: &Bindings<'_>,
    ) -> Result<String, Undecided> {
        match self.value(root, bindings)? {
            Value::String(text) => Ok(text.to_string()),
            other => Err(Undecided(format!("it says {other:?}, which is no text"))),
        }
    }
}

/// Classes without which `node` is false: `tool.class == "shell" && …`, `(… || …) && …`.
fn only_for(node: &IdedExpr) -> Option<BTreeSet<String>> {
    let Node::Call(call) = &node.expr else {
        return None;
    };
    let [one, other] = call.args.as_slice() else {
        return None;
    };
    match call.func_name.as_str() {
        "_==_" => {
            let class = class_of(one, other).or_else(|| class_of(other, one))?;
            Some(BTreeSet::from([class.to_owned()]))
        }
        "_&&_" => match (only_for(one), only_for(other)) {
            (Some(one), Some(other)) => Some(one.intersection(&other).cloned().collect()),
            (one, other) => one.or(other),
        },
        "_||_" => Some(&only_for(one)? | &only_for(other)?),
        _ => None,
    }
}

/// The text that `tool.class` is compared with.
fn class_of<'n>(field: &IdedExpr, text: &'n IdedExpr) -> Option<&'n str> {
    let (Node::Select(select), Node::Literal(LiteralValue::String(text))) =
        (&field.expr, &text.expr)
    else {
        return None;
    };
    let is_tool = matches!(&select.operand.expr, Node::Ident(root) if root == "tool");
    (is_tool && select.field == "class").then(|| text.inner())
}

struct Check<'a> {
    source: &'a str,
    program: &'a Program,
    known: &'a BTreeSet<String>,
    /// Variables of the macros around.
    bound: Vec<String>,
    faults: Vec<Fault>,
    session: BTreeSet<String>,
    classes: BTreeSet<String>,
}

impl Check<'_> {
    fn fault(&mut self, node: &IdedExpr, message: String) {
        let start = self.program.source_info().offset_for(node.id);
        // Offsets are of the token that makes the node: for a call its parenthesis or dot.
        let start = start.map_or(0, |(start, _)| start as usize);
        let before: String = self.source.chars().take(start).collect();
        let line = before.matches('\n').count() + 1;
        let column = before
            .rsplit('\n')
            .next()
            .unwrap_or_default()
            .chars()
            .count()
            + 1;
        self.faults.push(Fault {
            line,
            column,
            message,
        });
    }

    fn node(&mut self, node: &IdedExpr) {
        match &node.expr {
            Node::Ident(name) => self.ident(node, name),
            Node::Select(select) => {
                if let Node::Ident(root) = &select.operand.expr
                    && !self.bound.contains(root)
                {
                    return self.field(node, root, &select.field);
                }
                self.node(&select.operand);
            }
            Node::Call(call) => {
                self.called(node, &call.func_name, call.target.as_deref());
                if call.func_name == "_==_" {
                    self.class(&call.args);
                }
                call.args.iter().for_each(|arg| self.node(arg));
            }
            Node::Comprehension(inner) => {
                self.node(&inner.iter_range);
                self.node(&inner.accu_init);
                let bound = self.bound.len();
                self.bound.push(inner.iter_var.clone());
                self.bound.extend(inner.iter_var2.clone());
                self.bound.push(inner.accu_var.clone());
                for part in [&inner.loop_cond, &inner.loop_step, &inner.result] {
                    self.node(part);
                }
                self.bound.truncate(bound);
            }
            Node::List(list) => list.elements.iter().for_each(|item| self.node(item)),
            Node::Map(map) => {
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        self.node(&entry.key);
                        self.node(&entry.value);
                    }
                }
            }
            Node::Struct(made) => {
                self.fault(node, format!("there is no type `{}`", made.type_name))
            }
            Node::Literal(_) | Node::Unspecified => {}
        }
    }

    fn ident(&mut self, node: &IdedExpr, name: &str) {
        let known = name == "p"
            || name.starts_with('@')
            || self.bound.iter().any(|bound| bound == name)
            || FIELDS.iter().any(|(root, _)| *root == name);
        if !known {
            self.fault(node, format!("there is no variable `{name}`"));
        }
    }

    fn field(&mut self, node: &IdedExpr, root: &str, field: &str) {
        let Some((_, fields)) = FIELDS.iter().find(|(name, _)| *name == root) else {
            return self.ident(node, root);
        };
        if root == "session" {
            self.session.insert(field.to_owned());
        }
        let own = root == "session" && self.known.contains(field);
        if !own && !fields.contains(&field) {
            self.fault(node, format!("`{root}` has no `{field}`"));
        }
    }

    fn called(&mut self, node: &IdedExpr, name: &str, target: Option<&IdedExpr>) {
        let Some(target) = target else {
            let operator = name.contains(['_', '@', '!', '-'])
                && !name.chars().all(|c| c.is_alphanumeric() || c == '.');
            if !operator && !PLAIN.contains(&name) && !METHODS.contains(&name) {
                self.fault(node, format!("there is no function `{name}`"));
            }
            return;
        };
        if let Node::Ident(space) = &target.expr
            && !self.bound.contains(space)
            && let Some((_, functions)) = NAMESPACES.iter().find(|(name, _)| name == space)
        {
            if !functions.contains(&name) {
                self.fault(node, format!("there is no function `{space}.{name}`"));
            }
            return;
        }
        if !METHODS.contains(&name) {
            self.fault(node, format!("there is no function `{name}`"));
        }
        self.node(target);
    }

    /// `tool.class == "shell"`: what the expression is about.
    fn class(&mut self, sides: &[IdedExpr]) {
        if let [one, other] = sides {
            let class = class_of(one, other).or_else(|| class_of(other, one));
            self.classes.extend(class.map(str::to_owned));
        }
    }
}

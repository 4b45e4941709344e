//! Functions that rules call.

use cel::common::types::CelString;
use cel::{Context, DeclarationError, ExecutionError, FunctionContext, Value};
use globset::Glob;

use super::{path, secret, shell};

/// Namespaces of functions, with their functions.
pub(super) const NAMESPACES: &[(&str, &[&str])] = &[
    ("path", &["within", "rebase", "join"]),
    ("shell", &["runs", "only", "arg", "path", "flag"]),
    ("secret", &["found"]),
    ("json", &["get"]),
];

/// Functions without a namespace.
pub(super) const PLAIN: &[&str] = &[
    "glob", "has", "size", "string", "int", "double", "uint", "type",
];

/// Functions of values: `text.contains(…)`.
pub(super) const METHODS: &[&str] = &[
    "contains",
    "startsWith",
    "endsWith",
    "size",
    "all",
    "exists",
    "exists_one",
    "map",
    "filter",
];

type Result<T> = std::result::Result<T, ExecutionError>;

/// A context that knows them all.
///
/// # Errors
/// When two share a name: a mistake in this file, which a test would find.
pub(super) fn context() -> std::result::Result<Context<'static, 'static>, DeclarationError> {
    let mut context = Context::default();
    context.add_function("path.within", within)?;
    context.add_function("path.rebase", rebase)?;
    context.add_function("path.join", join)?;
    context.add_function("shell.runs", runs)?;
    context.add_function("shell.only", only)?;
    context.add_function("shell.arg", arg)?;
    context.add_function("shell.path", shell_path)?;
    context.add_function("shell.flag", flag)?;
    context.add_function("secret.found", found)?;
    context.add_function("json.get", get)?;
    context.add_function("glob", glob)?;
    Ok(context)
}

/// The text at place `index` of the arguments.
fn text<'f>(ftx: &'f FunctionContext<'_, '_>, index: usize) -> Result<&'f str> {
    let value = ftx.args.get(index);
    let text = value.and_then(|value| value.downcast_ref::<CelString<'_>>());
    text.map(CelString::inner)
        .ok_or_else(|| ftx.error(format!("argument {} must be a text", index + 1)))
}

/// The texts at place `index`: a list, or one.
fn texts(ftx: &FunctionContext<'_, '_>, index: usize) -> Result<Vec<String>> {
    if let Ok(one) = text(ftx, index) {
        return Ok(vec![one.to_owned()]);
    }
    let value = ftx
        .args
        .get(index)
        .ok_or_else(|| ftx.error("an argument is missing"))?;
    let Value::List(list) = Value::try_from(value.as_ref())? else {
        return Err(ftx.error(format!("argument {} must be a list of texts", index + 1)));
    };
    let texts = list.iter().map(|item| match item {
        Value::String(text) => Ok(text.to_string()),
        _ => Err(ftx.error("the list must have texts only")),
    });
    texts.collect()
}

fn number(ftx: &FunctionContext<'_, '_>, index: usize) -> Result<usize> {
    let value = ftx
        .args
        .get(index)
        .ok_or_else(|| ftx.error("an argument is missing"))?;
    match Value::try_from(value.as_ref())? {
        Value::Int(number) => {
            usize::try_from(number).map_err(|_| ftx.error("must not be negative"))
        }
        _ => Err(ftx.error("must be a number")),
    }
}

fn within(ftx: &FunctionContext<'_, '_>) -> Result<Value> {
    let inside = path::within(text(ftx, 0)?, text(ftx, 1)?);
    inside
        .map(Value::Bool)
        .ok_or_else(|| ftx.error(INCOMPARABLE))
}

fn rebase(ftx: &FunctionContext<'_, '_>) -> Result<Value> {
    let moved = path::rebase(text(ftx, 0)?, text(ftx, 1)?, text(ftx, 2)?);
    moved
        .map(Value::from)
        .ok_or_else(|| ftx.error(INCOMPARABLE))
}

const INCOMPARABLE: &str = "a relative and an absolute path cannot be compared";

fn join(ftx: &FunctionContext<'_, '_>) -> Result<Value> {
    Ok(path::resolve(text(ftx, 0)?, text(ftx, 1)?).into())
}

fn runs(ftx: &FunctionContext<'_, '_>) -> Result<Value> {
    let script = shell::parsed(text(ftx, 0)?);
    let runs = shell::runs(&script, &texts(ftx, 1)?);
    runs.map(Value::Bool).map_err(|why| ftx.error(why.0))
}

fn only(ftx: &FunctionContext<'_, '_>) -> Result<Value> {
    let script = shell::parsed(text(ftx, 0)?);
    let only = shell::only(&script, &texts(ftx, 1)?);
    only.map(Value::Bool).map_err(|why| ftx.error(why.0))
}

fn arg(ftx: &FunctionContext<'_, '_>) -> Result<Value> {
    let script = shell::parsed(text(ftx, 0)?);
    let found = shell::arg(&script, text(ftx, 1)?, number(ftx, 2)?);
    found
        .map(|word| Value::from(word.unwrap_or_default()))
        .map_err(|why| ftx.error(why.0))
}

/// An argument that is a path, seen from where the line runs.
fn shell_path(ftx: &FunctionContext<'_, '_>) -> Result<Value> {
    let script = shell::parsed(text(ftx, 0)?);
    let found = shell::path_arg(&script, text(ftx, 1)?, number(ftx, 2)?);
    found
        .map(|word| Value::from(word.unwrap_or_default()))
        .map_err(|why| ftx.error(why.0))
}

/// Every value of an option, joined by newlines.
fn flag(ftx: &FunctionContext<'_, '_>) -> Result<Value> {
    let script = shell::parsed(text(ftx, 0)?);
    let names = texts(ftx, 2)?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let values = shell::flags(&script, text(ftx, 1)?, &names);
    values
        .map(|values| Value::from(values.join("\n\n")))
        .map_err(|why| ftx.error(why.0))
}

fn found(ftx: &FunctionContext<'_, '_>) -> Result<Value> {
    Ok(Value::Bool(secret::found(text(ftx, 0)?)))
}

/// A value in a JSON text by its JSON Pointer, as a text; empty where there is none.
fn get(ftx: &FunctionContext<'_, '_>) -> Result<Value> {
    let json: serde_json::Value = serde_json::from_str(text(ftx, 0)?).map_err(|e| ftx.error(e))?;
    let found = json.pointer(text(ftx, 1)?);
    Ok(match found {
        None | Some(serde_json::Value::Null) => Value::from(String::new()),
        Some(serde_json::Value::String(text)) => Value::from(text.as_str()),
        Some(other) => Value::from(other.to_string()),
    })
}

fn glob(ftx: &FunctionContext<'_, '_>) -> Result<Value> {
    let glob = Glob::new(text(ftx, 0)?).map_err(|e| ftx.error(e))?;
    Ok(Value::Bool(glob.compile_matcher().is_match(text(ftx, 1)?)))
}

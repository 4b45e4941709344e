//! Tool arguments against the client's own JSON Schema, all of it.
//!
//! Schemas are the client's input: nothing is fetched for them, patterns run in linear time, and
//! what is too large or does not compile is left unvalidated and counted, because a client that
//! works without this gateway must not stop working with it. `format` stays the annotation it is by
//! default since draft 2019-09: clients' own checkers differ too much in it.

mod cache;
mod cost;
mod violation;

#[cfg(test)]
pub(super) mod tests;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::turn::Tool;
use cost::Cost;
pub use violation::Violation;

/// Largest schema of one tool that is compiled, in bytes. Real ones stay under 20 KiB.
const MAX_SCHEMA: usize = 256 << 10;

/// Largest sum of the schemas of one request.
const MAX_SET: usize = 2 << 20;

/// Most patterns in the schemas of one request.
const MAX_PATTERNS: usize = 500;

/// Largest compiled form of one pattern, in bytes.
const MAX_PATTERN_SIZE: usize = 256 << 10;

/// Most visits of subschemas up to which violations are listed; collecting them takes memory.
const MAX_EXPLAINED: u64 = 2_000_000;

/// Most violations reported of one call.
const MAX_VIOLATIONS: usize = 5;

/// The compiled schemas of one set of tools.
pub struct Validators {
    checks: HashMap<String, Check>,
    unvalidated: Vec<Unvalidated>,
    /// Estimate of the memory held, in bytes.
    weight: usize,
}

/// What is known about one tool's arguments.
enum Check {
    /// Nothing: the client gave no schema, or it could not be used.
    Any,
    Schema(Box<Schema>),
}

struct Schema {
    validator: Validator,
    cost: Cost,
}

/// A tool whose arguments are not validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unvalidated {
    /// The tool.
    pub tool: String,
    /// Why, for the log.
    pub reason: String,
}

impl fmt::Debug for Validators {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Validators")
            .field("tools", &self.checks.len())
            .field("unvalidated", &self.unvalidated)
            .finish_non_exhaustive()
    }
}

impl Validators {
    /// The validators for `tools`, compiled now or kept from an earlier request that offered the
    /// same names and schemas.
    pub fn for_tools(tools: &[Tool]) -> Arc<Self> {
        cache::get_or_insert(cache::Key::of(tools), || Self::compile(tools))
    }

    fn compile(tools: &[Tool]) -> Self {
        let mut set = Self {
            checks: HashMap::with_capacity(tools.len()),
            unvalidated: Vec::new(),
            weight: 0,
        };
        let mut budget = Budget {
            bytes: MAX_SET,
            patterns: MAX_PATTERNS,
        };
        for tool in tools {
            let check = match tool.parameters.as_deref() {
                Some(schema) if schema.get().trim() != "null" => match budget.compile(schema) {
                    Ok(schema) => Check::Schema(Box::new(schema)),
                    Err(reason) => {
                        let tool = tool.name.clone();
                        set.unvalidated.push(Unvalidated { tool, reason });
                        Check::Any
                    }
                },
                _ => Check::Any,
            };
            set.checks.insert(tool.name.clone(), check);
        }
        set.weight = 1024
            + (MAX_SET - budget.bytes) * 16
            + (MAX_PATTERNS - budget.patterns) * (MAX_PATTERN_SIZE / 4);
        set
    }

    /// Check the arguments of a call of the tool `name`.
    ///
    /// Arguments pass unvalidated when that would take too long (a hostile schema, see [`Cost`]).
    /// JSON without a representation here (a number beyond the range of a double, half a surrogate
    /// pair) passes: it is valid JSON, and how a client reads it is the client's affair.
    ///
    /// # Errors
    /// What is wrong, at most five violations.
    pub fn validate(&self, name: &str, arguments: &str) -> Result<(), Vec<Violation>> {
        let Some(Check::Schema(schema)) = self.checks.get(name) else {
            return Ok(());
        };
        let Ok(value) = serde_json::from_str::<Value>(arguments) else {
            return match serde_json::from_str::<serde::de::IgnoredAny>(arguments) {
                Ok(_) => Ok(()),
                Err(_) => Err(vec![Violation::at_root("must be JSON")]),
            };
        };
        let Some(visits) = schema.cost.visits(&value) else {
            return Ok(());
        };
        if schema.validator.is_valid(&value) {
            return Ok(());
        }
        if visits > MAX_EXPLAINED {
            return Err(vec![Violation::at_root("must match the tool's schema")]);
        }
        let errors = schema.validator.iter_errors(&value).take(MAX_VIOLATIONS);
        Err(errors.map(|error| Violation::of(&error)).collect())
    }

    /// The tools whose calls are accepted as they are.
    pub fn unvalidated(&self) -> &[Unvalidated] {
        &self.unvalidated
    }

    /// The names of all tools.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.checks.keys().map(String::as_str)
    }
}

/// What the schemas of one request may still cost.
struct Budget {
    bytes: usize,
    patterns: usize,
}

impl Budget {
    fn compile(&mut self, schema: &RawValue) -> Result<Schema, String> {
        let text = schema.get();
        if text.len() > MAX_SCHEMA || text.len() > self.bytes {
            return Err("too large".to_owned());
        }
        let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let patterns = patterns(&value);
        if patterns > self.patterns {
            return Err("too many patterns".to_owned());
        }
        let cost = Cost::of(&value)?;
        self.bytes -= text.len();
        self.patterns -= patterns;
        let engine = PatternOptions::regex()
            .size_limit(MAX_PATTERN_SIZE)
            .dfa_size_limit(MAX_PATTERN_SIZE);
        jsonschema::options()
            .offline()
            .should_validate_formats(false)
            .with_pattern_options(engine)
            .build(&value)
            .map(|validator| Schema { validator, cost })
            .map_err(|error| violation::bounded(&error.masked(), 200))
    }
}

/// Regular expressions in a schema: at most this many, since a property may be called `pattern`.
fn patterns(schema: &Value) -> usize {
    match schema {
        Value::Array(items) => items.iter().map(patterns).sum(),
        Value::Object(members) => members
            .iter()
            .map(|(key, value)| match (key.as_str(), value) {
                ("pattern", Value::String(_)) => 1,
                ("patternProperties", Value::Object(by_pattern)) => {
                    by_pattern.len() + patterns(value)
                }
                _ => patterns(value),
            })
            .sum(),
        _ => 0,
    }
}

//! The tools a request offers, as the guards ask about them.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use serde_json::Value;
use serde_json::value::RawValue;

use crate::turn;

/// Tools a request offers: names, and the JSON Schema of the arguments where one was given.
///
/// Most answers name no tool, so whatever a name is looked up in is made when one comes.
#[derive(Debug)]
pub struct Offered {
    tools: Arc<[turn::Tool]>,
    names: OnceLock<Names>,
}

/// Where names are looked up; values are positions among the tools.
#[derive(Debug, Default)]
struct Names {
    exact: HashMap<Box<str>, usize>,
    /// Lower-cased names; `None` where two tools differ in case only.
    folded: HashMap<String, Option<usize>>,
    /// Lower-cased last segments of namespaced names; `None` where two tools share one.
    tails: HashMap<String, Option<usize>>,
    /// Schemas, parsed when first asked for; none where one is not JSON.
    schemas: Box<[OnceLock<Option<Value>>]>,
}

impl Names {
    fn of(tools: &[turn::Tool]) -> Self {
        let mut names = Self {
            schemas: tools.iter().map(|_| OnceLock::new()).collect(),
            ..Self::default()
        };
        for (index, tool) in tools.iter().enumerate() {
            if tool.name.is_empty() || names.exact.contains_key(&*tool.name) {
                continue;
            }
            names.exact.insert(tool.name.as_str().into(), index);
            note(&mut names.folded, tool.name.to_lowercase(), index);
            if let Some(tail) = tail(&tool.name) {
                note(&mut names.tails, tail.to_lowercase(), index);
            }
        }
        names
    }
}

impl Offered {
    /// What `tools` offer. The second of two tools with one name is ignored.
    pub fn new(tools: Arc<[turn::Tool]>) -> Self {
        Self {
            tools,
            names: OnceLock::new(),
        }
    }

    /// Whether no tool is offered.
    pub fn is_empty(&self) -> bool {
        self.tools.is_empty()
    }

    /// The tools, in the client's order.
    pub fn tools(&self) -> &[turn::Tool] {
        &self.tools
    }

    /// Names in the client's order, each once.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let known = &self.lookup().exact;
        let named = self.tools.iter().enumerate();
        let first = named.filter(|(index, tool)| known.get(&*tool.name) == Some(index));
        first.map(|(_, tool)| tool.name.as_str())
    }

    /// The offered tool a model means by `name`: the exact one, else the only one that differs in
    /// case, else the only one that differs in its namespace (`functions.read` for `read`,
    /// `search` for `mcp__web__search`). Two candidates are none.
    pub fn resolve(&self, name: &str) -> Option<&str> {
        self.index(name).map(|i| self.tools[i].name.as_str())
    }

    /// The JSON Schema of an offered tool's arguments, by its exact name.
    pub fn schema(&self, name: &str) -> Option<&RawValue> {
        let index = *self.lookup().exact.get(name)?;
        self.tools[index].parameters.as_deref()
    }

    /// The same, parsed; none when it is not JSON.
    pub(in crate::guard) fn schema_value(&self, name: &str) -> Option<&Value> {
        let names = self.lookup();
        let index = *names.exact.get(name)?;
        let parse = || serde_json::from_str(self.tools[index].parameters.as_ref()?.get()).ok();
        names.schemas[index].get_or_init(parse).as_ref()
    }

    /// Whether any tool has an argument of this name.
    pub(super) fn has_property(&self, key: &str) -> bool {
        self.names().any(|name| {
            let properties = self
                .schema_value(name)
                .and_then(|schema| schema.get("properties"));
            properties.is_some_and(|properties| properties.get(key).is_some())
        })
    }

    fn lookup(&self) -> &Names {
        self.names.get_or_init(|| Names::of(&self.tools))
    }

    fn index(&self, name: &str) -> Option<usize> {
        let names = self.lookup();
        if let Some(&index) = names.exact.get(name) {
            return Some(index);
        }
        let folded = name.to_lowercase();
        if let Some(&found) = names.folded.get(&folded) {
            return found;
        }
        let written = tail(&folded);
        if let Some(&found) = written.and_then(|tail| names.folded.get(tail)) {
            return found;
        }
        // `read` for `mcp__files__read`; a namespace that differs from the offered one is another tool.
        match written {
            None => names.tails.get(&folded).copied().flatten(),
            Some(_) => None,
        }
    }
}

fn note(map: &mut HashMap<String, Option<usize>>, key: String, index: usize) {
    map.entry(key)
        .and_modify(|known| *known = None)
        .or_insert(Some(index));
}

/// What follows the namespace in `functions.NAME`, `mcp__server__NAME`, `server/NAME`, `x:NAME`.
fn tail(name: &str) -> Option<&str> {
    let dot = name.rfind(['.', '/', ':']).map(|at| at + 1);
    let dunder = name.rfind("__").map(|at| at + 2);
    let at = dot.max(dunder)?;
    (at < name.len() && at > 1).then(|| &name[at..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(names: &[&str]) -> Offered {
        let tools: Arc<[turn::Tool]> = names
            .iter()
            .map(|name| turn::Tool {
                name: (*name).to_owned(),
                parameters: None,
                upstream: RawValue::from_string("{}".into()).unwrap(),
            })
            .collect();
        Offered::new(tools)
    }

    #[test]
    fn exact_then_case_then_namespace() {
        let tools = offered(&["Read", "read", "Bash", "mcp__web__search", "git.log"]);
        for (written, meant) in [
            ("read", Some("read")),
            ("Read", Some("Read")),
            ("READ", None),
            ("bash", Some("Bash")),
            ("functions.Bash", Some("Bash")),
            ("functions.bash", Some("Bash")),
            ("default_api.Bash", Some("Bash")),
            ("mcp__shell__Bash", Some("Bash")),
            ("search", Some("mcp__web__search")),
            ("Search", Some("mcp__web__search")),
            ("mcp__other__search", None),
            ("log", Some("git.log")),
            ("Bas", None),
            ("", None),
            ("functions.", None),
        ] {
            assert_eq!(tools.resolve(written), meant, "{written}");
        }
    }

    #[test]
    fn two_candidates_are_none() {
        let tools = offered(&["a__find", "b__find", "x"]);
        assert_eq!(tools.resolve("find"), None);
        assert_eq!(tools.resolve("a__find"), Some("a__find"));
        assert_eq!(offered(&["x", "x"]).names().count(), 1);
    }
}

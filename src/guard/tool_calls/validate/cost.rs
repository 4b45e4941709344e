//! What validating against a schema may cost, before anything is spent on it.
//!
//! A few hundred bytes of `$ref`s can demand 2^40 steps or a stack of any depth, and a library that
//! walks schemas finds out too late.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use super::super::repair::MAX_DEPTH;

/// Longest chain of subschemas and references. Compiling recurses along it, validating too.
const MAX_CHAIN: usize = 150;

/// Most subschemas that may apply to one and the same value. Compiling `unevaluatedProperties`
/// follows every path to each of them.
const MAX_AT_ONCE: u64 = 2_000;

/// Most visits of subschemas in one validation, of the order of a second at the very worst.
pub(super) const MAX_VISITS: u64 = 30_000_000;

/// Upper bounds of the subschemas visited per value, by how deeply the arguments nest.
pub(super) struct Cost(Vec<u64>);

impl Cost {
    /// The cost of `schema`.
    ///
    /// # Errors
    /// Why it must not even be compiled.
    pub(super) fn of(schema: &Value) -> Result<Self, &'static str> {
        let mut graph = Graph {
            root: schema,
            numbers: HashMap::new(),
            nodes: Vec::new(),
        };
        graph.add(schema, 0)?;
        let order = graph.order()?;
        let mut by_depth: Vec<u64> = Vec::new();
        let mut shallower = vec![0; graph.nodes.len()];
        while by_depth.len() <= MAX_DEPTH {
            let visits = graph.visits(&order, &shallower);
            if by_depth.is_empty() && visits.iter().any(|all| *all > MAX_AT_ONCE) {
                return Err("too many subschemas for one value");
            }
            let all = visits[0];
            if all > MAX_VISITS {
                break;
            }
            by_depth.push(all);
            if visits == shallower {
                // Deeper arguments add nothing: this bound holds for all of them.
                by_depth.resize(MAX_DEPTH + 1, all);
            }
            shallower = visits;
        }
        Ok(Self(by_depth))
    }

    /// Most visits for `arguments`; none where that is out of all bounds.
    pub(super) fn visits(&self, arguments: &Value) -> Option<u64> {
        let (values, depth) = size(arguments);
        let per_value = self.0.get(depth)?;
        values
            .checked_mul(*per_value)
            .filter(|all| *all <= MAX_VISITS)
    }
}

/// How many values `value` consists of and how deeply they nest.
fn size(value: &Value) -> (u64, usize) {
    let inner: Box<dyn Iterator<Item = &Value>> = match value {
        Value::Array(items) => Box::new(items.iter()),
        Value::Object(members) => Box::new(members.values()),
        _ => return (1, 0),
    };
    inner
        .map(size)
        .fold((1, 1), |(values, depth), (more, deep)| {
            (values + more, depth.max(deep + 1))
        })
}

/// The subschemas and what evaluating one of them evaluates next.
struct Graph<'a> {
    root: &'a Value,
    numbers: HashMap<*const Value, usize>,
    nodes: Vec<Node>,
}

#[derive(Default)]
struct Node {
    /// Evaluated against the same value.
    here: Vec<usize>,
    /// Evaluated against its items or members.
    inside: Vec<usize>,
}

impl<'a> Graph<'a> {
    fn add(&mut self, schema: &'a Value, chain: usize) -> Result<usize, &'static str> {
        if chain > MAX_CHAIN {
            return Err("too long a chain of subschemas");
        }
        let number = self.nodes.len();
        match self.numbers.entry(std::ptr::from_ref(schema)) {
            Entry::Occupied(known) => return Ok(*known.get()),
            Entry::Vacant(place) => place.insert(number),
        };
        self.nodes.push(Node::default());
        if let Value::Object(members) = schema {
            let node = self.edges(members, chain + 1)?;
            self.nodes[number] = node;
        }
        Ok(number)
    }

    fn edges(
        &mut self,
        schema: &'a Map<String, Value>,
        chain: usize,
    ) -> Result<Node, &'static str> {
        let mut node = Node::default();
        for (keyword, value) in schema {
            match keyword.as_str() {
                "$defs" | "definitions" | "enum" | "const" | "default" | "examples" => {}
                "$ref" | "$dynamicRef" | "$recursiveRef" => {
                    let target = value.as_str().and_then(|to| self.target(to));
                    // One that is not found here may still be found by its `$id` or `$anchor`;
                    // the whole schema costs at least as much.
                    let target = self.add(target.unwrap_or(self.root), chain)?;
                    node.here.push(target);
                }
                "properties" | "patternProperties" => {
                    for member in value.as_object().into_iter().flat_map(Map::values) {
                        node.inside.push(self.add(member, chain)?);
                    }
                }
                "dependentSchemas" | "dependencies" => {
                    for member in value.as_object().into_iter().flat_map(Map::values) {
                        node.here.push(self.add(member, chain)?);
                    }
                }
                _ => {
                    let inside = matches!(
                        keyword.as_str(),
                        "items"
                            | "prefixItems"
                            | "additionalItems"
                            | "contains"
                            | "additionalProperties"
                            | "propertyNames"
                            | "unevaluatedItems"
                            | "unevaluatedProperties"
                    );
                    let several = value.as_array().into_iter().flatten();
                    for subschema in several.chain(value.is_object().then_some(value)) {
                        let number = self.add(subschema, chain)?;
                        let edges = if inside {
                            &mut node.inside
                        } else {
                            &mut node.here
                        };
                        edges.push(number);
                    }
                }
            }
        }
        Ok(node)
    }

    fn target(&self, reference: &str) -> Option<&'a Value> {
        let pointer = percent_decode_str(reference.strip_prefix('#')?)
            .decode_utf8()
            .ok()?;
        self.root.pointer(&pointer)
    }

    /// The nodes so that each comes after all it evaluates against the same value (Kahn's
    /// algorithm).
    fn order(&self) -> Result<Vec<usize>, &'static str> {
        let mut users = vec![Vec::new(); self.nodes.len()];
        let mut waiting: Vec<usize> = Vec::with_capacity(self.nodes.len());
        for (number, node) in self.nodes.iter().enumerate() {
            waiting.push(node.here.len());
            for used in &node.here {
                users[*used].push(number);
            }
        }
        let mut order: Vec<usize> = (0..waiting.len()).filter(|n| waiting[*n] == 0).collect();
        let mut next = 0;
        while let Some(done) = order.get(next) {
            next += 1;
            for user in &users[*done] {
                waiting[*user] -= 1;
                if waiting[*user] == 0 {
                    order.push(*user);
                }
            }
        }
        if order.len() < self.nodes.len() {
            return Err("a schema that refers to itself without end");
        }
        Ok(order)
    }

    /// Visits for arguments one level deeper than those of `shallower`.
    fn visits(&self, order: &[usize], shallower: &[u64]) -> Vec<u64> {
        let mut visits = vec![0u64; self.nodes.len()];
        for number in order {
            let node = &self.nodes[*number];
            let here = node.here.iter().map(|n| visits[*n]);
            let inside = node.inside.iter().map(|n| shallower[*n]);
            visits[*number] = here.chain(inside).fold(1, u64::saturating_add);
        }
        visits
    }
}

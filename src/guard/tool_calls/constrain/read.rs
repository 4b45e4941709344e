//! Client schemas into [`Shape`]s.

use std::collections::HashMap;

use serde_json::value::RawValue;

use super::keywords::{alternatives, counts, integer, list, members, parsed, text};
use super::shape::{Object, Shape};
use crate::dialect::json::Members;

/// Most schema nodes one `response_format` is made of; what lies beyond may be anything.
const MAX_NODES: usize = 20_000;

/// Deepest nesting translated.
const MAX_DEPTH: usize = 40;

/// Most shared definitions.
const MAX_DEFINITIONS: usize = 400;

/// Reads the schemas of one re-ask.
#[derive(Default)]
pub(super) struct Reader<'a> {
    definitions: Vec<Shape>,
    /// The schema that references lead into.
    root: Option<&'a RawValue>,
    /// Its definitions so far, by reference.
    known: HashMap<String, usize>,
    /// Work done, in schema nodes.
    nodes: usize,
}

impl<'a> Reader<'a> {
    /// The shape of a tool's arguments.
    pub(super) fn arguments(&mut self, schema: &'a RawValue) -> Shape {
        self.root = Some(schema);
        self.known.clear();
        let first = self.definitions.len();
        let shape = match self.shape(schema, 0) {
            Shape::Any => Shape::any_object(),
            shape => shape,
        };
        self.break_loops(first);
        shape
    }

    /// The definitions that shapes refer to.
    pub(super) fn definitions(&self) -> &[Shape] {
        &self.definitions
    }

    /// A definition that starts with itself matches nothing; a grammar cannot even hold it.
    fn break_loops(&mut self, first: usize) {
        for start in first..self.definitions.len() {
            let mut reached = Vec::new();
            let mut open = self.definitions[start].heads();
            while let Some(next) = open.pop() {
                if !reached.contains(&next) {
                    reached.push(next);
                    open.extend(self.definitions[next].heads());
                }
            }
            if reached.contains(&start) {
                self.definitions[start] = Shape::Any;
            }
        }
    }

    fn shape(&mut self, schema: &'a RawValue, depth: usize) -> Shape {
        self.nodes += 1;
        if depth > MAX_DEPTH || self.nodes > MAX_NODES {
            return Shape::Any;
        }
        // A schema may also be `true` or `false`, for which the grammar builder has no words.
        let Some(node) = members(schema) else {
            return Shape::Any;
        };
        if let Some(reference) = parsed::<String>(node.get("$ref")) {
            return self.reference(&reference, depth);
        }
        if let Some(value) = node.get("const") {
            return Shape::OneOfValues(vec![value.to_owned()]);
        }
        if let Some(values) = list(node.get("enum")) {
            return Shape::OneOfValues(values.into_iter().map(ToOwned::to_owned).collect());
        }
        if self.is_object(&node) {
            return self.object_alternatives(&node, depth);
        }
        if let Some(alternatives) = alternatives(&node) {
            let shapes = alternatives.into_iter();
            return Shape::AnyOf(shapes.map(|one| self.shape(one, depth + 1)).collect());
        }
        if let Some(types) = parsed::<Vec<String>>(node.get("type")) {
            let shapes: Vec<_> = types
                .iter()
                .map(|name| self.typed(name, &node, depth))
                .collect();
            return if shapes.is_empty() {
                Shape::Any
            } else {
                Shape::AnyOf(shapes)
            };
        }
        match parsed::<String>(node.get("type")) {
            Some(name) => self.typed(&name, &node, depth),
            None => self.untyped(&node, depth),
        }
    }

    fn typed(&mut self, name: &str, node: &Members<'a>, depth: usize) -> Shape {
        match name {
            "object" => self.object_alternatives(node, depth),
            "array" => self.array(node, depth),
            "string" => Shape::Text(text(node)),
            "integer" => integer(node),
            "number" => Shape::Scalar("number"),
            "boolean" => Shape::Scalar("boolean"),
            "null" => Shape::Scalar("null"),
            _ => Shape::Any,
        }
    }

    fn untyped(&mut self, node: &Members<'a>, depth: usize) -> Shape {
        if let Some([only]) = list(node.get("allOf")).as_deref() {
            return self.shape(only, depth + 1);
        }
        if node.get("items").is_some() || node.get("prefixItems").is_some() {
            return self.array(node, depth);
        }
        Shape::Any
    }

    fn array(&mut self, node: &Members<'a>, depth: usize) -> Shape {
        let tuple = list(node.get("prefixItems")).or_else(|| list(node.get("items")));
        if let Some(items) = tuple {
            let items = items.into_iter();
            return Shape::Tuple(items.map(|item| self.shape(item, depth + 1)).collect());
        }
        let items = node.get("items");
        let (min, max) = counts(node, "minItems", "maxItems");
        Shape::Array {
            items: Box::new(items.map_or(Shape::Any, |item| self.shape(item, depth + 1))),
            min,
            max,
        }
    }

    /// Whether a schema describes an object, by its own words or by those it is combined of.
    fn is_object(&mut self, node: &Members<'a>) -> bool {
        let typed = parsed::<String>(node.get("type"));
        if typed.as_deref().is_some_and(|name| name != "object") {
            return false;
        }
        if node.get("type").is_some() && typed.is_none() {
            return false;
        }
        typed.is_some()
            || node.get("properties").is_some()
            || node.get("additionalProperties").is_some()
            || list(node.get("allOf"))
                .unwrap_or_default()
                .iter()
                .any(|part| {
                    let part = self.resolved(part);
                    part.is_some_and(|part| part.get("properties").is_some())
                })
    }

    /// An object, once for each alternative it is combined with.
    fn object_alternatives(&mut self, node: &Members<'a>, depth: usize) -> Shape {
        let base = self.object(node, depth);
        let Some(alternatives) = alternatives(node) else {
            return Shape::Object(base.finished());
        };
        let mut shapes = Vec::with_capacity(alternatives.len());
        for alternative in alternatives {
            self.nodes += base.properties.len();
            if self.nodes > MAX_NODES {
                return Shape::Object(base.finished());
            }
            let mut object = base.clone();
            if let Some(part) = self.resolved(alternative) {
                object.merge(self.object(&part, depth + 1));
            }
            shapes.push(Shape::Object(object.finished()));
        }
        Shape::AnyOf(shapes)
    }

    /// The object a schema and its `allOf` describe together.
    fn object(&mut self, node: &Members<'a>, depth: usize) -> Object {
        self.nodes += 1;
        let properties = node.get("properties").and_then(members);
        let own = properties.map_or(Vec::new(), |own| own.0);
        let mut object = Object {
            properties: Vec::with_capacity(own.len()),
            required: parsed(node.get("required")).unwrap_or_default(),
            others: None,
        };
        for (name, schema) in own {
            let shape = self.shape(schema, depth + 1);
            object.set(name.into_owned(), shape);
        }
        if depth < MAX_DEPTH && self.nodes < MAX_NODES {
            for part in list(node.get("allOf")).unwrap_or_default() {
                if let Some(part) = self.resolved(part) {
                    object.merge(self.object(&part, depth + 1));
                }
            }
        }
        object.others = match node.get("additionalProperties") {
            // Names by pattern are beyond the grammar.
            _ if node.get("patternProperties").is_some() => Some(Box::new(Shape::Any)),
            None if object.properties.is_empty() => Some(Box::new(Shape::Any)),
            None => object.others,
            Some(others) if others.get() == "false" => None,
            Some(others) => Some(Box::new(self.shape(others, depth + 1))),
        };
        object
    }

    /// A schema's members, behind its `$ref` if it is one.
    fn resolved(&mut self, schema: &'a RawValue) -> Option<Members<'a>> {
        let mut node = members(schema)?;
        for _ in 0..8 {
            let Some(reference) = parsed::<String>(node.get("$ref")) else {
                return Some(node);
            };
            node = members(self.target(&reference)?)?;
        }
        None
    }

    fn reference(&mut self, reference: &str, depth: usize) -> Shape {
        if let Some(definition) = self.known.get(reference) {
            return Shape::Reference(*definition);
        }
        let target = self.target(reference);
        let Some(target) = target.filter(|_| self.definitions.len() < MAX_DEFINITIONS) else {
            return Shape::Any;
        };
        // Known before it is read, since it may refer to itself.
        let definition = self.definitions.len();
        self.known.insert(reference.to_owned(), definition);
        self.definitions.push(Shape::Any);
        self.definitions[definition] = self.shape(target, depth + 1);
        Shape::Reference(definition)
    }

    /// The schema that a reference into the same document names (RFC 6901).
    fn target(&mut self, reference: &str) -> Option<&'a RawValue> {
        let pointer = reference.strip_prefix('#')?;
        let pointer = percent_encoding::percent_decode_str(pointer)
            .decode_utf8()
            .ok()?;
        let mut target = self.root?;
        // Each look-up reads the document anew.
        self.nodes += target.get().len() / 1024;
        if self.nodes > MAX_NODES {
            return None;
        }
        if pointer.is_empty() {
            return Some(target);
        }
        for step in pointer.strip_prefix('/')?.split('/') {
            let step = step.replace("~1", "/").replace("~0", "~");
            target = match members(target) {
                Some(node) => node.get(&step)?,
                None => list(Some(target))?.into_iter().nth(step.parse().ok()?)?,
            };
        }
        Some(target)
    }
}

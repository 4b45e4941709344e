//! The part of JSON Schema that llama-server's grammar builder has rules for.
//!
//! After `common/json-schema.cpp` and `common/json-schema-to-grammar.cpp` of llama.cpp b11434:
//! everything expressible here converts, and means there what it means in JSON Schema or less.

use std::fmt::{self, Display, Formatter};

use serde_json::value::RawValue;

/// A schema the grammar builder can take.
#[derive(Clone, Debug)]
pub(super) enum Shape {
    Any,
    /// One of the shared definitions.
    Reference(usize),
    AnyOf(Vec<Shape>),
    OneOfValues(Vec<Box<RawValue>>),
    Object(Object),
    Array {
        items: Box<Shape>,
        min: Option<u64>,
        max: Option<u64>,
    },
    Tuple(Vec<Shape>),
    Text(Text),
    Integer {
        min: Option<i64>,
        max: Option<i64>,
    },
    /// `number`, `boolean` or `null`.
    Scalar(&'static str),
}

/// An object: its properties in the client's order, which is the order the grammar decodes them in.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) properties: Vec<(String, Shape)>,
    pub(super) required: Vec<String>,
    /// What other properties may be; none when there may be no others.
    pub(super) others: Option<Box<Shape>>,
}

/// What the grammar can say about a string.
#[derive(Clone, Debug)]
pub(super) enum Text {
    Pattern(String),
    Format(String),
    Length { min: Option<u64>, max: Option<u64> },
}

impl Shape {
    pub(super) fn any_object() -> Self {
        Self::Object(Object {
            properties: Vec::new(),
            required: Vec::new(),
            others: Some(Box::new(Self::Any)),
        })
    }

    /// Definitions that this shape is an alternative name of: whatever they need as their first
    /// token, it needs too.
    pub(super) fn heads(&self) -> Vec<usize> {
        match self {
            Self::Reference(definition) => vec![*definition],
            Self::AnyOf(shapes) => shapes.iter().flat_map(Self::heads).collect(),
            _ => Vec::new(),
        }
    }
}

impl Object {
    /// Add a property, or say more about one that is known.
    pub(super) fn set(&mut self, name: String, shape: Shape) {
        match self.properties.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = shape,
            None => self.properties.push((name, shape)),
        }
    }

    /// Demand what `part` demands as well.
    pub(super) fn merge(&mut self, part: Object) {
        if self.properties.is_empty() {
            self.others = part.others;
        }
        for (name, shape) in part.properties {
            self.set(name, shape);
        }
        self.required.extend(part.required);
    }

    /// Put into the form the grammar builder needs: every required name is a property, or it could
    /// not be written; other names are allowed only if the rule for "none of these names", which
    /// llama.cpp builds of character classes without escaping, comes out right.
    pub(super) fn finished(mut self) -> Self {
        self.required.sort_unstable();
        self.required.dedup();
        for name in &self.required {
            if !self.properties.iter().any(|(known, _)| known == name) {
                let shape = self.others.as_deref().cloned().unwrap_or(Shape::Any);
                self.properties.push((name.clone(), shape));
            }
        }
        let plain =
            |name: &str| !name.is_empty() && !name.contains(['[', ']', '\\', '^', '-', '"']);
        if !self.properties.iter().all(|(name, _)| plain(name)) {
            self.others = None;
        }
        self
    }
}

impl Display for Shape {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("{}"),
            Self::Reference(definition) => write!(f, r##"{{"$ref":"#/$defs/d{definition}"}}"##),
            Self::AnyOf(shapes) => write!(f, r#"{{"anyOf":[{}]}}"#, Joined(shapes)),
            Self::OneOfValues(values) => {
                let values: Vec<&str> = values.iter().map(|value| value.get()).collect();
                write!(f, r#"{{"enum":[{}]}}"#, values.join(","))
            }
            Self::Object(object) => object.fmt(f),
            Self::Array { items, min, max } => {
                write!(f, r#"{{"type":"array","items":{items}"#)?;
                bound(f, "minItems", *min)?;
                bound(f, "maxItems", *max)?;
                f.write_str("}")
            }
            Self::Tuple(items) => {
                write!(f, r#"{{"type":"array","prefixItems":[{}]}}"#, Joined(items))
            }
            Self::Text(text) => {
                f.write_str(r#"{"type":"string""#)?;
                match text {
                    Text::Pattern(pattern) => write!(f, r#","pattern":{}"#, Quoted(pattern))?,
                    Text::Format(format) => write!(f, r#","format":{}"#, Quoted(format))?,
                    Text::Length { min, max } => {
                        bound(f, "minLength", *min)?;
                        bound(f, "maxLength", *max)?;
                    }
                }
                f.write_str("}")
            }
            Self::Integer { min, max } => {
                f.write_str(r#"{"type":"integer""#)?;
                bound(f, "minimum", *min)?;
                bound(f, "maximum", *max)?;
                f.write_str("}")
            }
            Self::Scalar(name) => write!(f, r#"{{"type":"{name}"}}"#),
        }
    }
}

impl Display for Object {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(r#"{"type":"object""#)?;
        if !self.properties.is_empty() {
            f.write_str(r#","properties":{"#)?;
            for (number, (name, shape)) in self.properties.iter().enumerate() {
                let comma = if number == 0 { "" } else { "," };
                write!(f, "{comma}{}:{shape}", Quoted(name))?;
            }
            f.write_str("}")?;
        }
        if !self.required.is_empty() {
            let names: Vec<String> = self
                .required
                .iter()
                .map(|n| Quoted(n).to_string())
                .collect();
            write!(f, r#","required":[{}]"#, names.join(","))?;
        }
        match self.others.as_deref() {
            None => f.write_str(r#","additionalProperties":false}"#),
            Some(Shape::Any) => f.write_str(r#","additionalProperties":true}"#),
            Some(others) => write!(f, r#","additionalProperties":{others}}}"#),
        }
    }
}

fn bound(f: &mut Formatter<'_>, name: &str, value: Option<impl Display>) -> fmt::Result {
    value.map_or(Ok(()), |value| write!(f, r#","{name}":{value}"#))
}

struct Joined<'a>(&'a [Shape]);

impl Display for Joined<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (number, shape) in self.0.iter().enumerate() {
            let comma = if number == 0 { "" } else { "," };
            write!(f, "{comma}{shape}")?;
        }
        Ok(())
    }
}

struct Quoted<'a>(&'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self.0).map_err(|_| fmt::Error)?)
    }
}

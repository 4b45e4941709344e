//! Where the value of a parameter ends, and what it is.

use super::literal::{Look, find_first, look, skip_space};
use super::params::{ParamCall, Phase};
use super::step::{Source, Step};
use super::typed::{self, Types};

/// A value being read.
#[derive(Clone, Debug)]
pub(super) struct Value {
    pub(super) key: String,
    pub(super) types: Types,
    pub(super) begin: usize,
    pub(super) at: usize,
    /// Parameters opened inside it and not closed.
    pub(super) nested: usize,
}

impl ParamCall {
    /// Read on in a value.
    pub(super) fn read_value(&mut self, source: Source<'_>, mut value: Value) -> Option<Step> {
        let (src, style) = (source.src, self.style);
        loop {
            let Some(found) = memchr::memchr(b'<', &src.as_bytes()[value.at..]) else {
                value.at = src.len();
                break;
            };
            value.at += found;
            match look(
                &src[value.at..],
                &[style.close, style.nested],
                source.has_ended(),
            ) {
                Look::Partial => break,
                Look::No => value.at += 1,
                Look::At(0) if value.nested > 0 && !self.flat => {
                    value.nested -= 1;
                    value.at += style.close.len();
                }
                Look::At(0) => match self.is_end(source, value.at + style.close.len()) {
                    None => break,
                    Some(true) => {
                        self.push(src, &value, value.at);
                        self.phase = Phase::Between(value.at + style.close.len());
                        return None;
                    }
                    Some(false) => value.at += style.close.len(),
                },
                Look::At(_) if self.flat && self.is_next_param(source, value.at) => {
                    self.push(src, &value, value.at);
                    self.phase = Phase::Between(value.at);
                    return None;
                }
                Look::At(_) => {
                    value.nested += 1;
                    value.at += style.nested.len();
                }
            }
        }
        if source.has_ended() {
            return self.unfinished(source, value);
        }
        self.phase = Phase::Value(value);
        Some(Step::More)
    }

    /// Whether what stands at `at` shows that the closing tag before it ended the value.
    fn is_end(&self, source: Source<'_>, at: usize) -> Option<bool> {
        let at = skip_space(source.src, at);
        let rest = &source.src[at..];
        if rest.is_empty() {
            return source.has_ended().then_some(true);
        }
        let style = self.style;
        // The answer's end left a part of the next tag.
        let begun = |tags: &[&str]| look(rest, tags, false) == Look::Partial;
        if source.has_ended() && (begun(&[style.param, style.end]) || begun(style.outer)) {
            return Some(true);
        }
        let inner = look(rest, &[style.param, style.end], source.has_ended());
        let outer = look(rest, style.outer, source.has_ended());
        match (inner, outer) {
            (Look::At(_), _) | (_, Look::At(_)) => Some(true),
            (Look::No, Look::No) => Some(false),
            _ => None,
        }
    }

    /// Whether a parameter of the tool that was not given yet opens at the start of a line here.
    fn is_next_param(&self, source: Source<'_>, at: usize) -> bool {
        let line_start = source.src[..at]
            .trim_end_matches([' ', '\t'])
            .ends_with('\n');
        let rest = source.src[at..].strip_prefix(self.style.param);
        let key = rest.and_then(|rest| self.style.naming.key(rest));
        let schema = source.offered.resolve(&self.name);
        let schema = schema.and_then(|name| source.offered.schema_value(name));
        let is_new = |key: &str| {
            let known = typed::of_property(schema, key) != Types::NONE;
            known && !self.keys.iter().any(|given| given == key)
        };
        line_start && key.is_some_and(|(key, ..)| is_new(key))
    }

    /// The answer ended inside a value.
    fn unfinished(&mut self, source: Source<'_>, mut value: Value) -> Option<Step> {
        let src = source.src;
        let cut = source.ended == Some(true);
        if cut {
            // What was written so far may hold whole samples: none of them ends it for certain.
            self.push(src, &value, src.len());
            return self.close(src.len(), false);
        }
        if !self.flat {
            self.flat = true;
            value.at = value.begin;
            value.nested = 0;
            self.phase = Phase::Value(value);
            return None;
        }
        // The value's own closing tag is missing where the call's is there.
        let mut from = value.begin;
        while let Some(at) = find_first(src, from, &[self.style.end]) {
            from = at + self.style.end.len();
            if self.is_end(source, from) == Some(true) {
                self.push(src, &value, at);
                return self.close(from, true);
            }
        }
        if src[value.begin..].contains(self.style.close) {
            // The value ended, and something that is no tag came after it.
            return Some(self.give_up());
        }
        self.push(src, &value, src.len());
        self.close(src.len(), false)
    }

    fn push(&mut self, src: &str, value: &Value, end: usize) {
        let mut text = &src[value.begin..end];
        if self.style.framed {
            // One line break after the opening and one before the closing tag are framing.
            let strip = |text: &str| text.strip_prefix('\n').map(str::len);
            let open = strip(text).or_else(|| strip(text.strip_prefix('\r')?));
            text = open.map_or(text, |length| &text[text.len() - length..]);
            let close = text.strip_suffix('\n');
            text = close.map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
        }
        if self.arguments.len() > 1 {
            self.arguments.push_str(", ");
        }
        self.keys.push(value.key.clone());
        typed::push_string(&value.key, &mut self.arguments);
        self.arguments.push_str(": ");
        typed::encode(text, value.types, &mut self.arguments);
    }
}

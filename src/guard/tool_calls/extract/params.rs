//! Calls whose arguments stand in tags of their own, one a parameter.
//!
//! A value is text, so it may hold the very tags that frame it. Tags inside a value are paired: a
//! closing tag ends the value only when no parameter opened inside the value is still open and when
//! what follows is the next parameter, the end of the call, or the end of the answer. Where the
//! pairing never comes out even, the answer is read again without it once it has ended.

use super::args::{ArgsScan, ArgsStep};
use super::json_call::find_first;
use super::literal::{Look, MAX_HEADER, look, skip_space};
pub(super) use super::param_style::{
    DSML, GLM, INVOKE, INVOKE_NAMESPACED, MINICPM, MINIMAX, ParamStyle, QWEN,
};
use super::step::{Found, Item, Source, Step};
use super::typed::{self, Types};

/// Reads such calls.
#[derive(Debug)]
pub(super) struct ParamCall {
    style: &'static ParamStyle,
    /// More calls may follow in the same wrapper.
    section: bool,
    phase: Phase,
    items: Vec<Item>,
    name: String,
    arguments: String,
    /// Tags in values are not paired any more.
    flat: bool,
}

#[derive(Debug)]
enum Phase {
    Name(usize),
    Between(usize),
    Key(usize),
    Value(Value),
    Json(ArgsScan),
    After(usize),
}

#[derive(Clone, Debug)]
struct Value {
    key: String,
    types: Types,
    begin: usize,
    at: usize,
    nested: usize,
}

impl ParamCall {
    /// The name begins at `begin`.
    pub(super) fn new(style: &'static ParamStyle, begin: usize, section: bool) -> Self {
        Self {
            style,
            section,
            phase: Phase::Name(begin),
            items: Vec::new(),
            name: String::new(),
            arguments: String::from("{"),
            flat: false,
        }
    }

    /// How far the text was read.
    pub(super) fn at(&self) -> usize {
        match &self.phase {
            Phase::Name(at) | Phase::Between(at) | Phase::Key(at) | Phase::After(at) => *at,
            Phase::Value(value) => value.at,
            Phase::Json(scan) => scan.at(),
        }
    }

    pub(super) fn read(&mut self, source: Source<'_>) -> Step {
        loop {
            let step = match &mut self.phase {
                Phase::Name(at) => {
                    let at = *at;
                    self.read_name(source, at)
                }
                Phase::Between(at) => {
                    let at = *at;
                    self.between(source, at)
                }
                Phase::Key(at) => {
                    let at = *at;
                    self.read_key(source, at)
                }
                Phase::Value(value) => {
                    let value = value.clone();
                    self.read_value(source, value)
                }
                Phase::Json(scan) => match scan.read(source, self.style.outer) {
                    ArgsStep::More => Some(Step::More),
                    ArgsStep::Sample => Some(self.give_up()),
                    ArgsStep::Done { text, end, whole } => {
                        self.arguments = text;
                        let after = skip_space(source.src, end);
                        let closed = source.src[after..].starts_with(self.style.end);
                        let end = if closed {
                            after + self.style.end.len()
                        } else {
                            end
                        };
                        self.finish(end, whole)
                    }
                },
                Phase::After(at) => {
                    let at = *at;
                    Some(self.after(source, at))
                }
            };
            if let Some(step) = step {
                return step;
            }
        }
    }

    fn read_name(&mut self, source: Source<'_>, begin: usize) -> Option<Step> {
        let rest = &source.src[begin..];
        let naming = self.style.naming;
        let Some((name, after)) = naming.name(rest) else {
            let open = rest.len() <= MAX_HEADER && naming.may_become_name(rest);
            let more = open && !source.has_ended();
            return Some(if more { Step::More } else { self.give_up() });
        };
        if !source.offers(name) {
            return Some(self.give_up());
        }
        self.name = name.to_owned();
        self.phase = Phase::Between(begin + after);
        None
    }

    fn between(&mut self, source: Source<'_>, from: usize) -> Option<Step> {
        let at = skip_space(source.src, from);
        let rest = &source.src[at..];
        let bare = self.arguments.len() == 1;
        let style = self.style;
        let tags = [style.param, style.end, style.close];
        let begun = rest.is_empty() || look(rest, &tags, false) == Look::Partial;
        if let Some(cut) = source.ended.filter(|_| begun) {
            // The closing tags are all that is missing, unless the token limit took more.
            return match (bare, cut) {
                (true, false) => Some(self.give_up()),
                (_, cut) => self.close(source.src.len(), !cut),
            };
        }
        match look(rest, &tags, source.has_ended()) {
            Look::At(0) => self.phase = Phase::Key(at + style.param.len()),
            Look::At(1) => return self.close(at + style.end.len(), true),
            // A closing tag too many.
            Look::At(_) => self.phase = Phase::Between(at + style.close.len()),
            found => match look(rest, style.outer, source.has_ended()) {
                Look::At(_) => return self.close(from, true),
                Look::No if rest.starts_with('{') && bare && style.json => {
                    self.phase = Phase::Json(ArgsScan::new(at));
                }
                Look::No if found == Look::No => return Some(self.give_up()),
                _ => return Some(Step::More),
            },
        }
        None
    }

    fn read_key(&mut self, source: Source<'_>, begin: usize) -> Option<Step> {
        let rest = &source.src[begin..];
        let Some((key, attributes, after)) = self.style.naming.key(rest) else {
            let open = rest.len() <= MAX_HEADER && !rest.contains('\n');
            return match source.ended {
                None if open => Some(Step::More),
                Some(true) => self.close(source.src.len(), false),
                _ => Some(self.give_up()),
            };
        };
        let schema = source.offered.resolve(&self.name);
        let schema = schema.and_then(|name| source.offered.schema_value(name));
        let types = if attributes.contains("string=\"true\"") {
            Types::STRING
        } else if attributes.contains("string=\"false\"") {
            Types::JSON
        } else {
            typed::of_property(schema, key)
        };
        self.phase = Phase::Value(Value {
            key: key.to_owned(),
            types,
            begin: begin + after,
            at: begin + after,
            nested: 0,
        });
        None
    }

    fn read_value(&mut self, source: Source<'_>, mut value: Value) -> Option<Step> {
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
        line_start
            && key.is_some_and(|(key, ..)| {
                let mut quoted = String::new();
                typed::push_string(key, &mut quoted);
                typed::of_property(schema, key) != Types::NONE
                    && !self.arguments.contains(&format!("{quoted}: "))
            })
    }

    /// The answer ended inside a value.
    fn unfinished(&mut self, source: Source<'_>, mut value: Value) -> Option<Step> {
        let src = source.src;
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
        typed::push_string(&value.key, &mut self.arguments);
        self.arguments.push_str(": ");
        typed::encode(text, value.types, &mut self.arguments);
    }

    /// The parameters end here.
    fn close(&mut self, end: usize, whole: bool) -> Option<Step> {
        if whole {
            self.arguments.push('}');
        }
        self.finish(end, whole)
    }

    fn finish(&mut self, end: usize, whole: bool) -> Option<Step> {
        let arguments = std::mem::replace(&mut self.arguments, String::from("{"));
        self.items.push(Item {
            name: std::mem::take(&mut self.name),
            arguments,
            end,
            whole,
        });
        if self.section && whole {
            self.phase = Phase::After(end);
            return None;
        }
        Some(self.give_up())
    }

    /// Whether another call follows in the same wrapper.
    fn after(&mut self, source: Source<'_>, end: usize) -> Step {
        let at = skip_space(source.src, end);
        match look(&source.src[at..], &[self.style.open], source.has_ended()) {
            Look::Partial => Step::More,
            Look::At(_) => {
                self.phase = Phase::Name(at + self.style.open.len());
                self.read(source)
            }
            Look::No => self.give_up(),
        }
    }

    fn give_up(&mut self) -> Step {
        let items = std::mem::take(&mut self.items);
        match items.last().map(|item| item.end) {
            None => Step::Reject,
            Some(end) => Step::Done(Found {
                end,
                items,
                family: self.style.family,
                closing: self.style.closing,
            }),
        }
    }
}

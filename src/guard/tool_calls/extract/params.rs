//! Calls whose arguments stand in tags of their own, one a parameter.
//!
//! A value is text, so it may hold the very tags that frame it. Tags inside a value are paired: a
//! closing tag ends the value only when no parameter opened inside the value is still open and when
//! what follows is the next parameter, the end of the call, or the end of the answer. Where the
//! pairing never comes out even, the answer is read again without it once it has ended.

use super::args::{ArgsScan, ArgsStep};
use super::literal::{Look, MAX_HEADER, look, skip_space};
use super::param_style::ParamStyle;
use super::param_value::Value;
use super::step::{Found, Item, Source, Step};
use super::typed::{self, Types};

/// Reads such calls.
#[derive(Debug)]
pub(super) struct ParamCall {
    pub(super) style: &'static ParamStyle,
    /// More calls may follow in the same wrapper.
    section: bool,
    pub(super) phase: Phase,
    items: Vec<Item>,
    pub(super) name: String,
    pub(super) arguments: String,
    /// Keys of the parameters read.
    pub(super) keys: Vec<String>,
    /// Tags in values are not paired any more.
    pub(super) flat: bool,
}

#[derive(Debug)]
pub(super) enum Phase {
    Name(usize),
    Between(usize),
    Key(usize),
    Value(Value),
    Json(ArgsScan),
    After(usize),
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
            keys: Vec::new(),
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
            let open = rest.len() <= 2 * MAX_HEADER && naming.may_become_name(rest);
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
            let open = rest.len() <= 2 * MAX_HEADER && self.style.naming.may_become_key(rest);
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

    /// The parameters end here.
    pub(super) fn close(&mut self, end: usize, whole: bool) -> Option<Step> {
        if whole {
            self.arguments.push('}');
        }
        self.finish(end, whole)
    }

    fn finish(&mut self, end: usize, whole: bool) -> Option<Step> {
        self.keys.clear();
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

    pub(super) fn give_up(&mut self) -> Step {
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

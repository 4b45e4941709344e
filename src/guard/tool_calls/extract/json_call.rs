//! Calls that are JSON with the name inside: `{"name": …, "arguments": …}`, alone, in a row or in an
//! array, with or without tags around.

use super::json::{JsonScan, Scan};
use super::literal::{Look, look, skip_space};
use super::piece::Family;
use super::shape::{self, Member, Shape};
use super::step::{Closing, Found, Item, Source, Step};

/// How a family writes such calls.
#[derive(Debug)]
pub(super) struct JsonStyle {
    pub(super) family: Family,
    pub(super) closing: Closing,
    /// Without tags: only a call's own keys count, and damage makes it text.
    pub(super) strict: bool,
    /// The arguments must fit the tool's schema.
    pub(super) fitting: bool,
}

const fn tagged(family: Family, tokens: &'static [&'static str]) -> JsonStyle {
    let closing = Closing {
        tokens,
        required: true,
        last: false,
        brackets: true,
    };
    JsonStyle {
        family,
        closing,
        strict: false,
        fitting: false,
    }
}

const fn open_ended(family: Family, tokens: &'static [&'static str]) -> JsonStyle {
    let mut style = tagged(family, tokens);
    style.closing.required = false;
    style
}

const fn whole(family: Family, tokens: &'static [&'static str], fitting: bool) -> JsonStyle {
    let mut style = tagged(family, tokens);
    style.closing.required = fitting;
    style.closing.last = true;
    style.closing.brackets = false;
    style.strict = true;
    style.fitting = fitting;
    style
}

pub(super) static HERMES: JsonStyle = tagged(Family::Hermes, &["</tool_call>"]);
pub(super) static TOOL_CALLS: JsonStyle = tagged(Family::Hermes, &["</tool_calls>"]);
pub(super) static FUNCTION_CALL: JsonStyle = tagged(Family::Hermes, &["</function_call>"]);
pub(super) static NEMOTRON: JsonStyle = tagged(Family::Hermes, &["</TOOLCALL>"]);
pub(super) static GRANITE: JsonStyle = open_ended(Family::Hermes, &["<|end_of_text|>"]);
pub(super) static COMMAND_R: JsonStyle = tagged(Family::Hermes, &["<|END_ACTION|>"]);
pub(super) static PYTHON_TAG: JsonStyle = open_ended(Family::Llama, &["<|eom_id|>", "<|eot_id|>"]);
pub(super) static MISTRAL: JsonStyle = open_ended(Family::Mistral, &["[/TOOL_CALLS]", "</s>"]);
pub(super) static BARE: JsonStyle = whole(Family::Llama, &["<|eom_id|>", "<|eot_id|>"], false);
pub(super) static FENCED: JsonStyle = whole(Family::Fenced, &["```"], true);

/// Reads such calls.
#[derive(Debug)]
pub(super) struct JsonCall {
    style: &'static JsonStyle,
    scan: JsonScan,
    members: Vec<Member>,
    named: bool,
    items: Vec<Item>,
    phase: Phase,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Reading,
    /// A call ended here; another may follow.
    Between(usize),
    /// Damaged: the next closing token from here on ends it.
    Lost(usize),
}

impl JsonCall {
    /// The opening bracket of the JSON is at `begin`.
    pub(super) fn new(style: &'static JsonStyle, begin: usize) -> Self {
        Self {
            style,
            scan: JsonScan::new(begin),
            members: Vec::new(),
            named: false,
            items: Vec::new(),
            phase: Phase::Reading,
        }
    }

    /// How far the text was read.
    pub(super) fn at(&self) -> usize {
        match self.phase {
            Phase::Reading => self.scan.at(),
            Phase::Between(at) | Phase::Lost(at) => at,
        }
    }

    pub(super) fn read(&mut self, source: Source<'_>) -> Step {
        loop {
            let step = match self.phase {
                Phase::Reading => self.reading(source),
                Phase::Between(end) => self.between(source, end),
                Phase::Lost(from) => Some(self.lost(source, from)),
            };
            if let Some(step) = step {
                return step;
            }
        }
    }

    fn reading(&mut self, source: Source<'_>) -> Option<Step> {
        let src = source.src;
        match self.scan.next(src) {
            Scan::More if self.is_foreign(src) => Some(self.give_up()),
            Scan::More if !source.has_ended() => Some(Step::More),
            Scan::More => Some(self.unfinished(source)),
            Scan::Placeholder => Some(self.give_up()),
            Scan::Member(key, value) => {
                let known = shape::key(src, &key);
                let name = shape::is_name_key(known).then(|| shape::text(&src[value.clone()]));
                self.members.push((key, value));
                if self.style.strict && !shape::is_call_key(known) {
                    return Some(self.give_up());
                }
                let name = name.flatten()?;
                self.named = source.offers(&name);
                (!self.named).then(|| self.give_up())
            }
            Scan::Element(value) => {
                let call = Shape::whole(src, value.start);
                let ok = self.take(source, &call, value.end, true);
                (!ok).then_some(Step::Reject)
            }
            Scan::Complete(end) => self.complete(source, end),
            Scan::Confused(at) => self.confused(source, at),
        }
    }

    /// Whether the member being read shows already that this is no call.
    fn is_foreign(&self, src: &str) -> bool {
        let open = self.scan.open_member().filter(|_| self.style.strict);
        open.is_some_and(|(key, _)| !shape::is_call_key(shape::key(src, &key)))
    }

    fn complete(&mut self, source: Source<'_>, end: usize) -> Option<Step> {
        let object = source.src.as_bytes()[self.scan.begin()] == b'{';
        if object {
            let call = Shape::of(source.src, std::mem::take(&mut self.members));
            if !self.take(source, &call, end, true) {
                return Some(self.give_up());
            }
            self.named = false;
            self.phase = Phase::Between(end);
            return None;
        }
        match self.items.last_mut() {
            Some(item) => item.end = end,
            None => return Some(Step::Reject),
        }
        Some(self.done())
    }

    /// Another object may follow, after white space, commas or semicolons.
    fn between(&mut self, source: Source<'_>, end: usize) -> Option<Step> {
        let mut at = skip_space(source.src, end);
        if matches!(source.src.as_bytes().get(at), Some(b';' | b',')) {
            at = skip_space(source.src, at + 1);
        }
        match source.src.as_bytes().get(at) {
            None if !source.has_ended() => Some(Step::More),
            Some(b'{') => {
                self.scan = JsonScan::new(at);
                self.phase = Phase::Reading;
                None
            }
            _ => Some(self.done()),
        }
    }

    fn confused(&mut self, source: Source<'_>, at: usize) -> Option<Step> {
        let rest = &source.src[at..];
        match look(rest, self.style.closing.tokens, source.has_ended()) {
            Look::Partial => return Some(Step::More),
            Look::At(_) => return Some(self.best_effort(source, at, true)),
            // A closing token of which the answer's end left a part.
            Look::No if look(rest, self.style.closing.tokens, false) == Look::Partial => {
                return Some(self.best_effort(source, at, true));
            }
            Look::No => {}
        }
        let sample = self.scan.expects_item() && (rest.starts_with('<') || rest.starts_with('…'));
        if self.style.strict || sample || !(self.named || self.scan.open_element().is_some()) {
            return Some(self.give_up());
        }
        self.phase = Phase::Lost(at);
        None
    }

    fn lost(&mut self, source: Source<'_>, from: usize) -> Step {
        let src = source.src;
        let tokens = self.style.closing.tokens;
        if let Some(at) = find_first(src, from, tokens) {
            return self.best_effort(source, at, true);
        }
        if source.has_ended() {
            return self.best_effort(source, src.len(), source.ended == Some(false));
        }
        let keep = tokens.iter().map(|token| token.len()).max().unwrap_or(1);
        let next = src.floor_char_boundary(src.len().saturating_sub(keep));
        self.phase = Phase::Lost(next.max(from));
        Step::More
    }

    /// The answer ended inside the JSON.
    fn unfinished(&mut self, source: Source<'_>) -> Step {
        let src = source.src;
        let cut = source.ended == Some(true);
        if self.style.strict && !cut {
            return self.give_up();
        }
        if self.scan.in_text() && !cut {
            // A string without its end swallowed what follows: the envelope ends at a closing token
            // that ends the answer or stands before another call.
            let begin = self.scan.begin();
            if let Some(at) = find_outer(src, begin, self.style.closing.tokens) {
                return self.best_effort(source, at, true);
            }
        }
        let whole = !cut && self.scan.after_value();
        self.best_effort(source, src.len(), whole)
    }

    /// Make a call of what is there before `end`.
    fn best_effort(&mut self, source: Source<'_>, end: usize, whole: bool) -> Step {
        let begin = match source.src.as_bytes()[self.scan.begin()] {
            b'{' => Some(self.scan.begin()),
            _ => self.scan.open_element(),
        };
        let call = begin.map(|begin| Shape::partial(source.src, begin, end));
        match call {
            Some(call) if self.take(source, &call, end, whole) => self.done(),
            _ => self.give_up(),
        }
    }

    /// Take `call` for a call, if it is one.
    fn take(&mut self, source: Source<'_>, call: &Shape, end: usize, whole: bool) -> bool {
        let Some(name) = call.name.as_ref().filter(|name| source.offers(name)) else {
            return false;
        };
        let fits = || {
            let exact = source.offered.resolve(name)?;
            let schema = source.offered.schema_value(exact);
            let args = &source.src[call.arguments.clone()?];
            shape::is_plausible(schema, args, self.style.fitting && whole).then_some(())
        };
        if self.style.strict && whole && fits().is_none() {
            return false;
        }
        self.items.push(Item {
            arguments: call.arguments_text(source.src),
            name: name.clone(),
            end,
            whole,
        });
        true
    }

    fn give_up(&mut self) -> Step {
        if self.items.is_empty() || self.style.strict {
            Step::Reject
        } else {
            self.done()
        }
    }

    fn done(&mut self) -> Step {
        let items = std::mem::take(&mut self.items);
        Step::Done(Found {
            end: items.last().map_or(0, |item| item.end),
            items,
            family: self.style.family,
            closing: self.style.closing,
        })
    }
}

/// The first of `tokens` at or after `from`.
pub(super) fn find_first(src: &str, from: usize, tokens: &[&str]) -> Option<usize> {
    tokens
        .iter()
        .filter_map(|token| memchr::memmem::find(&src.as_bytes()[from..], token.as_bytes()))
        .min()
        .map(|at| from + at)
}

/// The first of `tokens` at or after `from` that ends the text or stands before a tag, else the last.
fn find_outer(src: &str, from: usize, tokens: &[&str]) -> Option<usize> {
    let mut last = None;
    let mut at = from;
    while let Some(found) = find_first(src, at, tokens) {
        let length = tokens
            .iter()
            .filter(|t| src[found..].starts_with(**t))
            .map(|t| t.len())
            .max();
        at = found + length.unwrap_or(1);
        last = Some(found);
        let next = src.as_bytes().get(skip_space(src, at));
        if matches!(next, None | Some(b'<')) {
            break;
        }
    }
    last
}

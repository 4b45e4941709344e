//! Calls that are JSON with the name inside: `{"name": …, "arguments": …}`, alone, in a row or in an
//! array, with or without tags around.

use super::json::{JsonScan, Scan};
use super::json_style::JsonStyle;
use super::literal::{Look, find_first, find_outer, floor, look, skip_space};
use super::shape::{self, Member, Shape};
use super::step::{Found, Item, Source, Step};

/// Reads such calls.
#[derive(Debug)]
pub(super) struct JsonCall {
    style: &'static JsonStyle,
    scan: JsonScan,
    members: Vec<Member>,
    named: bool,
    fenced: bool,
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
            fenced: false,
            items: Vec::new(),
            phase: Phase::Reading,
        }
    }

    /// The JSON stands in a code fence of its own.
    pub(super) fn fenced(mut self) -> Self {
        self.fenced = true;
        self
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
            Scan::More if self.is_foreign(source) => Some(self.give_up()),
            Scan::More if !source.has_ended() => Some(Step::More),
            Scan::More => Some(self.unfinished(source)),
            Scan::Placeholder => Some(self.give_up()),
            Scan::Member(key, value) => {
                let known = shape::key(src, &key);
                let name = shape::is_name_key(known).then(|| shape::text(&src[value.clone()]));
                self.members.push((key, value));
                if self.is_foreign_key(source, known) {
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
    fn is_foreign(&self, source: Source<'_>) -> bool {
        let open = self.scan.open_member();
        open.is_some_and(|(key, _)| self.is_foreign_key(source, shape::key(source.src, &key)))
    }

    fn is_foreign_key(&self, source: Source<'_>, key: &str) -> bool {
        let argument = || self.style.nameless && source.offered.has_property(key);
        self.style.strict && !shape::is_call_key(key) && !argument()
    }

    fn complete(&mut self, source: Source<'_>, end: usize) -> Option<Step> {
        let object = source.src.as_bytes()[self.scan.begin()] == b'{';
        if object && self.style.nameless && self.take_nameless(source, end) {
            self.phase = Phase::Between(end);
            return None;
        }
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
        let src = source.src;
        let rest = &src[at..];
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
        // The quote that came too late may be that of the next call.
        let tokens = self.style.closing.tokens;
        if let (Some(end), true) = find_outer(&src[..at], self.scan.begin(), tokens) {
            return Some(self.best_effort(source, end, true));
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
        let next = floor(src, src.len().saturating_sub(keep));
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
            if let (Some(at), _) = find_outer(src, begin, self.style.closing.tokens) {
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

    /// Take the whole object for the arguments of the only tool they fit.
    fn take_nameless(&mut self, source: Source<'_>, end: usize) -> bool {
        let arguments = &source.src[self.scan.begin()..end];
        let Some(name) = shape::only_fit(source.offered, arguments) else {
            return false;
        };
        self.members.clear();
        self.items.push(Item {
            name: name.to_owned(),
            arguments: arguments.to_owned(),
            end,
            whole: true,
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
        let mut closing = self.style.closing;
        closing.fenced |= self.fenced;
        Step::Done(Found {
            end: items.last().map_or(0, |item| item.end),
            items,
            family: self.style.family,
            closing,
        })
    }
}

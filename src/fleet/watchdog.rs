//! Slots that work without getting anywhere: found by comparing what `/slots` tells from one look to the next. No
//! clock, no socket.
//!
//! A backend in that state passes its checks: llama-server answers `/health` and `/slots` from other threads than
//! the one that decodes. What is done about it goes up step by step, each time giving the step before a chance
//! ([`Heal`]).

use std::time::Duration;

use tokio::time::Instant;

use crate::config::Watchdog as Patience;

/// What a busy slot works on, and how far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Work {
    pub(super) slot: u32,
    /// The server's number of the task; another one is a new beginning.
    pub(super) task: i64,
    /// Tokens read and generated.
    pub(super) done: u64,
}

/// What one look at `/slots` shows, with what is known besides.
#[derive(Clone, Debug, Default)]
pub(super) struct Look {
    pub(super) busy: Vec<Work>,
    /// Slots without work.
    pub(super) idle: usize,
    /// Requests of this gateway that no slot has begun.
    pub(super) unbegun: usize,
    /// Requests of this gateway that it has answered so far.
    pub(super) answered: u64,
    /// Requests of this gateway that it has, begun or not.
    pub(super) own: usize,
    /// When the first request was closed that may still be worked on.
    pub(super) closed: Option<Instant>,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Finding {
    /// A slot is busy and gets nowhere.
    Stuck,
    /// Requests wait although a slot is idle.
    Unbegun,
    /// A closed request is still worked on.
    Orphan,
}

impl Finding {
    /// Every finding.
    pub const ALL: [Self; 3] = [Self::Stuck, Self::Unbegun, Self::Orphan];

    /// Its name in metrics and for the hook.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stuck => "stuck",
            Self::Unbegun => "unbegun",
            Self::Orphan => "orphan",
        }
    }

    /// In words for people.
    pub(super) const fn in_words(self) -> &'static str {
        match self {
            Self::Stuck => "a slot is busy and makes no progress",
            Self::Unbegun => "requests wait although a slot is idle",
            Self::Orphan => "a closed request is still worked on",
        }
    }

    /// Whether the server will not get out of it by itself. An orphan ends some time, and holds its slot only.
    const fn needs_healing(self) -> bool {
        !matches!(self, Self::Orphan)
    }
}

/// What is done about a backend that is stuck, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Heal {
    /// Close our requests that have been silent, which go on elsewhere.
    Close,
    /// Give it no new requests.
    Quarantine,
    /// Those that still get somewhere have had their time: run the hook.
    Hook,
}

impl Heal {
    /// Every step.
    pub const ALL: [Self; 3] = [Self::Close, Self::Quarantine, Self::Hook];

    /// Its name in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Close => "close",
            Self::Quarantine => "quarantine",
            Self::Hook => "hook",
        }
    }
}

/// What a look led to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Found now, and not by the look before.
    pub(super) found: Option<Finding>,
    /// To be done now.
    pub(super) heal: Option<Heal>,
    /// It is over, after so long.
    pub(super) over: Option<Duration>,
}

/// What is remembered from look to look.
#[derive(Debug, Default)]
pub(super) struct Watchdog {
    /// Busy slots with the time of their last progress.
    seen: Vec<(Work, Instant)>,
    /// Since when requests wait although a slot is idle.
    unbegun: Option<Instant>,
    answered: u64,
    now: Option<Case>,
}

/// A finding under treatment.
#[derive(Clone, Copy, Debug)]
struct Case {
    finding: Finding,
    since: Instant,
    step: Option<(Heal, Instant)>,
}

impl Watchdog {
    /// Takes in what is seen at `now`.
    pub(super) fn look(&mut self, look: &Look, now: Instant, patience: &Patience) -> Verdict {
        let moves = self.remember(look, now);
        let found = self.find(look, now, patience);
        // Closed requests may leave their slots to others that get nowhere either.
        let found = found.or_else(|| self.finding().filter(|_| self.is_healing() && !moves));
        let before = self.now.filter(|case| Some(case.finding) == found);
        let Some(finding) = found else {
            let case = self.now.take();
            return Verdict {
                over: case.map(|case| now - case.since),
                ..Verdict::default()
            };
        };
        let mut case = before.unwrap_or(Case {
            finding,
            since: now,
            // Another finding does not begin from the first step again.
            step: self.now.and_then(|case| case.step),
        });
        let heal = case
            .next(look, now, patience)
            .filter(|_| finding.needs_healing());
        if let Some(heal) = heal {
            case.step = Some((heal, now));
        }
        self.now = Some(case);
        Verdict {
            found: before.is_none().then_some(finding),
            heal,
            over: None,
        }
    }

    /// What is wrong as of the last look.
    pub(super) fn finding(&self) -> Option<Finding> {
        self.now.map(|case| case.finding)
    }

    /// Whether something is being done about it.
    pub(super) fn is_healing(&self) -> bool {
        self.now
            .is_some_and(|case| case.step.is_some() && case.finding.needs_healing())
    }

    /// It was started anew, or does not answer: what was seen says nothing any more.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Whether it has nothing to do, or has got on with something since the look before.
    fn remember(&mut self, look: &Look, now: Instant) -> bool {
        let seen = std::mem::take(&mut self.seen);
        let got_on = |work: &Work| {
            let same = |before: &&Work| (before.slot, before.task) == (work.slot, work.task);
            let before = seen.iter().map(|(before, _)| before).find(same);
            work.done > before.map_or(0, |before| before.done)
        };
        let moves = look.busy.is_empty() || look.busy.iter().any(got_on);
        self.seen = look
            .busy
            .iter()
            .map(|work| {
                let same = seen.iter().find(|(before, _)| before == work);
                (*work, same.map_or(now, |(_, since)| *since))
            })
            .collect();
        // An answer in one piece is begun when it is complete: a slot may be at work for each of those.
        let waits = look.unbegun > look.busy.len() && look.idle > 0;
        // Under many short requests some are on their way at any moment: others than those of the last look.
        let stands = look.answered == std::mem::replace(&mut self.answered, look.answered);
        if !stands {
            self.unbegun = None;
        }
        self.unbegun = waits.then(|| self.unbegun.unwrap_or(now));
        moves || !stands
    }

    fn find(&self, look: &Look, now: Instant, patience: &Patience) -> Option<Finding> {
        let long = |since: Instant, most: Duration| now.saturating_duration_since(since) >= most;
        let stuck = |(_, since): &(Work, Instant)| long(*since, patience.stuck_after);
        if self.seen.iter().any(stuck) {
            return Some(Finding::Stuck);
        }
        if self
            .unbegun
            .is_some_and(|since| long(since, patience.stuck_after))
        {
            return Some(Finding::Unbegun);
        }
        let orphan = look.closed.filter(|_| !look.busy.is_empty());
        orphan
            .is_some_and(|since| long(since, patience.orphan_after))
            .then_some(Finding::Orphan)
    }
}

impl Case {
    /// The step that is due.
    fn next(&self, look: &Look, now: Instant, patience: &Patience) -> Option<Heal> {
        let (last, at) = match self.step {
            None => return Some(Heal::Close),
            Some(step) => step,
        };
        let (next, after) = match last {
            Heal::Close => (Heal::Quarantine, patience.close_for),
            Heal::Quarantine if look.own == 0 => (Heal::Hook, Duration::ZERO),
            Heal::Quarantine => (Heal::Hook, patience.drain_for),
            Heal::Hook => (Heal::Hook, patience.hook_every),
        };
        (now - at >= after).then_some(next)
    }
}

#[cfg(test)]
mod tests;

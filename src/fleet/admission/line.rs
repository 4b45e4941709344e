//! Who waits, and who is next: fair between principals, and between the sessions of one.
//!
//! Three rings are served one after the other: turns that go on after a backend failed them,
//! interactive turns, batch turns. A batch turn that has waited long enough becomes an interactive one.
//! In a ring the principals take turns by deficit round robin (Shreedhar & Varghese 1995), where a
//! request costs more the longer it is; the sessions of a principal take turns; the turns of a conversation
//! keep their order.

use std::time::Duration;

use super::caller::Caller;
use super::evict::Leaving;
use super::ring::Ring;
use crate::config::Priority;

/// Bytes of a request that cost as much as its being one.
const BYTES_PER_UNIT: u64 = 64 << 10;
/// What the longest request costs: a bound on how long it makes its principal wait.
pub(super) const MOST_COST: u64 = 16;

/// Bounds of a line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Requests.
    pub(super) waiting: usize,
    /// Bytes of their bodies, all together.
    pub(super) bytes: u64,
}

/// Why there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoRoom {
    /// Too many wait, or too much.
    Full,
    /// The principal has as many waiting as anybody.
    Share,
}

/// Names one that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket(pub(super) u64);

/// One that waits.
#[derive(Debug)]
pub(super) struct Entry<T> {
    pub(super) ticket: Ticket,
    pub(super) caller: Caller,
    /// When it came.
    pub(super) since: Duration,
    pub(super) item: T,
}

impl<T> Entry<T> {
    pub(super) fn cost(&self) -> u64 {
        (1 + self.caller.bytes / BYTES_PER_UNIT).min(MOST_COST)
    }
}

/// See the module's documentation. Times are counted from any fixed moment.
#[derive(Debug)]
pub(super) struct Line<T> {
    returning: Ring<T>,
    interactive: Ring<T>,
    batch: Ring<T>,
    len: usize,
    bytes: u64,
    tickets: u64,
}

impl<T> Line<T> {
    pub(super) fn new() -> Self {
        Self {
            returning: Ring::new(),
            interactive: Ring::new(),
            batch: Ring::new(),
            len: 0,
            bytes: 0,
            tickets: 0,
        }
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All that wait, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry<T>> {
        let rings = [&self.returning, &self.interactive, &self.batch];
        rings.into_iter().flat_map(Ring::entries)
    }

    /// The one that came first of those that go on and the interactive ones.
    pub(super) fn oldest(&self) -> Option<&Entry<T>> {
        let returning = self.returning.oldest();
        returning.or_else(|| self.interactive.oldest())
    }

    /// Whether an earlier turn of the caller's conversation waits.
    pub(super) fn has_conversation(&self, caller: &Caller) -> bool {
        let rings = [&self.returning, &self.interactive, &self.batch];
        let mut own = rings.into_iter().flat_map(|ring| ring.session(caller));
        let same = |c: &Caller| (c.class, c.conversation) == (caller.class, caller.conversation);
        own.any(|entry| same(&entry.caller))
    }

    /// A turn that was served before goes on; it is never refused.
    pub(super) fn push_returning(&mut self, caller: Caller, now: Duration, item: T) -> Ticket {
        let entry = self.entry(caller, now, item);
        let ticket = entry.ticket;
        self.returning.push(entry);
        ticket
    }

    /// Takes a new one in. Where the line is too long, the newest one of whoever has the most in it
    /// has to go instead: batch before interactive, and never for one who would then have as many. Where their bodies
    /// are too many bytes, the newest ones of whoever has the most bytes in it have to go in the same way.
    ///
    /// # Errors
    /// Why there is no room; then nobody has to go.
    pub(super) fn push(
        &mut self,
        caller: Caller,
        now: Duration,
        item: T,
        bounds: Bounds,
    ) -> Result<(Ticket, Vec<T>), NoRoom> {
        if bounds.waiting == 0 {
            return Err(NoRoom::Full);
        }
        let bytes = self.bytes.saturating_add(caller.bytes);
        let over = bytes.saturating_sub(bounds.bytes);
        let leaving = if over > 0 && !self.is_empty() {
            // Each of them leaves a place, too.
            self.lighten(&caller, over)?
        } else if self.len >= bounds.waiting {
            vec![self.victim(&caller)?]
        } else {
            Vec::new()
        };
        let evicted = leaving.into_iter().filter_map(|gone| self.remove(gone));
        let evicted = evicted.collect();
        let entry = self.entry(caller, now, item);
        let ticket = entry.ticket;
        let aged = |earlier: &Entry<T>| earlier.caller.class == caller.class;
        let has_aged = self.interactive.session(&caller).any(aged);
        match caller.class {
            Priority::Batch if !has_aged => self.batch.push(entry),
            Priority::Batch | Priority::Interactive => self.interactive.push(entry),
        }
        Ok((ticket, evicted))
    }

    fn entry(&mut self, caller: Caller, since: Duration, item: T) -> Entry<T> {
        self.len += 1;
        self.bytes = self.bytes.saturating_add(caller.bytes);
        self.tickets += 1;
        Entry {
            ticket: Ticket(self.tickets),
            caller,
            since,
            item,
        }
    }

    /// Who has to go for `newcomer`.
    fn victim(&self, newcomer: &Caller) -> Result<Ticket, NoRoom> {
        if newcomer.class == Priority::Interactive
            && let Some((_, ticket)) = self.batch.largest()
        {
            return Ok(ticket);
        }
        let ring = self.ring(newcomer.class);
        let own = ring.count(newcomer.principal);
        match ring.largest() {
            Some((most, ticket)) if most > own + 1 => Ok(ticket),
            Some((most, _)) if own > 0 && most <= own => Err(NoRoom::Share),
            _ => Err(NoRoom::Full),
        }
    }

    /// Who has to go for `newcomer`, so that there are `over` bytes less.
    fn lighten(&self, newcomer: &Caller, over: u64) -> Result<Vec<Ticket>, NoRoom> {
        let mut leaving = Leaving::default();
        if newcomer.class == Priority::Interactive {
            leaving.add(&self.batch, over, 0);
        }
        let ring = self.ring(newcomer.class);
        let own = ring.bytes(newcomer.principal);
        leaving.add(ring, over, own.saturating_add(newcomer.bytes));
        let most = ring.heaviest().next().map_or(0, |(_, bytes)| bytes);
        match leaving.bytes >= over {
            true => Ok(leaving.tickets),
            false if own > 0 && most <= own => Err(NoRoom::Share),
            false => Err(NoRoom::Full),
        }
    }

    fn ring(&self, class: Priority) -> &Ring<T> {
        match class {
            Priority::Interactive => &self.interactive,
            Priority::Batch => &self.batch,
        }
    }

    /// What was taken could not be served after all: it is next.
    pub(super) fn put_back(&mut self, entry: Entry<T>) {
        self.len += 1;
        self.bytes = self.bytes.saturating_add(entry.caller.bytes);
        self.returning.push(entry);
    }

    /// Takes one out that no longer waits.
    pub(super) fn remove(&mut self, ticket: Ticket) -> Option<T> {
        let rings = [&mut self.returning, &mut self.interactive, &mut self.batch];
        let entry = rings.into_iter().find_map(|ring| ring.remove(ticket))?;
        self.left(&entry);
        Some(entry.item)
    }

    fn left(&mut self, entry: &Entry<T>) {
        self.len -= 1;
        self.bytes = self.bytes.saturating_sub(entry.caller.bytes);
    }

    /// Batch turns that have waited for `after` wait with the interactive ones from now on, and with them
    /// what comes after them in their session.
    pub(super) fn age(&mut self, now: Duration, after: Duration) {
        while let Some(turns) = self
            .batch
            .take_aged(|e| now.saturating_sub(e.since) >= after)
        {
            for entry in turns {
                self.interactive.push(entry);
            }
        }
    }

    /// Takes the next one that `accepts` what there is. Of a conversation only the first turn is asked.
    pub(super) fn take(&mut self, accepts: impl Fn(&T) -> bool) -> Option<Entry<T>> {
        let rings = [&mut self.returning, &mut self.interactive, &mut self.batch];
        let entry = rings.into_iter().find_map(|ring| ring.take(&accepts))?;
        self.left(&entry);
        Some(entry)
    }
}

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;

//! Who gives way where the bodies of those who wait are too many bytes.
//!
//! Whoever has the most bytes waiting loses its newest request, and again, until there is room. Nobody does who has no
//! more than the newcomer would have then; so a principal is never refused as long as it has no more than an equal
//! share of the bytes.

use std::collections::{BinaryHeap, HashMap};

use super::line::Ticket;
use super::ring::Ring;

/// Those who give way, and the bytes that sets free.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    pub(super) tickets: Vec<Ticket>,
    pub(super) bytes: u64,
}

impl Leaving {
    /// Adds those of `ring` that have to go until `needed` bytes are free: of principals that have more than `most`
    /// waiting there. It may be fewer.
    pub(super) fn add<T>(&mut self, ring: &Ring<T>, needed: u64, most: u64) {
        let mut untouched = ring.heaviest().peekable();
        // With what is left of those who have lost some.
        let mut lighter: BinaryHeap<(u64, u64)> = BinaryHeap::new();
        let mut newest = HashMap::new();
        while self.bytes < needed {
            let heaviest = lighter.peek().map_or(0, |(bytes, _)| *bytes);
            let next = match untouched.next_if(|(_, bytes)| *bytes >= heaviest) {
                Some((principal, bytes)) => Some((bytes, principal)),
                None => lighter.pop(),
            };
            let Some((bytes, principal)) = next.filter(|(bytes, _)| *bytes > most) else {
                return;
            };
            let requests = newest
                .entry(principal)
                .or_insert_with(|| ring.newest(principal).filter(|(_, bytes)| *bytes > 0));
            let Some((ticket, freed)) = requests.next() else {
                return;
            };
            self.tickets.push(ticket);
            self.bytes = self.bytes.saturating_add(freed);
            lighter.push((bytes.saturating_sub(freed), principal));
        }
    }
}

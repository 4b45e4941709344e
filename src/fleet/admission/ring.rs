//! Principals taking turns by deficit round robin, their sessions taking turns inside.
//!
//! Nothing here goes round: who is next is the first in an order by how many rounds each still lacks, so that a
//! long queue costs its lock little more than a short one.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use smallvec::SmallVec;

use super::caller::Caller;
use super::line::{Entry, MOST_COST, Ticket};

/// Turns of one session that are asked whether they take what there is.
const MOST_ASKED: usize = 16;

#[derive(Debug)]
pub(super) struct Ring<T> {
    lanes: HashMap<u64, Lane<T>>,
    /// Whose turn it is: the round in which a principal can pay for its first request, then its place in the ring.
    next: BTreeSet<(u64, u64, u64)>,
    /// Principals by how many requests of theirs wait.
    sizes: BTreeSet<(usize, u64)>,
    /// The same by how long those are, in bytes.
    weights: BTreeSet<(u64, u64)>,
    /// Who waits, in the order they came, with principal and session.
    tickets: BTreeMap<u64, (u64, u64)>,
    /// Rounds so far, in each of which everybody earns one unit.
    round: u64,
    /// Places given so far, of principals and of their sessions.
    places: u64,
}

/// What waits of one principal.
#[derive(Debug)]
struct Lane<T> {
    /// What it could spend in round `since` before others are next.
    credit: u64,
    since: u64,
    /// Where it stands in [`Ring::next`].
    due: u64,
    place: u64,
    /// Sessions by their place.
    order: BTreeMap<u64, u64>,
    sessions: HashMap<u64, Session<T>>,
    /// Its requests by their tickets, with their bytes.
    tickets: BTreeMap<u64, u64>,
    bytes: u64,
}

#[derive(Debug)]
struct Session<T> {
    place: u64,
    waiting: VecDeque<Entry<T>>,
}

impl<T> Lane<T> {
    fn new(place: u64, round: u64) -> Self {
        Self {
            credit: 0,
            since: round,
            due: round,
            place,
            order: BTreeMap::new(),
            sessions: HashMap::new(),
            tickets: BTreeMap::new(),
            bytes: 0,
        }
    }

    fn has(&mut self, entry: &Entry<T>) {
        self.tickets.insert(entry.ticket.0, entry.caller.bytes);
        self.bytes = self.bytes.saturating_add(entry.caller.bytes);
    }

    fn loses(&mut self, ticket: Ticket) {
        let bytes = self.tickets.remove(&ticket.0).unwrap_or(0);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    fn credit(&self, round: u64) -> u64 {
        let earned = round.saturating_sub(self.since);
        self.credit.saturating_add(earned).min(MOST_COST)
    }

    /// Sessions with their first request, in the order of their turns.
    fn firsts(&self) -> impl Iterator<Item = (u64, &Entry<T>)> {
        self.sessions()
            .filter_map(|(id, session)| Some((id, session.waiting.front()?)))
    }

    /// The first request that `accepts`, with its session: each session offers the first turns of its conversations, in
    /// the order they came.
    fn first(&self, accepts: &impl Fn(&T) -> bool) -> Option<(u64, &Entry<T>)> {
        let mut sessions = self.sessions();
        sessions.find_map(|(id, session)| Some((id, session.first(accepts)?)))
    }

    /// In the order of their turns.
    fn sessions(&self) -> impl Iterator<Item = (u64, &Session<T>)> {
        let ids = self.order.values();
        ids.filter_map(|id| Some((*id, self.sessions.get(id)?)))
    }
}

impl<T> Session<T> {
    fn first(&self, accepts: &impl Fn(&T) -> bool) -> Option<&Entry<T>> {
        let mut before: SmallVec<[Option<u64>; MOST_ASKED]> = SmallVec::new();
        for entry in self.waiting.iter().take(MOST_ASKED) {
            let conversation = entry.caller.conversation;
            if before.contains(&conversation) {
                continue;
            }
            if accepts(&entry.item) {
                return Some(entry);
            }
            before.push(conversation);
        }
        None
    }
}

impl<T> Ring<T> {
    pub(super) fn new() -> Self {
        Self {
            lanes: HashMap::new(),
            next: BTreeSet::new(),
            sizes: BTreeSet::new(),
            weights: BTreeSet::new(),
            tickets: BTreeMap::new(),
            round: 0,
            places: 0,
        }
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry<T>> {
        let sessions = self.lanes.values().flat_map(|lane| lane.sessions.values());
        sessions.flat_map(|session| &session.waiting)
    }

    /// What waits of the caller's session.
    pub(super) fn session(&self, caller: &Caller) -> impl Iterator<Item = &Entry<T>> {
        let lane = self.lanes.get(&caller.principal);
        let session = lane.and_then(|lane| lane.sessions.get(&caller.session));
        session.into_iter().flat_map(|session| &session.waiting)
    }

    pub(super) fn count(&self, principal: u64) -> usize {
        let lane = self.lanes.get(&principal);
        lane.map_or(0, |lane| lane.tickets.len())
    }

    /// How many the principal with the most has, and its newest.
    pub(super) fn largest(&self) -> Option<(usize, Ticket)> {
        let (most, principal) = self.sizes.last()?;
        let (newest, _) = self.lanes.get(principal)?.tickets.last_key_value()?;
        Some((*most, Ticket(*newest)))
    }

    /// Bytes that wait of a principal.
    pub(super) fn bytes(&self, principal: u64) -> u64 {
        self.lanes.get(&principal).map_or(0, |lane| lane.bytes)
    }

    /// Principals with their bytes, those with the most first.
    pub(super) fn heaviest(&self) -> impl Iterator<Item = (u64, u64)> {
        let weights = self.weights.iter().rev();
        weights.map(|(bytes, principal)| (*principal, *bytes))
    }

    /// A principal's requests with their bytes, the newest first.
    pub(super) fn newest(&self, principal: u64) -> impl Iterator<Item = (Ticket, u64)> {
        let lane = self.lanes.get(&principal).into_iter();
        let tickets = lane.flat_map(|lane| lane.tickets.iter().rev());
        tickets.map(|(ticket, bytes)| (Ticket(*ticket), *bytes))
    }

    /// The one that came first.
    pub(super) fn oldest(&self) -> Option<&Entry<T>> {
        let (ticket, (principal, session)) = self.tickets.first_key_value()?;
        let lane = self.lanes.get(principal)?;
        let mut waiting = lane.sessions.get(session)?.waiting.iter();
        waiting.find(|entry| entry.ticket.0 == *ticket)
    }

    pub(super) fn push(&mut self, entry: Entry<T>) {
        let Caller {
            principal, session, ..
        } = entry.caller;
        self.tickets.insert(entry.ticket.0, (principal, session));
        let mut lane = self.take_lane(principal);
        lane.has(&entry);
        self.places += 1;
        let place = self.places;
        let known = lane.sessions.entry(session).or_insert_with(|| {
            lane.order.insert(place, session);
            Session {
                place,
                waiting: VecDeque::new(),
            }
        });
        known.waiting.push_back(entry);
        self.put_lane(principal, lane);
    }

    pub(super) fn remove(&mut self, ticket: Ticket) -> Option<Entry<T>> {
        let (principal, session) = *self.tickets.get(&ticket.0)?;
        let mut lane = self.take_lane(principal);
        let waiting = lane.sessions.get_mut(&session).map(|s| &mut s.waiting);
        let removed = waiting.and_then(|waiting| {
            let at = waiting.iter().position(|entry| entry.ticket == ticket)?;
            waiting.remove(at)
        });
        self.gone(&mut lane, session, &removed);
        self.put_lane(principal, lane);
        removed
    }

    /// The session of the oldest one, if `aged` holds for that.
    pub(super) fn take_aged(
        &mut self,
        aged: impl Fn(&Entry<T>) -> bool,
    ) -> Option<VecDeque<Entry<T>>> {
        let oldest = self.oldest().filter(|entry| aged(entry))?;
        let Caller {
            principal, session, ..
        } = oldest.caller;
        let mut lane = self.take_lane(principal);
        let left = lane.sessions.remove(&session);
        let turns = left.map(|left| {
            lane.order.remove(&left.place);
            for entry in &left.waiting {
                lane.loses(entry.ticket);
                self.tickets.remove(&entry.ticket.0);
            }
            left.waiting
        });
        self.put_lane(principal, lane);
        turns
    }

    /// The next one that `accepts` what there is. Whoever does not keeps the turn, and is the only one whose number
    /// counts here.
    pub(super) fn take(&mut self, accepts: &impl Fn(&T) -> bool) -> Option<Entry<T>> {
        let ready = |(_, _, principal): &(u64, u64, u64)| {
            let lane = self.lanes.get(principal)?;
            let (session, first) = lane.first(accepts)?;
            Some((*principal, session, first.ticket, first.cost()))
        };
        let (principal, session, ticket, cost) = self.next.iter().find_map(ready)?;
        let mut lane = self.take_lane(principal);
        self.round += cost.saturating_sub(lane.credit(self.round));
        lane.credit = lane.credit(self.round).saturating_sub(cost);
        lane.since = self.round;
        let found = lane.sessions.get_mut(&session);
        let entry = found.and_then(|session| {
            let at = session.waiting.iter().position(|e| e.ticket == ticket)?;
            session.waiting.remove(at)
        });
        // Whoever was served goes to the end.
        self.places += 2;
        if let Some(served) = lane.sessions.get_mut(&session) {
            lane.order.remove(&served.place);
            served.place = self.places - 1;
            lane.order.insert(served.place, session);
        }
        lane.place = self.places;
        self.gone(&mut lane, session, &entry);
        self.put_lane(principal, lane);
        entry
    }

    /// Forgets what has left, and a session of which nothing waits any more.
    fn gone(&mut self, lane: &mut Lane<T>, session: u64, entry: &Option<Entry<T>>) {
        if let Some(entry) = entry {
            lane.loses(entry.ticket);
            self.tickets.remove(&entry.ticket.0);
        }
        let found = lane.sessions.get(&session);
        if let Some(empty) = found.filter(|session| session.waiting.is_empty()) {
            lane.order.remove(&empty.place);
            lane.sessions.remove(&session);
        }
    }

    /// Takes a principal's lane out to be changed; a new one where it has none.
    fn take_lane(&mut self, principal: u64) -> Lane<T> {
        let Some(lane) = self.lanes.remove(&principal) else {
            self.places += 1;
            return Lane::new(self.places, self.round);
        };
        self.next.remove(&(lane.due, lane.place, principal));
        self.sizes.remove(&(lane.tickets.len(), principal));
        self.weights.remove(&(lane.bytes, principal));
        lane
    }

    /// Puts it back where it stands now; a principal of which nothing waits any more is forgotten.
    fn put_lane(&mut self, principal: u64, mut lane: Lane<T>) {
        let Some(cost) = lane.firsts().next().map(|(_, first)| first.cost()) else {
            return;
        };
        lane.due = self.round + cost.saturating_sub(lane.credit(self.round));
        self.next.insert((lane.due, lane.place, principal));
        self.sizes.insert((lane.tickets.len(), principal));
        self.weights.insert((lane.bytes, principal));
        self.lanes.insert(principal, lane);
    }
}

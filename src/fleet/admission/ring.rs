//! Principals taking turns by deficit round robin, their sessions taking turns inside.

use std::collections::VecDeque;

use super::caller::Caller;
use super::line::{Entry, MOST_COST, Ticket};

#[derive(Debug)]
pub(super) struct Ring<T>(VecDeque<Lane<T>>);

/// What waits of one principal.
#[derive(Debug)]
struct Lane<T> {
    principal: u64,
    /// What it may spend before others are next.
    credit: u64,
    sessions: VecDeque<Session<T>>,
}

#[derive(Debug)]
struct Session<T> {
    id: u64,
    waiting: VecDeque<Entry<T>>,
}

impl<T> Lane<T> {
    fn len(&self) -> usize {
        self.sessions.iter().map(|s| s.waiting.len()).sum()
    }

    fn entries(&self) -> impl Iterator<Item = &Entry<T>> {
        self.sessions.iter().flat_map(|s| &s.waiting)
    }
}

impl<T> Ring<T> {
    pub(super) fn new() -> Self {
        Self(VecDeque::new())
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry<T>> {
        self.0.iter().flat_map(Lane::entries)
    }

    pub(super) fn count(&self, principal: u64) -> usize {
        let lane = self.0.iter().find(|lane| lane.principal == principal);
        lane.map_or(0, Lane::len)
    }

    /// How many the principal with the most has, and its newest.
    pub(super) fn largest(&self) -> Option<(usize, Ticket)> {
        let lane = self.0.iter().max_by_key(|lane| lane.len())?;
        let newest = lane.entries().max_by_key(|entry| entry.ticket.0)?;
        Some((lane.len(), newest.ticket))
    }

    pub(super) fn push(&mut self, entry: Entry<T>) {
        let (principal, session) = (entry.caller.principal, entry.caller.session);
        let lane = match self.0.iter().position(|lane| lane.principal == principal) {
            Some(at) => at,
            None => {
                self.0.push_back(Lane {
                    principal,
                    credit: 0,
                    sessions: VecDeque::new(),
                });
                self.0.len() - 1
            }
        };
        let sessions = &mut self.0[lane].sessions;
        match sessions.iter_mut().find(|s| s.id == session) {
            Some(found) => found.waiting.push_back(entry),
            None => sessions.push_back(Session {
                id: session,
                waiting: VecDeque::from([entry]),
            }),
        }
    }

    pub(super) fn remove(&mut self, ticket: Ticket) -> Option<Entry<T>> {
        for lane in 0..self.0.len() {
            for session in 0..self.0[lane].sessions.len() {
                let waiting = &self.0[lane].sessions[session].waiting;
                if let Some(at) = waiting.iter().position(|entry| entry.ticket == ticket) {
                    let entry = self.0[lane].sessions[session].waiting.remove(at);
                    self.tidy(lane, session);
                    return entry;
                }
            }
        }
        None
    }

    /// Forgets a session and a principal of which nothing waits any more.
    fn tidy(&mut self, lane: usize, session: usize) {
        let sessions = &mut self.0[lane].sessions;
        if sessions[session].waiting.is_empty() {
            sessions.remove(session);
        }
        if sessions.is_empty() {
            self.0.remove(lane);
        }
    }

    /// The session of the oldest one for which `aged` holds.
    pub(super) fn take_aged(
        &mut self,
        aged: impl Fn(&Entry<T>) -> bool,
    ) -> Option<VecDeque<Entry<T>>> {
        let old = |entry: &&Entry<T>| aged(entry);
        let oldest = self.entries().filter(old).min_by_key(|e| e.ticket.0)?;
        let Caller {
            principal, session, ..
        } = oldest.caller;
        let lane = self.0.iter().position(|lane| lane.principal == principal)?;
        let sessions = &mut self.0[lane].sessions;
        let at = sessions.iter().position(|s| s.id == session)?;
        let turns = std::mem::take(&mut sessions[at].waiting);
        self.tidy(lane, at);
        Some(turns)
    }

    /// The deficit round robin, without going round: the lanes whose turn would come first are found
    /// by how many rounds each still lacks.
    pub(super) fn take(&mut self, accepts: &impl Fn(&T) -> bool) -> Option<Entry<T>> {
        let ready = |lane: &Lane<T>| {
            let mut sessions = lane.sessions.iter().enumerate();
            sessions.find_map(|(at, session)| {
                let first = session.waiting.front()?;
                accepts(&first.item).then(|| (at, first.cost()))
            })
        };
        let candidates: Vec<(usize, usize, u64)> = self
            .0
            .iter()
            .enumerate()
            .filter_map(|(at, lane)| ready(lane).map(|(session, cost)| (at, session, cost)))
            .collect();
        let lacks =
            |(lane, _, cost): &(usize, usize, u64)| cost.saturating_sub(self.0[*lane].credit);
        let rounds = candidates.iter().map(lacks).min()?;
        let chosen = candidates.iter().find(|c| lacks(c) == rounds).copied()?;
        // Who does not want what there is keeps the turn.
        for lane in &mut self.0 {
            lane.credit = lane.credit.saturating_add(rounds).min(MOST_COST);
        }
        let (at, session, cost) = chosen;
        let mut lane = self.0.remove(at)?;
        lane.credit = lane.credit.saturating_sub(cost);
        let mut turns = lane.sessions.remove(session)?;
        let entry = turns.waiting.pop_front();
        // Whoever was served goes to the end.
        if !turns.waiting.is_empty() {
            lane.sessions.push_back(turns);
        }
        if !lane.sessions.is_empty() {
            self.0.push_back(lane);
        }
        entry
    }
}

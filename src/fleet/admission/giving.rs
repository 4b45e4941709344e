//! Giving free places away: who gets which.

use std::time::Duration;

use super::Grant;
use super::core::{Core, Undelivered};
use super::line::Entry;
use super::waiter::{Kept, Offer, Round, Waiter};
use crate::fleet::decision::Waited;
use crate::fleet::pool::{Free, Pool};

/// Time in which smaller turns may go before one for which a cache has no room.
const OVERTAKEN_FOR: Duration = Duration::from_secs(2);

impl Core {
    /// Gives free places to those whose turn it is.
    pub(super) fn pump(&mut self, now: Duration) -> Undelivered {
        let mut undelivered = Undelivered::none();
        if self.line.is_empty() {
            self.kept = None;
            self.drain.place_left(now);
            return undelivered;
        }
        let Some(pool) = self.pool.upgrade() else {
            return undelivered;
        };
        self.line.age(now, self.rules.batch_after);
        loop {
            let free = pool.free();
            if free.is_empty() {
                return undelivered;
            }
            self.keep(&pool, &free, now);
            let kept = self.kept.clone();
            let Some(entry) = self.next(&pool, &free, kept.as_ref(), now) else {
                if free.iter().any(|one| !one.is_ejected()) {
                    self.drain.place_left(now);
                }
                return undelivered;
            };
            let kept = entry.item.kept_from(kept.as_ref());
            match pool.choose_free(entry.item.ask.asked(kept)) {
                Ok((lease, mut decision)) => {
                    self.left(&entry.item);
                    decision.waited = Some(waited(&entry, now));
                    let grant = Ok(Grant { lease, decision });
                    undelivered.0.extend(entry.item.answer.send(grant).err());
                }
                // It has changed in the meantime.
                Err(_) => {
                    self.line.put_back(entry);
                    return undelivered;
                }
            }
        }
    }

    /// Takes out who gets one of the free places.
    fn next(
        &mut self,
        pool: &Pool,
        free: &[Free],
        kept: Option<&Kept>,
        now: Duration,
    ) -> Option<Entry<Waiter>> {
        Round::ALL.into_iter().find_map(|round| {
            let offer = Offer {
                pool,
                free,
                kept,
                round,
                now,
            };
            self.line.take(|waiter| waiter.accepts(offer))
        })
    }

    /// Whoever has waited longest of those whose turn it may be, where only the room in a cache is wanting: after
    /// a while no smaller one gets in before it on the backend that has the most.
    fn keep(&mut self, pool: &Pool, free: &[Free], now: Duration) {
        self.kept = None;
        if !pool.reserves() {
            return;
        }
        let Some(entry) = self.line.oldest() else {
            return;
        };
        let waiter = &entry.item;
        let offer = Offer {
            pool,
            free,
            kept: None,
            round: Round::Left,
            now,
        };
        if now.saturating_sub(entry.since) < OVERTAKEN_FOR || waiter.accepts(offer) {
            return;
        }
        let backend = pool.roomiest(waiter.ask.asked(None), waiter.only(pool, now));
        self.kept = backend.map(|backend| Kept {
            waiter: waiter.number,
            backend,
        });
    }
}

fn waited(entry: &Entry<Waiter>, now: Duration) -> Waited {
    let hold = entry.item.hold.as_ref();
    Waited {
        seconds: now.saturating_sub(entry.since).as_secs_f64(),
        ahead: entry.item.ahead,
        class: entry.caller.class,
        for_cache: hold.map(|hold| (hold.until - hold.since).as_secs_f64()),
    }
}

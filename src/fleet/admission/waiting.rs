//! A request that waits for a place.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use super::line::Ticket;
use super::{Answer, Grant, Queue};
use crate::fleet::lease::{Overload, Unavailable};

/// A place in the queue. Dropping it gives it up.
#[derive(Debug)]
pub struct Waiting {
    pub(super) queue: Arc<Queue>,
    pub(super) ticket: Ticket,
    /// Dropped after this has left the queue, and with it a place that came too late.
    pub(super) answer: oneshot::Receiver<Answer>,
    /// Until when it waits for one backend only.
    pub(super) hold: Option<Instant>,
    pub(super) until: Instant,
    pub(super) timeout: Duration,
}

impl Waiting {
    /// The place, when it is there. Cancel-safe.
    ///
    /// # Errors
    /// It had to go for somebody else, or has waited for too long.
    pub async fn granted(&mut self) -> Result<Grant, Unavailable> {
        if let Some(until) = self.hold {
            tokio::select! {
                biased;
                answer = &mut self.answer => return self.told(answer),
                () = sleep_until(until) => {}
            }
            self.hold = None;
            // From now on it takes what there is.
            self.queue.offered();
        }
        tokio::select! {
            biased;
            answer = &mut self.answer => self.told(answer),
            () = sleep_until(self.until) => self.give_up(),
        }
    }

    fn told(&self, answer: Result<Answer, oneshot::error::RecvError>) -> Answer {
        // The queue answers everybody it lets go.
        answer.unwrap_or_else(|_| Err(self.too_long()))
    }

    fn give_up(&mut self) -> Answer {
        match self.queue.lets_go(self.ticket) {
            Some(_) => Err(self.too_long()),
            // It was served at this very moment.
            None => self
                .answer
                .try_recv()
                .unwrap_or_else(|_| Err(self.too_long())),
        }
    }

    fn too_long(&self) -> Unavailable {
        let now = self.queue.born.elapsed();
        let core = self.queue.core.lock();
        core.busy(Overload::Waited(self.timeout), now)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        drop(self.queue.lets_go(self.ticket));
    }
}

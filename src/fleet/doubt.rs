//! An error that a backend answered with: its own fault, or that of the request.
//!
//! llama-server answers 500 to both, a broken GPU and a grammar that it cannot read, and new texts come with every
//! build. Nobody has to tell them apart: what another backend answers was not the request's fault.

use std::sync::Arc;

use super::backend::{Backend, BackendId};
use super::breaker::Ticket;

/// See the module's documentation. Dropped without a verdict it says nothing, but that the next trial is not due at once.
#[derive(Debug)]
pub struct Doubt {
    backend: Arc<Backend>,
    ticket: Option<Ticket>,
    said: bool,
}

impl Doubt {
    pub(super) fn new(backend: Arc<Backend>, ticket: Option<Ticket>, said: bool) -> Self {
        Self {
            backend,
            ticket,
            said,
        }
    }

    /// Whether it is settled by what another backend has done of the same request: begun to answer it, or answered
    /// it in full (`is_whole`). An error in the middle of an answer could still come there, too.
    pub fn is_settled_by(&self, other: &BackendId, is_whole: bool) -> bool {
        other != self.backend.id() && (is_whole || !self.said)
    }

    /// It was the backend's fault.
    pub fn confirm(mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.backend.breaker_failed(ticket);
        }
    }
}

impl Drop for Doubt {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take().filter(|ticket| ticket.is_on_trial()) {
            self.backend.trial_postponed(ticket);
        }
    }
}

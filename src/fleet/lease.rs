//! A place on a backend, and why there is none.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use super::backend::Backend;

/// A place on a backend for one request. Dropping it gives the place back, however the request ended.
#[derive(Debug)]
pub struct Lease(Arc<Backend>);

impl Lease {
    pub(super) fn new(backend: Arc<Backend>) -> Self {
        backend.enter();
        Self(backend)
    }
}

impl Deref for Lease {
    type Target = Arc<Backend>;

    fn deref(&self) -> &Arc<Backend> {
        &self.0
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// Why no backend of a pool can take a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// None answers its checks.
    #[error("no backend is up")]
    AllDown {
        /// When to ask again: one of them may be back by then.
        retry_after: Duration,
    },
    /// None is up, but some are loading their model.
    #[error("the model is loading")]
    Loading {
        /// When to ask again.
        retry_after: Duration,
    },
    /// Those that are up get no new requests.
    #[error("every backend is draining")]
    Draining,
    /// Every backend that could serve was tried already.
    #[error("no other backend is left to try")]
    NoneLeft,
}

//! Closing our own requests to a backend that gets nowhere.

use tokio::sync::watch;
use tokio::time::Instant;

use super::Backend;

impl Backend {
    /// Has requests closed that were silent since then.
    pub(crate) fn close_if_silent_since(&self, since: Instant, why: WhyClosed) {
        let silent = Silent { since, why };
        self.live.closed_if_silent.send_replace(Some(silent));
    }

    /// For a request to it: when it is to be closed.
    pub fn closing(&self) -> Closing {
        Closing(self.live.closed_if_silent.subscribe())
    }
}

/// Why silent requests are closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhyClosed {
    /// The slots of the backend get nowhere: closing may help them.
    Stuck,
    /// It does not answer its checks either. It may still come back: who can go nowhere else waits for that.
    Down,
}

/// Requests that are to be closed.
#[derive(Clone, Copy, Debug)]
pub(in crate::fleet) struct Silent {
    since: Instant,
    why: WhyClosed,
}

/// Tells a request that it is to be closed because its backend gets nowhere.
#[derive(Debug)]
pub struct Closing(watch::Receiver<Option<Silent>>);

impl Closing {
    /// Completes when requests that were silent since `then` are to be closed. `goes_on`: whether this one could go on
    /// elsewhere, asked again each time.
    pub async fn of_silent_since(
        &mut self,
        then: impl Fn() -> Instant,
        goes_on: impl Fn() -> bool,
    ) -> WhyClosed {
        let closes = |silent: &Silent| {
            then() <= silent.since && (silent.why == WhyClosed::Stuck || goes_on())
        };
        let told = self
            .0
            .wait_for(|silent| silent.as_ref().is_some_and(closes));
        if let Ok(told) = told.await
            && let Some(silent) = *told
        {
            return silent.why;
        }
        // The backend is gone, and with it who would say so.
        std::future::pending().await
    }
}

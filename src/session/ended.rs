//! What sessions leave behind when they end: leases that are to be free again.

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::visit::Session;
use crate::policy::lease::Grant;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Ended {
    leases: Mutex<Vec<Grant>>,
    some: Notify,
}

impl Ended {
    /// `session` is over.
    pub(super) fn note(&self, session: &Session) {
        let mut policy = session.policy.lock();
        let Some(policy) = policy.as_mut().filter(|policy| !policy.leases.is_empty()) else {
            return;
        };
        self.leases.lock().append(&mut policy.leases);
        self.some.notify_one();
    }

    /// What they had; waits until there is something.
    pub(super) async fn leases(&self) -> Vec<Grant> {
        loop {
            let left = std::mem::take(&mut *self.leases.lock());
            if !left.is_empty() {
                return left;
            }
            self.some.notified().await;
        }
    }
}

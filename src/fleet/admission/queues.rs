//! The queues that the places of one backend go to.

use std::sync::{Arc, Weak};

use super::Queue;

/// The queue of the backend's pool; and, after a reload, those of the pools it was in before, as long as anybody waits
/// there.
#[derive(Debug, Default)]
pub(in crate::fleet) struct Queues {
    now: Option<Arc<Queue>>,
    before: Vec<Weak<Queue>>,
}

impl Queues {
    /// From now on its places go to this one, once those who waited before have theirs.
    pub(in crate::fleet) fn is_now(&mut self, queue: &Arc<Queue>) {
        let last = self.now.replace(Arc::clone(queue));
        let last = last.as_ref().map(Arc::downgrade);
        self.before.extend(last);
        let is_now = |other: &Weak<Queue>| other.as_ptr() == Arc::as_ptr(queue);
        // Whoever waits holds its queue.
        self.before
            .retain(|other| other.strong_count() > 0 && !is_now(other));
    }

    /// In the order in which they get places.
    pub(in crate::fleet) fn all(&self) -> smallvec::SmallVec<[Arc<Queue>; 2]> {
        let before = self.before.iter().filter_map(Weak::upgrade);
        before.chain(self.now.clone()).collect()
    }
}

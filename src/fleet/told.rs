//! What happens to backends, told at once to whoever counts it: nothing is kept that could be lost, however rarely
//! metrics are read, and a backend that leaves the fleet is heard to its end.

use std::sync::OnceLock;

use super::backend::BackendId;
use super::treatment::HealthEvent;

type Listener = Box<dyn Fn(&BackendId, HealthEvent) + Send + Sync>;

static LISTENER: OnceLock<Listener> = OnceLock::new();

/// From now on `listener` hears what happens to the health of every backend of the process. It is called in the midst
/// of requests, and must not ask for anything of the fleet. The first call wins.
pub fn hear_health_events(listener: impl Fn(&BackendId, HealthEvent) + Send + Sync + 'static) {
    // Whoever comes second has nothing to gain: the listener counts for the whole process.
    let _ = LISTENER.set(Box::new(listener));
}

/// The voice of one backend.
#[derive(Clone, Debug)]
pub(super) struct Voice(BackendId);

impl Voice {
    pub(super) fn of(backend: &BackendId) -> Self {
        Self(backend.clone())
    }

    pub(super) fn add(&self, event: HealthEvent) {
        if let Some(listener) = LISTENER.get() {
            listener(&self.0, event);
        }
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;
    use crate::fleet::tests::fleet_of;
    use crate::fleet::watchdog::Finding;

    static HEARD: Mutex<Vec<HealthEvent>> = Mutex::new(Vec::new());

    /// Counters lost what happened beyond 256 times between two scrapes, and what happened to one that had left.
    #[test]
    fn every_event_is_heard() {
        hear_health_events(|backend, event| {
            if backend.as_str() == "often" {
                HEARD.lock().push(event);
            }
        });
        let fleet = fleet_of("{name: often, url: 'http://127.0.0.1:1'}");
        let backend = fleet.backend("often").unwrap();
        backend.leave_fleet();
        for _ in 0..1000 {
            backend.events().add(HealthEvent::Found(Finding::Stuck));
        }
        assert_eq!(*HEARD.lock(), [HealthEvent::Found(Finding::Stuck); 1000]);
    }
}

//! The header of a request is due in time: a client that sends a byte now and then would hold its
//! connection for ever, since Pingora bounds each read and not the whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::pin;
use tokio::time::timeout;

tokio::task_local! {
    static COMPLETE: Arc<AtomicBool>;
}

/// The request served by this task has its whole header.
pub fn complete() {
    // Outside of [`within`] nobody is waiting: HTTP/2 bounds its headers itself.
    _ = COMPLETE.try_with(|complete| complete.store(true, Ordering::Relaxed));
}

/// Run `serving`, which reads a request and says when its header is [`complete`]; given up if that
/// takes longer than `due`.
pub(super) async fn within<T>(
    due: Duration,
    serving: impl Future<Output = Option<T>>,
) -> Option<T> {
    let is_complete = Arc::new(AtomicBool::new(false));
    let serving = COMPLETE.scope(Arc::clone(&is_complete), serving);
    pin!(serving);
    match timeout(due, &mut serving).await {
        Ok(served) => served,
        Err(_) if is_complete.load(Ordering::Relaxed) => serving.await,
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep};

    use super::*;

    const DUE: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn only_the_header_is_due() {
        let serving = async {
            sleep(DUE / 2).await;
            complete();
            sleep(100 * DUE).await;
            Some(())
        };
        assert_eq!(within(DUE, serving).await, Some(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_header_that_never_ends_is_given_up() {
        let begun = Instant::now();
        let serving = async {
            sleep(100 * DUE).await;
            complete();
            Some(())
        };
        assert_eq!(within(DUE, serving).await, None);
        assert_eq!(begun.elapsed(), DUE);
        // Not within anything: nothing happens.
        complete();
    }
}

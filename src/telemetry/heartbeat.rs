//! Whether the threads that serve clients get to run: a task that wants to run now and then measures
//! how late it does.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::Metrics;

/// Rare enough to cost nothing, frequent enough that a scrape sees several.
const EVERY: Duration = Duration::from_millis(250);

thread_local! {
    static BEATS: Cell<bool> = const { Cell::new(false) };
}

/// Makes sure that the runtime of this thread is watched. Costs next to nothing after the first call
/// on a thread; must be called inside a runtime.
pub fn watch_this_thread(metrics: &'static Metrics) {
    if !BEATS.replace(true) {
        tokio::spawn(beat(metrics));
    }
}

async fn beat(metrics: &'static Metrics) {
    loop {
        let due = Instant::now() + EVERY;
        sleep_until(due).await;
        metrics.runtime_delay(due.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use once_cell::sync::Lazy;

    use super::*;

    static METRICS: Lazy<Metrics> = Lazy::new(|| Metrics::new().unwrap());

    /// Beats so far, and those that came at least 250 ms late.
    fn beats() -> (u64, u64) {
        let text = String::from_utf8(METRICS.encode().unwrap()).unwrap();
        let value = |name: &str| -> u64 {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap();
            line.rsplit(' ').next().unwrap().parse().unwrap()
        };
        let all = value("drover_runtime_delay_seconds_count");
        let early = value("drover_runtime_delay_seconds_bucket{le=\"0.25\"}");
        (all, all - early)
    }

    #[test]
    fn a_blocked_thread_shows() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async {
            watch_this_thread(&METRICS);
            watch_this_thread(&METRICS);
            tokio::task::yield_now().await;
            std::thread::sleep(Duration::from_millis(2500));
            tokio::time::sleep(Duration::from_millis(50)).await;
        });
        assert_eq!(beats(), (1, 1), "one watcher, one late beat");
    }
}

//! The service that forgets idle sessions.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Sessions;

/// Sweeps until the gateway ends. Nothing depends on its pace but memory.
pub struct Sweeper {
    sessions: Arc<Sessions>,
    every: Duration,
}

impl Sweeper {
    /// For sessions that are to be forgotten after `ttl` without use.
    pub fn new(sessions: Arc<Sessions>, ttl: Duration) -> Self {
        let every = (ttl / 4).clamp(Duration::from_millis(50), Duration::from_secs(5));
        Self { sessions, every }
    }

    async fn run(&self) {
        let mut ticks = interval(self.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.sessions.sweep(Instant::now());
        }
    }
}

#[async_trait]
impl BackgroundService for Sweeper {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        tokio::select! {
            () = self.run() => {}
            _ = shutdown.changed() => {}
        }
    }
}

//! Signals: SIGTERM and SIGQUIT drain, SIGINT ends at once.

use std::sync::Arc;

use async_trait::async_trait;
use pingora_core::server::{ShutdownSignal, ShutdownSignalWatch};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::drain::Inflight;

/// Watches for the signal that ends the process.
///
/// Takes the place of Pingora's own watch for two reasons: readiness turns off before the listeners
/// close, and SIGQUIT, on which Pingora hands its sockets over whether somebody waits for them or not, drains as
/// it does in other servers ([`super::upgrade`] needs no signal).
pub(super) struct Signals(pub(super) Arc<Inflight>);

#[async_trait]
impl ShutdownSignalWatch for Signals {
    async fn recv(&self) -> ShutdownSignal {
        let mut quit = listen(SignalKind::quit());
        let mut terminate = listen(SignalKind::terminate());
        let shutdown = tokio::select! {
            // Who took over has the listeners too; requests that still come here are served.
            () = self.0.handed_over() => return ShutdownSignal::GracefulTerminate,
            () = next(&mut quit) => ShutdownSignal::GracefulTerminate,
            () = next(&mut terminate) => ShutdownSignal::GracefulTerminate,
            () = interrupt() => ShutdownSignal::FastShutdown,
        };
        self.0.begin_drain();
        shutdown
    }
}

/// Completes at the next SIGINT.
pub(super) async fn interrupt() {
    next(&mut listen(SignalKind::interrupt())).await;
}

/// `None` when the handler cannot be installed: then the signal keeps its default effect, which
/// ends the process too.
pub(super) fn listen(kind: SignalKind) -> Option<Signal> {
    signal(kind)
        .inspect_err(|error| tracing::error!(?kind, %error, "cannot watch for a signal"))
        .ok()
}

/// Completes at the next signal; never when there is no handler.
pub(super) async fn next(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

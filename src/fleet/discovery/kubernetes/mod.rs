//! Backends behind a Kubernetes service: its EndpointSlices are listed once and then watched.

mod api;
mod slices;

use std::time::Duration;

use bytes::BytesMut;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::Teller;
use crate::config::{KubernetesSource, Template};
use api::{Answer, Api};
use slices::{Slices, Step};

/// Length of a watch; then the server ends it and another one goes on from there.
const WATCH_SECONDS: u32 = 290;

/// A watch that says nothing for so long, not even its end, is dead.
const SILENCE: Duration = Duration::from_secs(WATCH_SECONDS as u64 + 30);

/// Least time from the beginning of a watch to that of the next.
const SHORTEST: Duration = Duration::from_secs(1);

/// Pause after a failure.
const RETRY: Duration = Duration::from_secs(2);

/// Most bytes of a list, and of an event.
const MAX_BYTES: usize = 16 << 20;

/// Why a watch has ended.
enum End {
    /// In order, or broken off: the next one goes on from where it was.
    Over,
    /// The version is too old: list anew.
    Expired,
}

/// Tells the backends of the service, and again whenever they change.
pub(super) async fn look(source: &KubernetesSource, like: &Template, teller: &Teller) {
    loop {
        let began = Instant::now();
        match list_and_watch(source, like, teller).await {
            // A server whose list is always too old for its watch is not asked for it in a tight loop.
            Ok(()) => sleep_until(began + SHORTEST).await,
            Err(why) => {
                teller.tell(Err(why));
                sleep(RETRY).await;
            }
        }
    }
}

/// Returns when the list has to be read anew.
async fn list_and_watch(
    source: &KubernetesSource,
    like: &Template,
    teller: &Teller,
) -> Result<(), String> {
    let api = Api::of(source).await?;
    let listed = api.get("").await?.whole(MAX_BYTES).await?;
    let slices = Slices::listed(&listed);
    let mut slices = slices.map_err(|error| format!("the API server's list: {error}"))?;
    let port = source.port.as_deref();
    teller.tell(Ok(slices.backends(port, like)));
    loop {
        let query = format!(
            "&watch=true&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECONDS}&resourceVersion={}",
            slices.version
        );
        let answer = api.get(&query).await?;
        if answer.status() == 410 {
            return Ok(());
        }
        let changed = |slices: &Slices| teller.tell(Ok(slices.backends(port, like)));
        let began = Instant::now();
        match watch(answer, &mut slices, changed).await? {
            // One that ends at once must not be begun anew at once.
            End::Over => sleep_until(began + SHORTEST).await,
            End::Expired => return Ok(()),
        }
    }
}

async fn watch(
    mut answer: Answer,
    slices: &mut Slices,
    changed: impl Fn(&Slices),
) -> Result<End, String> {
    let mut pending = BytesMut::new();
    loop {
        let piece = timeout(SILENCE, answer.piece()).await;
        let piece = piece.map_err(|_| format!("the watch was silent for {SILENCE:?}"))?;
        let piece = match piece {
            Ok(Some(piece)) => piece,
            Ok(None) => return Ok(End::Over),
            // Whether the server is still there shows when it is asked to go on.
            Err(why) => {
                tracing::debug!(why, "a watch broke off");
                return Ok(End::Over);
            }
        };
        pending.extend_from_slice(&piece);
        let mut any = false;
        while let Some(end) = memchr::memchr(b'\n', &pending) {
            let line = pending.split_to(end + 1);
            if line.trim_ascii().is_empty() {
                continue;
            }
            let step = slices.heard(&line);
            match step.map_err(|error| format!("an event of the API server: {error}"))? {
                Step::Changed => any = true,
                Step::Moved => {}
                Step::Expired => return Ok(End::Expired),
                Step::Refused(why) => return Err(format!("the API server ends the watch: {why}")),
            }
        }
        if any {
            changed(slices);
        }
        if pending.len() > MAX_BYTES {
            return Err(format!("an event is longer than {MAX_BYTES} bytes"));
        }
    }
}

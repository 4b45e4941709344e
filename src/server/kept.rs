//! What was observed of speculative decoding, kept in the store: a build that changes while the gateway restarts is
//! compared with the one before all the same.

use std::time::Duration;

use tokio::time::timeout;

use crate::spec::{Kept, Ledger, Page, Place, Timeline};
use crate::store::{MAX_KEY, MAX_VALUE, Store, StoreError, Swap};

/// Keys of what was observed at a place.
const PLACES: &str = "spec/place/";

/// Key of the timeline.
const TIMELINE: &str = "spec/timeline";

/// A place that nothing was seen of for so long is forgotten.
const EXPIRES: Duration = Duration::from_secs(30 * 24 * 3600);

/// Longest time a store may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Times that a write is tried against others.
const TRIES: usize = 3;

/// Reads what was kept into `ledger`. What cannot be read is as if it had not been kept.
pub(super) async fn restore(store: &dyn Store, ledger: &Ledger) {
    match timeout(PATIENCE, read(store)).await {
        Ok(Ok(kept)) => {
            let (places, has_timeline) = (kept.pages.len(), kept.timeline.is_some());
            ledger.restore(kept);
            tracing::debug!(places, has_timeline, "what was observed before is known");
        }
        Ok(Err(error)) => tracing::warn!(%error, "what was observed before is not known"),
        Err(_) => {
            tracing::warn!("what was observed before is not known: the store does not answer")
        }
    }
}

async fn read(store: &dyn Store) -> Result<Kept, StoreError> {
    let places = store.list(PLACES).await?;
    let page = |value: &[u8]| serde_json::from_slice::<(Place, Page)>(value).ok();
    let timeline = store.get(TIMELINE).await?;
    let timeline = timeline.and_then(|entry| serde_json::from_slice::<Timeline>(&entry.value).ok());
    Ok(Kept {
        pages: places
            .iter()
            .filter_map(|(_, entry)| page(&entry.value))
            .collect(),
        timeline,
    })
}

/// Writes what has changed in `ledger` since the last time. What the store does not take is tried again when it has
/// changed again.
pub(super) async fn keep(store: &dyn Store, ledger: &Ledger) {
    let kept = ledger.take_new();
    let mut values: Vec<(String, Vec<u8>)> = Vec::new();
    for page in &kept.pages {
        if let Ok(value) = serde_json::to_vec(page) {
            values.push((key(&page.0), value));
        }
    }
    if let Some(value) = kept.timeline.and_then(|t| serde_json::to_vec(&t).ok()) {
        values.push((TIMELINE.to_owned(), value));
    }
    let writing = async {
        for (key, value) in values.iter().filter(|(_, value)| value.len() <= MAX_VALUE) {
            write(store, key, value).await?;
        }
        Ok::<(), StoreError>(())
    };
    match timeout(PATIENCE, writing).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "what was observed cannot be kept"),
        Err(_) => tracing::warn!("what was observed cannot be kept: the store does not answer"),
    }
}

/// Whoever writes last is right: two gateways at the same backends see the same.
async fn write(store: &dyn Store, key: &str, value: &[u8]) -> Result<(), StoreError> {
    let mut expected = store.get(key).await?.map(|entry| entry.version);
    for _ in 0..TRIES {
        match store
            .swap(key, expected, Some(value), Some(EXPIRES))
            .await?
        {
            Swap::Done(_) => return Ok(()),
            Swap::Conflict(now) => expected = now.map(|entry| entry.version),
        }
    }
    Ok(())
}

/// A key for a place: its digest, since a name can be long.
fn key(place: &Place) -> String {
    use sha2::{Digest, Sha256};

    let text = serde_json::to_string(place).unwrap_or_default();
    let digest = Sha256::digest(text);
    let digest: String = digest[..16].iter().map(|b| format!("{b:02x}")).collect();
    let key = format!("{PLACES}{digest}");
    debug_assert!(key.len() <= MAX_KEY);
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::spec::{Drafts, Observation, RequestClass, StopKind, Stratum};
    use crate::store;

    fn seen(build: &str) -> Observation {
        Observation {
            place: Place::new("p", "g0", "none", build),
            stratum: Stratum::new(RequestClass::Prose, 1),
            timings: None,
            drafts: Drafts::default(),
            ttft: Some(Duration::from_millis(150)),
            stop: StopKind::End,
            expected_cached: None,
            malformed: false,
            looping: false,
            answer: None,
        }
    }

    #[tokio::test]
    async fn what_was_observed_outlives_the_process() {
        let store = store::open(&config::Store::Memory).unwrap();
        let before = Ledger::default();
        let shown = [("build".to_owned(), "b1".to_owned())].into();
        before.look(7, "p", "g0", &shown);
        (0..3).for_each(|_| before.push(&seen("b1")));
        keep(&*store, &before).await;
        before.push(&seen("b1"));
        before.push(&seen("b2"));
        keep(&*store, &before).await;
        let after = Ledger::default();
        restore(&*store, &after).await;
        let turns: Vec<u64> = after.rows().iter().map(|row| row.turns).collect();
        assert_eq!(turns, [4, 1]);
        assert_eq!(after.events(), before.events());
        assert_eq!(after.look(9, "p", "g0", &shown), None, "nothing is new");
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_left_out() {
        let store = store::open(&config::Store::Memory).unwrap();
        for key in ["spec/place/x", TIMELINE] {
            store.swap(key, None, Some(b"{"), None).await.unwrap();
        }
        let ledger = Ledger::default();
        restore(&*store, &ledger).await;
        assert!(ledger.rows().is_empty() && ledger.events().is_empty());
    }
}

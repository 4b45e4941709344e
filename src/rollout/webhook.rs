//! Telling verdicts to whom the operator has named: a few times, and for a bounded time.

use std::time::Duration;

use bytes::Bytes;
use once_cell::sync::Lazy;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use url::Url;

use crate::config::{Rollout, Secret};
use crate::spec::rollout::Event;
use crate::telemetry::Metrics;
use crate::telemetry::labels::Configured;
use crate::telemetry::post::{Post, Poster};

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Waits before it is told again.
const AGAIN_AFTER: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
];
/// Webhooks under way at the same time; verdicts are rare.
static AT_ONCE: Semaphore = Semaphore::const_new(16);

static POSTER: Lazy<Poster> = Lazy::new(Poster::default);

/// Tells `event` to every webhook of `plan`, beside what goes on.
pub(super) fn send_all(plan: &Rollout, event: &Event, metrics: &'static Metrics) {
    let body = json!({
        "source": "drover",
        "rollout": plan.name,
        "pool": plan.pool,
        "candidate": plan.candidate,
        "baseline": plan.baseline,
        "event": event,
    });
    let body = Bytes::from(body.to_string());
    for webhook in &plan.webhooks {
        let Ok(url) = Url::parse(&webhook.url) else {
            continue;
        };
        let (token, body) = (webhook.token().cloned(), body.clone());
        let name = plan.name.clone();
        tokio::spawn(async move {
            let Ok(_place) = AT_ONCE.try_acquire() else {
                metrics.rollout_webhook(Configured::name(&name), false);
                return;
            };
            let taken = send(&url, token.as_ref(), body).await;
            if let Err(error) = &taken {
                let host = url.host_str().unwrap_or_default();
                tracing::warn!(
                    rollout = name,
                    host,
                    error,
                    "a webhook does not take a verdict"
                );
            }
            metrics.rollout_webhook(Configured::name(&name), taken.is_ok());
        });
    }
}

async fn send(url: &Url, token: Option<&Secret>, body: Bytes) -> Result<(), String> {
    let mut waits = AGAIN_AFTER.iter();
    loop {
        let post = Post {
            url,
            content_type: "application/json",
            token,
        };
        let error = match timeout(PATIENCE, POSTER.send(post, body.clone())).await {
            Ok(Ok(200..=299)) => return Ok(()),
            Ok(Ok(status @ (408 | 425 | 429 | 500..=599))) => format!("status {status}"),
            Ok(Ok(status)) => return Err(format!("status {status}")),
            Ok(Err(error)) => error,
            Err(_) => format!("no answer within {PATIENCE:?}"),
        };
        match waits.next() {
            Some(wait) => sleep(*wait).await,
            None => return Err(error),
        }
    }
}

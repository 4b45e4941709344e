//! Asking every backend everything it tells about itself, once.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::facts::Slots;
use super::probe::{HttpProbe, Probe as _};
use super::resolve::{SystemResolver, resolve};
use super::scrape::question;
use super::{Backend, Facts, Fleet, router};

/// Status and body of an answer, or why there was none, in words for people.
pub type Asked = Result<(u16, Bytes), String>;

/// What one backend answered.
#[derive(Clone, Debug)]
pub struct Survey {
    /// Who.
    pub backend: Arc<Backend>,
    /// `GET /health`.
    pub health: Asked,
    /// `GET /props`.
    pub props: Asked,
    /// `GET /slots`; `None` when it was not asked, because that would wake a sleeping server.
    pub slots: Option<Asked>,
    /// `GET /metrics`.
    pub metrics: Asked,
    /// `GET /v1/models`.
    pub models: Asked,
    /// For a model of a router: whether a request loads it.
    pub autoload: Option<bool>,
    /// For a model of a router: how many it holds at a time; 0: no limit.
    pub models_max: Option<u64>,
    /// What the answers amount to.
    pub facts: Facts,
}

/// Asks every backend of `fleet`, all at the same time, and waits for each answer up to `patience`.
/// The result is in the order of the configuration.
pub async fn survey(fleet: &Fleet, patience: Duration) -> Vec<Survey> {
    let probe = Arc::new(HttpProbe::new());
    let mut tasks = JoinSet::new();
    for (n, backend) in fleet.backends().into_iter().enumerate() {
        let probe = Arc::clone(&probe);
        tasks.spawn(async move { (n, ask_all(&probe, backend, patience).await) });
    }
    let mut surveys = tasks.join_all().await;
    surveys.sort_by_key(|(n, _)| *n);
    surveys.into_iter().map(|(_, survey)| survey).collect()
}

async fn ask_all(probe: &HttpProbe, backend: Arc<Backend>, patience: Duration) -> Survey {
    let found = resolve(&backend, &SystemResolver).await;
    let ask = async |path: &str| -> Asked {
        found.clone()?;
        match timeout(patience, probe.get(&backend, path)).await {
            Ok(reply) => Ok(reply.map(|reply| (reply.status, reply.body))?),
            Err(_) => Err(format!("no answer within {patience:?}")),
        }
    };
    let health = ask("/health").await;
    // What cannot be reached need not be waited for four more times.
    let ask_more = async |path: &str| match &health {
        Ok(_) => ask(path).await,
        Err(why) => Err(why.clone()),
    };
    let props = ask_more(&question(&backend, "/props")).await;
    let mut facts = Facts::default();
    if let Ok((200, body)) = &props
        && let Ok(told) = facts.with_props(body)
    {
        facts = told;
    }
    let slots = match facts.is_sleeping {
        true => None,
        false => Some(ask_more(&question(&backend, "/slots")).await),
    };
    if let Some(Ok((200, body))) = &slots
        && let Ok(told) = Slots::parse(body)
    {
        facts = facts.with_slots(&told);
    }
    let metrics = ask_more(&question(&backend, "/metrics")).await;
    let models = ask_more("/v1/models").await;
    let told = router::ask(probe, &backend, patience).await;
    if let Some(told) = told.as_ref().filter(|_| !matches!(props, Ok((200, _)))) {
        facts = facts.with_told(told);
    }
    Survey {
        autoload: told.as_ref().map(|told| told.autoload),
        models_max: told.as_ref().and_then(|told| told.most),
        health,
        props,
        slots,
        metrics,
        models,
        facts,
        backend,
    }
}

//! Rollouts at work: requests ask which side they are on and tell what came of them, people give orders, and the
//! [`Controller`] looks, writes down what it decides, and only then acts by it.
//!
//! What is decided is in [`crate::spec::rollout`]; here are the clock, the store, the fleet and the network.

mod around;
mod controller;
mod keeper;
mod recorded;
mod set_profile;
mod view;
mod webhook;

use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use thiserror::Error;

use crate::config::{self, Config};
use crate::fleet::Fleet;
use crate::spec::rollout::{Arm, Assigned, Command, Event, Mode, Refused, Routing};
use crate::spec::{Ledger, Observation};
use crate::store::{Store, StoreError};
use crate::telemetry::Metrics;

use around::Around;
use keeper::Keeper;
use recorded::Recorded;

pub use controller::Controller;
pub(crate) use controller::now_ms;
pub use view::{Overview, View};

/// Turns that wait to be taken in; a controller that is so far behind misses the next ones.
const MOST_WAITING: usize = 16_384;

/// Why an order was not carried out.
#[derive(Debug, Error)]
pub enum OrderError {
    /// There is no rollout of this name.
    #[error("there is no rollout `{0}`")]
    Unknown(String),
    /// It makes no sense now.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// It could not be written down, and was not carried out.
    #[error("the order was not carried out: {0}")]
    Store(#[from] StoreError),
    /// Another process was faster.
    #[error("another process has changed the rollout; look again")]
    Conflict,
}

/// All rollouts of the process.
pub struct Rollouts {
    entries: ArcSwap<Vec<Arc<Entry>>>,
    store: Arc<dyn Store>,
    fleet: Arc<Fleet>,
    ledger: Arc<Ledger>,
    metrics: &'static Metrics,
    recorded: ArcSwap<Recorded>,
}

/// One of them.
struct Entry {
    name: Arc<str>,
    routing: ArcSwap<Routing>,
    view: ArcSwap<View>,
    waiting: Mutex<Vec<Turn>>,
    keeper: tokio::sync::Mutex<Keeper>,
}

/// A turn that was on one of the sides.
struct Turn {
    assigned: Assigned,
    session: Box<str>,
    seen: Observation,
}

impl Rollouts {
    /// None yet: [`Self::load`] brings those of the configuration.
    pub fn new(
        store: Arc<dyn Store>,
        fleet: Arc<Fleet>,
        ledger: Arc<Ledger>,
        metrics: &'static Metrics,
    ) -> Arc<Self> {
        Arc::new(Self {
            entries: ArcSwap::default(),
            store,
            fleet,
            ledger,
            metrics,
            recorded: ArcSwap::default(),
        })
    }

    /// The rollouts of `config`, as they were when they were last written down. To be called before requests are
    /// served: a rollback holds after a restart too.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn load(&self, config: &Config, now_ms: u64) -> Result<(), StoreError> {
        let recorded = Recorded::read(config).await;
        recorded.tell(&self.ledger);
        self.recorded.store(Arc::new(recorded));
        let before = self.entries.load_full();
        let mut entries = Vec::new();
        for plan in &config.spec.rollouts {
            let known = before.iter().find(|entry| *entry.name == *plan.name);
            entries.push(match known {
                Some(entry) => {
                    self.plan_again(entry, plan, now_ms).await;
                    Arc::clone(entry)
                }
                None => Arc::new(self.restored(plan, now_ms).await?),
            });
        }
        self.entries.store(Arc::new(entries));
        self.show();
        Ok(())
    }

    async fn restored(&self, plan: &config::Rollout, now_ms: u64) -> Result<Entry, StoreError> {
        let mut keeper = Keeper::restore(&*self.store, plan, now_ms).await?;
        keeper.give_profiles(&self.fleet);
        let around = self.around(plan);
        Ok(Entry {
            name: plan.name.as_str().into(),
            routing: ArcSwap::from_pointee(keeper.state().routing(plan)),
            view: ArcSwap::from_pointee(View::of(plan, keeper.state(), &around, now_ms)),
            waiting: Mutex::default(),
            keeper: tokio::sync::Mutex::new(keeper),
        })
    }

    async fn plan_again(&self, entry: &Entry, plan: &config::Rollout, now_ms: u64) {
        let mut keeper = entry.keeper.lock().await;
        let events = keeper.replan(&*self.store, plan, now_ms).await;
        self.publish(entry, &keeper, now_ms);
        self.tell(entry, &keeper, &events);
    }

    /// The side that a turn in `pool` is on; turns without a session take no part, and go where they must.
    pub fn assign(&self, pool: &str, session: Option<&str>) -> Option<Assigned> {
        let entries = self.entries.load();
        let of_pool = |entry: &&Arc<Entry>| *entry.routing.load().pool == *pool;
        let routing = entries.iter().find(of_pool)?.routing.load_full();
        let arm = match (session, routing.mode) {
            (None, Mode::Trial(_)) => Arm::Outside,
            (session, _) => routing.arm(session.unwrap_or_default())?,
        };
        Some(Assigned { arm, routing })
    }

    /// Whether a rollout says where sessions of `pool` go.
    pub fn moves(&self, pool: &str) -> bool {
        let entries = self.entries.load();
        let moves = |entry: &Arc<Entry>| {
            let routing = entry.routing.load();
            *routing.pool == *pool && routing.mode != Mode::Off
        };
        entries.iter().any(moves)
    }

    /// What came of a turn on one of the sides.
    pub fn seen(&self, assigned: &Assigned, session: &str, seen: Observation) {
        let entries = self.entries.load();
        let name = &assigned.routing.rollout;
        let Some(entry) = entries.iter().find(|entry| entry.name == *name) else {
            return;
        };
        let mut waiting = entry.waiting.lock();
        if waiting.len() < MOST_WAITING {
            waiting.push(Turn {
                assigned: assigned.clone(),
                session: session.into(),
                seen,
            });
        }
    }

    /// Every rollout, in the order of the configuration.
    pub fn views(&self) -> Vec<Arc<View>> {
        let entries = self.entries.load();
        entries.iter().map(|entry| entry.view.load_full()).collect()
    }

    /// The rollout called `name`.
    pub fn view(&self, name: &str) -> Option<Arc<View>> {
        let entries = self.entries.load();
        let entry = entries.iter().find(|entry| *entry.name == *name)?;
        Some(entry.view.load_full())
    }

    /// Gives an order to the rollout called `name`; it is written down when this returns.
    ///
    /// # Errors
    /// See [`OrderError`].
    pub async fn order(
        &self,
        name: &str,
        command: Command,
        now_ms: u64,
    ) -> Result<Arc<View>, OrderError> {
        let entries = self.entries.load_full();
        let entry = entries.iter().find(|entry| *entry.name == *name);
        let entry = entry.ok_or_else(|| OrderError::Unknown(name.to_owned()))?;
        let mut keeper = entry.keeper.lock().await;
        let ordered = keeper.order(&*self.store, command, now_ms).await;
        self.publish(entry, &keeper, now_ms);
        let events = ordered?;
        self.tell(entry, &keeper, &events);
        drop(keeper);
        self.show();
        Ok(entry.view.load_full())
    }

    /// What the fleet says about a rollout, and what is recorded of it.
    fn around(&self, plan: &config::Rollout) -> Around {
        Around::of(&self.fleet, plan, &self.recorded.load())
    }

    /// From now on requests act by what was written down.
    fn publish(&self, entry: &Entry, keeper: &Keeper, now_ms: u64) {
        let (plan, state) = (keeper.plan(), keeper.state());
        let routing = state.routing(plan);
        if **entry.routing.load() != routing {
            entry.routing.store(Arc::new(routing));
        }
        let around = self.around(plan);
        let view = View::of(plan, state, &around, now_ms);
        entry.view.store(Arc::new(view));
    }

    /// To the log, the watchers, the metrics and the webhooks.
    fn tell(&self, entry: &Entry, keeper: &Keeper, events: &[Event]) {
        for event in events {
            view::tell(&entry.name, event);
            if let crate::spec::rollout::What::Verdict(judged) = &event.what {
                let name = crate::telemetry::labels::Configured::name(&entry.name);
                self.metrics.rollout_verdict(name, judged.verdict);
                webhook::send_all(keeper.plan(), event, self.metrics);
            }
        }
    }

    /// Lets the gauges show what is.
    fn show(&self) {
        let views = self.views();
        let samples: Vec<_> = views.iter().map(|view| view.sample()).collect();
        self.metrics.rollouts(&samples);
    }
}

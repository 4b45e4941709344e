//! The service that looks.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;
use tokio::time::{MissedTickBehavior, interval};

use super::around::trouble;
use super::set_profile::{Setting, lapsed};
use super::{Entry, Rollouts};
use crate::config::{Config, RollbackSignature, Rollout};
use crate::server::findings;
use crate::spec::rollout::{Look, Phase, Routing};
use crate::spec::{Finding, Signature};

/// Time between two looks.
const EVERY: Duration = Duration::from_millis(500);

/// See the module's documentation.
pub struct Controller {
    rollouts: Arc<Rollouts>,
    config: Arc<ArcSwap<Config>>,
}

/// What is remembered from look to look, and need not outlive the process.
#[derive(Default)]
struct Memory {
    /// The run that this is about.
    run: u32,
    /// Lines of logs that were there when it began.
    old_lines: HashSet<String>,
    setting: Option<Setting>,
    /// Backends that were given a profile, the last one of each, and the run in which they were.
    given: (u32, HashMap<String, String>),
}

impl Controller {
    /// Looks at `rollouts`, which are those of `config`, whatever that becomes.
    pub fn new(rollouts: Arc<Rollouts>, config: Arc<ArcSwap<Config>>) -> Self {
        Self { rollouts, config }
    }

    async fn run(&self) {
        let mut config = self.config.load_full();
        let mut memory: Vec<(Arc<str>, Memory)> = Vec::new();
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let now = self.config.load_full();
            if !Arc::ptr_eq(&now, &config) {
                if let Err(error) = self.rollouts.load(&now, now_ms()).await {
                    tracing::error!(%error, "rollouts cannot be read; they stay as they are");
                    continue;
                }
                config = now;
            }
            // What runs where is not known before.
            if !self.rollouts.fleet.checked_once() {
                continue;
            }
            let entries = self.rollouts.entries.load_full();
            memory.retain(|(name, _)| entries.iter().any(|entry| entry.name == *name));
            for entry in entries.iter() {
                let at = memory.iter().position(|(name, _)| *name == entry.name);
                let at = at.unwrap_or_else(|| {
                    memory.push((Arc::clone(&entry.name), Memory::default()));
                    memory.len() - 1
                });
                self.look(entry, &mut memory[at].1).await;
            }
            self.rollouts.show();
        }
    }

    async fn look(&self, entry: &Entry, memory: &mut Memory) {
        let rollouts = &*self.rollouts;
        let turns = std::mem::take(&mut *entry.waiting.lock());
        let mut keeper = entry.keeper.lock().await;
        turns.iter().for_each(|turn| keeper.push(turn));
        if keeper.state().phase().is_active() {
            let (plan, state) = (keeper.plan().clone(), keeper.state());
            let routing = state.routing(&plan);
            if memory.given.0 != routing.run {
                memory.given = (routing.run, HashMap::new());
            }
            let failed = memory.setting.as_ref().and_then(Setting::failed);
            let failed = failed.or_else(|| {
                waits(state.phase())
                    .then(|| lapsed(&rollouts.fleet, &plan, &memory.given.1))
                    .flatten()
            });
            let mut around = rollouts.around(&plan);
            around.capacity.all += memory.setting.as_ref().map_or(0, Setting::slots_away);
            let look = Look {
                now_ms: now_ms(),
                trouble: failed.or_else(|| trouble(&rollouts.fleet, &plan, state, &routing)),
                signs: self.signs(&plan, &routing, memory),
                capacity: around.capacity,
                fairness: around.fairness,
                hardware: around.hardware,
                candidates: around.up.0,
                baselines: around.up.1,
            };
            if look.trouble.is_some() {
                memory.setting = None;
            }
            let events = keeper.look(&*rollouts.store, &look).await;
            if !events.is_empty() {
                rollouts.publish(entry, &keeper, look.now_ms);
                rollouts.tell(entry, &keeper, &events);
            }
            self.set_profiles(entry, &mut keeper, memory, look).await;
        } else {
            memory.setting = None;
        }
        keeper.write_turns(&*rollouts.store).await;
        rollouts.publish(entry, &keeper, now_ms());
    }

    /// Gives one backend after the other the candidate's profile while the step waits for slots, and two of them each
    /// other's while it waits for the crossover.
    async fn set_profiles(
        &self,
        entry: &Entry,
        keeper: &mut super::Keeper,
        memory: &mut Memory,
        mut look: Look,
    ) {
        let rollouts = &*self.rollouts;
        if let Some(setting) = &memory.setting
            && let Some(done) = setting.done()
        {
            let now_ms = now_ms();
            let (backend, profile) = (done.id().to_string(), setting.profile().to_owned());
            let store = &*rollouts.store;
            let Some(event) = keeper.profile_set(store, &backend, &profile, now_ms).await else {
                return;
            };
            done.give_profile(&profile);
            done.undrain();
            memory.given.1.insert(backend, profile);
            rollouts.publish(entry, keeper, now_ms);
            rollouts.tell(entry, keeper, &[event]);
            memory.setting = None;
            let around = rollouts.around(keeper.plan());
            (look.candidates, look.baselines) = around.up;
        }
        if memory.setting.is_some() {
            return;
        }
        let (fleet, plan, state) = (&rollouts.fleet, keeper.plan(), keeper.state());
        memory.setting = match state.phase() {
            Phase::WaitingCapacity => Setting::begin(fleet, plan, state, &memory.given.1),
            Phase::WaitingCrossover => state.to_set(plan, &look).and_then(|(backend, profile)| {
                Setting::exchange(fleet, plan, backend, profile, &memory.given.1)
            }),
            _ => None,
        };
    }

    /// Signs of harm that are seen on the candidate's backends and not in what came of turns.
    fn signs(
        &self,
        plan: &Rollout,
        routing: &Routing,
        memory: &mut Memory,
    ) -> Vec<(RollbackSignature, String)> {
        let listed = &plan.rollback_when.signatures;
        if !listed.iter().any(|sign| of_backend(*sign).is_some()) {
            return Vec::new();
        }
        let (ledger, fleet) = (&self.rollouts.ledger, &self.rollouts.fleet);
        let found = findings::all(ledger, fleet);
        let of_candidate = |finding: &&Finding| {
            let backend = fleet.backend(&finding.place.backend);
            *finding.place.pool == *plan.pool
                && backend.is_some_and(|b| {
                    b.at_site(|site| routing.is_candidate(site))
                        || self
                            .rollouts
                            .around(plan)
                            .silent
                            .contains(&b.id().to_string())
                })
        };
        let found: Vec<&Finding> = found.iter().filter(of_candidate).collect();
        if memory.run != routing.run {
            let lines = found
                .iter()
                .filter(|f| f.signature == Signature::LogSignature);
            memory.old_lines = lines.map(|f| f.evidence.clone()).collect();
            memory.run = routing.run;
        }
        let new = |finding: &&&Finding| !memory.old_lines.contains(&finding.evidence);
        let signs = found.iter().filter(new).filter_map(|finding| {
            let sign = listed
                .iter()
                .find(|sign| of_backend(**sign) == Some(finding.signature))?;
            Some((
                *sign,
                format!("{}: {}", finding.place.backend, finding.evidence),
            ))
        });
        signs.collect()
    }
}

/// Whether backends may be given another profile.
fn waits(phase: Phase) -> bool {
    matches!(phase, Phase::WaitingCapacity | Phase::WaitingCrossover)
}

/// The finding about a backend that a sign is.
fn of_backend(sign: RollbackSignature) -> Option<Signature> {
    match sign {
        RollbackSignature::LogSignature => Some(Signature::LogSignature),
        RollbackSignature::SpecSilentlyOff => Some(Signature::SpecSilentlyOff),
        RollbackSignature::SlotWedged => Some(Signature::SlotWedged),
        RollbackSignature::AcceptanceCollapse
        | RollbackSignature::RollbackSpike
        | RollbackSignature::PrefillRegression
        | RollbackSignature::CacheReprefill
        | RollbackSignature::GarbledOutput => None,
    }
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

#[async_trait]
impl BackgroundService for Controller {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        tokio::select! {
            _ = shutdown.changed() => {}
            () = self.run() => {}
        }
    }
}

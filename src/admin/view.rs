//! What the admin API needs of the fleet.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use crate::config::KvLayout;
use crate::fleet::{Backend, DraftCounts, Explained, Fleet, Preset, Probed, Template};
use crate::server::findings;
use crate::spec::{Finding, Honours, Ledger, Place};

/// The fleet as the admin address sees it.
pub trait FleetView: Send + Sync {
    /// Every backend, in the order of the configuration, then those that leave.
    fn backends(&self) -> Vec<BackendView>;

    /// Whether the first health check of every backend has finished.
    fn checked_once(&self) -> bool;

    /// What is wrong with speculative decoding now.
    fn findings(&self, ledger: &Ledger) -> Vec<Finding>;

    /// What is known of the speculation of each backend.
    fn speculation(&self) -> Vec<SpecView>;

    /// What runs on the backend named `id`; none where there is no such backend.
    fn place(&self, id: &str) -> Option<Place>;

    /// Why the request went where it went, if it is one of the last.
    fn explain(&self, request: &str) -> Option<Explained>;

    /// Stops (`true`) or resumes new requests to the backend named `id`. `false` when there is none.
    fn set_draining(&self, id: &str, draining: bool) -> bool;
}

/// One backend in `/api/backends`. Fields are only ever added.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BackendView {
    /// Its name, which is its id in paths.
    pub id: String,
    /// The pool it belongs to.
    pub pool: String,
    /// Its address, with the path when it has one.
    pub address: String,
    /// `unknown`, `loading`, `ready` or `down`: what the last health checks and requests said.
    pub state: &'static str,
    /// Why it is not ready.
    pub trouble: Option<String>,
    /// Takes no new requests, by order of an operator.
    pub draining: bool,
    /// No longer configured; it only finishes what it has.
    pub leaving: bool,
    /// Gets no requests for a while because they failed, though its checks are good.
    pub ejected: bool,
    /// New requests go to it.
    pub available: bool,
    /// Requests in flight to it through this gateway.
    pub inflight: usize,
    /// Share of load relative to its pool.
    pub weight: u32,
    /// How its model stands with its router: `unloaded`, `loading`, `loaded`, `sleeping` or `failed`; null where there
    /// is no router.
    pub preset: Option<Preset>,
    /// Configured speculative profile.
    pub profile: Option<String>,
    /// Whether it really speculates, as it reports.
    pub speculative: Option<bool>,
    /// llama.cpp build it reports.
    pub build: Option<String>,
    /// Model alias it reports.
    pub model: Option<String>,
    /// What is known of its chat template: which conversations need not be folded for it.
    pub template: Template,
    /// Context of one slot, in tokens.
    pub n_ctx: Option<u64>,
    /// How its slots hold their KV cache, as configured or found out.
    pub kv: KvLayout,
    /// Parallel sequences.
    pub total_slots: Option<u32>,
    /// Slots that others than this gateway hold, as its last two looks agree.
    pub other_slots: usize,
    /// Slots without work at the last look.
    pub idle_slots: Option<u32>,
    /// Tokens of the one KV cache that its slots share, where that is known.
    pub kv_tokens: Option<u64>,
    /// Tokens of it that running turns of this gateway hold or have reserved.
    pub kv_held: u64,
    /// Share of its KV cache that held tokens then, from 0 to 1: how warm it is.
    pub kv_used: Option<f64>,
}

/// The speculation of one backend in `/api/spec`. Fields are only ever added.
#[derive(Clone, Debug, Serialize)]
pub struct SpecView {
    /// The backend, and what it runs.
    #[serde(flatten)]
    pub place: Place,
    /// What of its flags it shows.
    pub shows: BTreeMap<&'static str, String>,
    /// Whether it does without drafts when a request asks for that.
    pub honours_off: Honours,
    /// What a probe has shown, where there was one.
    pub probe: Option<Probed>,
    /// Its own counts since its start, where they were read.
    pub drafts: Option<DraftCounts>,
    /// Part of its drafts that held up to each position.
    pub acceptance_by_position: Vec<f64>,
}

impl FleetView for Fleet {
    fn backends(&self) -> Vec<BackendView> {
        let (here, leaving) = (Fleet::backends(self), self.leaving());
        here.iter().chain(&leaving).map(|b| view(b)).collect()
    }

    fn checked_once(&self) -> bool {
        Fleet::checked_once(self)
    }

    fn findings(&self, ledger: &Ledger) -> Vec<Finding> {
        findings::all(ledger, self)
    }

    fn speculation(&self) -> Vec<SpecView> {
        let view = |backend: &Arc<Backend>| {
            let facts = backend.facts();
            let drafts = facts.drafts.as_deref();
            SpecView {
                place: backend.place(),
                shows: facts.flags.shown.clone(),
                honours_off: backend.honours(),
                probe: backend.probed().filter(|probed| probed.generated > 0),
                drafts: drafts.cloned(),
                acceptance_by_position: drafts.map(DraftCounts::acceptance).unwrap_or_default(),
            }
        };
        Fleet::backends(self).iter().map(view).collect()
    }

    fn place(&self, id: &str) -> Option<Place> {
        findings::place_of(self, id)
    }

    fn explain(&self, request: &str) -> Option<Explained> {
        self.explanations().of(request)
    }

    fn set_draining(&self, id: &str, draining: bool) -> bool {
        match self.backend(id) {
            Some(backend) if draining => backend.drain(),
            Some(backend) => backend.undrain(),
            None => return false,
        }
        true
    }
}

fn view(backend: &Backend) -> BackendView {
    let facts = backend.facts();
    BackendView {
        id: backend.id().to_string(),
        pool: backend.pool().to_owned(),
        address: backend.address(),
        state: backend.shown_state().as_str(),
        trouble: backend.trouble(),
        draining: backend.draining(),
        leaving: backend.leaving(),
        ejected: backend.ejected(),
        available: backend.available() && !backend.leaving(),
        inflight: backend.inflight(),
        weight: backend.weight().get(),
        preset: facts.preset,
        profile: backend.profile().map(|name| name.to_string()),
        speculative: facts.speculative,
        build: facts.build.clone(),
        model: facts.model_alias.clone(),
        template: facts.template.clone(),
        n_ctx: backend.n_ctx(),
        kv: backend.kv(),
        kv_tokens: backend.kv_tokens(),
        kv_held: backend.kv_held(),
        total_slots: backend.slots(),
        other_slots: backend.others(),
        idle_slots: facts.idle_slots,
        kv_used: backend.kv_used(),
    }
}

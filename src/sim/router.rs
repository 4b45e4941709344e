//! Router mode: several models behind one address, each in a simulated process of its own (`server-models.cpp` of
//! b11434). A model is loaded by the first request for it, or by `/models/load`; the one that was not used for longest
//! makes room.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{sync::watch, time::sleep};

use super::{
    config::{ModelPreset, SimConfig},
    engine::Sim,
    errors::ApiError,
};

/// How a model stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stand {
    /// Not in memory.
    Unloaded,
    /// Being loaded.
    Loading,
    /// In memory.
    Loaded,
    /// Loading it failed.
    Failed,
}

/// Between two looks whether a model that is to go has become idle.
const IDLE_POLL: Duration = Duration::from_millis(10);

/// The models of a server.
#[derive(Debug)]
pub struct Router {
    models: Vec<Model>,
    most: usize,
    pub(crate) autoload: bool,
    load_time: Duration,
    /// Who loads, or makes room; one at a time.
    turn: tokio::sync::Mutex<()>,
    clock: AtomicU64,
}

#[derive(Debug)]
pub(crate) struct Model {
    preset: ModelPreset,
    sim: Mutex<Arc<Sim>>,
    stand: watch::Sender<Stand>,
    loads: AtomicU64,
    used: AtomicU64,
}

impl Router {
    /// The router that `config` describes, if it does.
    pub(crate) fn new(config: &SimConfig) -> Option<Self> {
        let model = |preset: &ModelPreset| {
            let child = SimConfig {
                name: format!("{}/{}", config.name, preset.name),
                alias: preset.name.clone(),
                speculation: preset.speculation.clone(),
                load_time: Duration::ZERO,
                presets: Vec::new(),
                api_key: None,
                ..config.clone()
            };
            Model {
                preset: preset.clone(),
                sim: Mutex::new(Arc::new(Sim::new(child))),
                stand: watch::Sender::new(Stand::Unloaded),
                loads: AtomicU64::new(0),
                used: AtomicU64::new(0),
            }
        };
        (!config.presets.is_empty()).then(|| Self {
            models: config.presets.iter().map(model).collect(),
            most: config.models_max,
            autoload: config.models_autoload,
            load_time: config.load_time,
            turn: tokio::sync::Mutex::default(),
            clock: AtomicU64::new(1),
        })
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Model> {
        let by = |model: &&Model| {
            model.preset.name == name || model.preset.aliases.iter().any(|alias| alias == name)
        };
        self.models.iter().find(by)
    }

    /// How the model called `name` stands.
    #[must_use]
    pub fn stand(&self, name: &str) -> Option<Stand> {
        self.find(name).map(Model::stand)
    }

    /// How often the model called `name` was loaded, or failed to.
    #[must_use]
    pub fn loads(&self, name: &str) -> u64 {
        let loads = |model: &Model| model.loads.load(Ordering::Relaxed);
        self.find(name).map_or(0, loads)
    }

    /// POST requests to the model called `name` since it was loaded.
    #[must_use]
    pub fn requests(&self, name: &str) -> u64 {
        let total = |model: &Model| model.sim().requests.lock().total;
        self.find(name).map_or(0, total)
    }

    /// Puts the model called `name` to sleep, as `--sleep-idle-seconds` does.
    pub fn sleeps(&self, name: &str) {
        if let Some(model) = self.find(name) {
            model.sim().live.lock().sleeping = true;
        }
    }

    /// Ends the process of the model called `name`; its open answers break off.
    pub fn unload(&self, name: &str) -> bool {
        let Some(model) = self.find(name).filter(|model| model.is_running()) else {
            return false;
        };
        model.end(Stand::Unloaded);
        true
    }

    /// A request to the model is on its way.
    pub(crate) fn uses(&self, model: &Model) {
        let now = self.clock.fetch_add(1, Ordering::Relaxed);
        model.used.store(now, Ordering::Relaxed);
    }

    /// Waits until the model is in memory, loading it if nobody else does.
    ///
    /// # Errors
    /// It cannot be loaded.
    pub(crate) async fn ensure(&self, model: &Model) -> Result<(), ApiError> {
        if model.stand() == Stand::Loaded {
            return Ok(());
        }
        let mut changed = model.stand.subscribe();
        let seen = model.loads.load(Ordering::Relaxed);
        let turn = self.turn.lock().await;
        // Whoever waited for its turn may find the work done.
        let tried = model.loads.load(Ordering::Relaxed) > seen;
        if !tried && model.stand() != Stand::Loaded {
            self.make_room().await;
            model.stand.send_replace(Stand::Loading);
            sleep(self.load_time).await;
            model.loads.fetch_add(1, Ordering::Relaxed);
            match model.preset.broken {
                true => model.end(Stand::Failed),
                false => _ = model.stand.send_replace(Stand::Loaded),
            }
        }
        drop(turn);
        let ended = changed.wait_for(|stand| *stand != Stand::Loading).await;
        match ended.map(|stand| *stand) {
            Ok(Stand::Loaded) => Ok(()),
            _ => Err(ApiError::server(format!(
                "model name={} failed to load",
                model.preset.name
            ))),
        }
    }

    /// The idle model that was not used for longest goes, where there are too many.
    async fn make_room(&self) {
        loop {
            let loaded = || self.models.iter().filter(|model| model.is_running());
            if self.most == 0 || loaded().count() < self.most {
                return;
            }
            let idle = loaded().filter(|model| model.sim().busy() == 0);
            match idle.min_by_key(|model| model.used.load(Ordering::Relaxed)) {
                Some(model) => model.end(Stand::Unloaded),
                None => sleep(IDLE_POLL).await,
            }
        }
    }

    /// The router was started anew.
    pub(crate) fn restart(&self) {
        for model in &self.models {
            model.end(Stand::Unloaded);
        }
    }

    /// The body of `/props` that names no model.
    pub(crate) fn props(&self, build: &str) -> String {
        json!({
            "role": "router", "max_instances": self.most, "models_autoload": self.autoload,
            "model_alias": "llama-server", "model_path": "none",
            "default_generation_settings": {"params": null, "n_ctx": 0},
            "ui_settings": {}, "build_info": build, "cors_proxy_enabled": false,
        })
        .to_string()
    }

    /// The body of `/v1/models`.
    pub(crate) fn listing(&self, created: u64) -> String {
        let models: Vec<Value> = self.models.iter().map(|m| m.listed(created)).collect();
        json!({"data": models, "object": "list"}).to_string()
    }
}

impl Model {
    pub(crate) fn sim(&self) -> Arc<Sim> {
        Arc::clone(&self.sim.lock())
    }

    pub(crate) fn name(&self) -> &str {
        &self.preset.name
    }

    pub(crate) fn stand(&self) -> Stand {
        *self.stand.borrow()
    }

    pub(crate) fn is_running(&self) -> bool {
        matches!(self.stand(), Stand::Loading | Stand::Loaded)
    }

    /// Its process ends, and with it what it knew; a next one is ready to be started.
    fn end(&self, stand: Stand) {
        let mut sim = self.sim.lock();
        let next = Arc::new(Sim::new(sim.config.clone()));
        std::mem::replace(&mut *sim, next).die(None);
        drop(sim);
        self.stand.send_replace(stand);
    }

    fn listed(&self, created: u64) -> Value {
        let sim = self.sim();
        let config = &sim.config;
        let mut args = vec![
            "llama-server".to_owned(),
            "--alias".to_owned(),
            self.preset.name.clone(),
            "--ctx-size".to_owned(),
            (config.n_ctx * config.total_slots).to_string(),
            "--parallel".to_owned(),
            config.total_slots.to_string(),
        ];
        if config.speculation.types != "none" {
            args.extend(["--spec-type".to_owned(), config.speculation.types.clone()]);
        }
        let sleeping = sim.live.lock().sleeping;
        let value = match self.stand() {
            Stand::Unloaded | Stand::Failed => "unloaded",
            Stand::Loading => "loading",
            Stand::Loaded if sleeping => "sleeping",
            Stand::Loaded => "loaded",
        };
        let mut status = json!({"value": value, "args": args});
        if self.stand() == Stand::Failed {
            status["exit_code"] = json!(1);
            status["failed"] = json!(true);
        }
        json!({
            "id": self.preset.name, "aliases": self.preset.aliases, "tags": [], "object": "model",
            "owned_by": "llamacpp", "created": created, "status": status,
            "architecture": {"input_modalities": ["text"], "output_modalities": ["text"]},
            "source": "preset", "can_remove": false,
        })
    }
}

//! How a turn is guarded: its preset, and the settings.

use std::sync::Arc;

use crate::config::{self, Preset, ToolCalls};
use crate::guard::intervention::{Ledger, Mode};
use crate::guard::legacy;
use crate::guard::reask::Manner;
use crate::guard::stream::{GuardContext, Watches};
use crate::guard::trouble::Trouble;
use crate::turn::Turn;

/// See the module's documentation. Made for every turn, so that it keeps only the few settings it needs.
#[derive(Clone, Debug)]
pub struct Guards {
    preset: Preset,
    watches: Watches,
    excerpts: bool,
    tool_calls: ToolCalls,
}

impl Guards {
    /// Guards of this preset.
    pub fn new(preset: Preset, settings: &config::Guard) -> Self {
        Self {
            preset,
            watches: Watches {
                repetition: settings.repetition,
                nudge: settings.nudge,
            },
            excerpts: settings.excerpts,
            tool_calls: match preset {
                Preset::UapLegacy => legacy::tool_calls(),
                _ => settings.tool_calls.clone(),
            },
        }
    }

    /// Their preset.
    pub(super) fn preset(&self) -> Preset {
        self.preset
    }

    /// No guards: the answer is relayed.
    pub fn off() -> Self {
        Self::new(Preset::Off, &config::Guard::default())
    }

    /// A ledger for the turn's interventions.
    pub fn ledger(&self) -> Ledger {
        Ledger::new(Mode::of(self.preset), self.excerpts)
    }

    /// What the guards know about `turn`; none when there are no guards. `seed` makes identifiers
    /// for calls that come without.
    pub(super) fn context(&self, turn: &Turn, seed: &str) -> Option<Arc<GuardContext>> {
        let guarded = self.preset != Preset::Off;
        guarded.then(|| Arc::new(GuardContext::new(turn, seed, self.watches)))
    }

    /// Whether they may change the answer.
    pub(super) fn act(&self) -> bool {
        self.preset.acts()
    }

    /// Whether large texts in calls may go to a client that streams before their calls are complete.
    pub(super) fn release_early(&self) -> bool {
        self.preset == Preset::Standard && self.tool_calls.early_release
    }

    /// How often the turn may ask again.
    pub(super) fn retry_max(&self) -> u32 {
        if self.preset.acts() {
            self.tool_calls.retry_max
        } else {
            0
        }
    }

    /// How the turn asks again, the `number`th time (from 1).
    pub(super) fn manner(&self, number: u32) -> Manner<'_> {
        let settings = &self.tool_calls;
        match self.preset {
            Preset::UapLegacy => Manner::Legacy(legacy::Attempt {
                number,
                of: settings.retry_max,
            }),
            _ => Manner::Own(settings),
        }
    }

    /// What a client reads when asking again has not helped.
    pub(super) fn tell_client(&self, trouble: &Trouble) -> String {
        if self.preset == Preset::UapLegacy && legacy::is_malformed(trouble) {
            return legacy::GIVE_UP.to_owned();
        }
        trouble.tell_client()
    }
}

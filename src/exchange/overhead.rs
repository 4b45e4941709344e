//! The gateway's own time, by stage.

use std::time::Duration;

use crate::telemetry::labels::Stage;

/// Time spent working on a turn; waiting for clients and backends is not in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overhead {
    decode: Duration,
    select: Duration,
    encode: Duration,
    events: Duration,
}

impl Overhead {
    /// Add to a stage; [`Stage::Total`] is derived and cannot be added to.
    pub fn add(&mut self, stage: Stage, own: Duration) {
        match stage {
            Stage::Decode => self.decode += own,
            Stage::Select => self.select += own,
            Stage::Encode => self.encode += own,
            Stage::Events => self.events += own,
            Stage::Total => {}
        }
    }

    /// Time of one stage, or of all.
    pub fn get(&self, stage: Stage) -> Duration {
        match stage {
            Stage::Decode => self.decode,
            Stage::Select => self.select,
            Stage::Encode => self.encode,
            Stage::Events => self.events,
            Stage::Total => self.decode + self.select + self.encode + self.events,
        }
    }
}

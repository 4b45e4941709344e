//! What people order.

use super::event::{Event, What};
use super::machine::State;
use super::phase::{Clock, Command, Phase, Refused};
use crate::config::Rollout;

impl State {
    /// An order.
    ///
    /// # Errors
    /// It makes no sense now.
    pub fn order(
        &mut self,
        plan: &Rollout,
        command: Command,
        now_ms: u64,
    ) -> Result<Vec<Event>, Refused> {
        let refuse = |order| {
            Err(Refused {
                phase: self.phase,
                order,
            })
        };
        Ok(match command {
            Command::Start if self.phase.is_active() => return refuse("started"),
            Command::Start => self.start(now_ms),
            Command::Pause
                if matches!(
                    self.phase,
                    Phase::Running | Phase::WaitingCapacity | Phase::WaitingCrossover
                ) =>
            {
                self.clock.stop(now_ms);
                self.enter(Phase::Paused, None, now_ms);
                vec![self.note(now_ms, What::Paused)]
            }
            Command::Pause => return refuse("paused"),
            Command::Resume if matches!(self.phase, Phase::Paused | Phase::Held) => {
                if self.phase == Phase::Held {
                    self.clock = Clock::default();
                }
                let phase = match self.crossing {
                    true => Phase::WaitingCrossover,
                    false => Phase::WaitingCapacity,
                };
                self.enter(phase, None, now_ms);
                vec![self.note(now_ms, What::Resumed)]
            }
            Command::Resume => return refuse("resumed"),
            Command::Promote if self.phase.is_active() => {
                let step = self.step;
                let mut events = vec![self.note(now_ms, What::MovedOn { step })];
                events.extend(self.advance(plan, now_ms));
                events
            }
            Command::Promote => return refuse("promoted"),
            Command::PromoteFully if self.phase == Phase::Promoted => return refuse("promoted"),
            Command::PromoteFully => vec![self.promote(now_ms)],
            Command::Abort if self.phase.is_active() || self.phase == Phase::Promoted => {
                self.clock.stop(now_ms);
                self.share = 0.0;
                self.enter(Phase::Aborted, None, now_ms);
                vec![self.note(now_ms, What::Aborted)]
            }
            Command::Abort => return refuse("aborted"),
        })
    }

    fn start(&mut self, now_ms: u64) -> Vec<Event> {
        *self = Self {
            fingerprint: self.fingerprint,
            run: self.run.saturating_add(1),
            ahead: true,
            events: std::mem::take(&mut self.events),
            verdicts: std::mem::take(&mut self.verdicts),
            profiles: std::mem::take(&mut self.profiles),
            // The backends run what they run.
            partner: self.partner.take(),
            swapped: self.swapped,
            ..Self::default()
        };
        self.enter(Phase::WaitingCapacity, None, now_ms);
        vec![self.note(now_ms, What::Started)]
    }
}

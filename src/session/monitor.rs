//! What a transcript cannot tell about its session.

use std::time::Duration;

use tokio::time::Instant;

use super::counters::{Counters, Small};
use super::lineage::{Kind, LineageId, Place, Trail, Transcript, place};
use super::rate::Rate;
use super::visit::Served;
use crate::fleet::BackendId;
use crate::guard::context::{ContextState, Remembered};
use crate::guard::loops::{LoopState, Spent};

/// Lineages remembered of one session; Claude Code runs up to ten subagents beside the main one.
pub(super) const MAX_LINEAGES: usize = 12;

/// Messages two conversations must have in common for one to profit from the other's KV cache: the
/// human's and the model's first. Fewer say only that they begin alike.
const WORTH_SHARING: usize = 2;

/// Lineages of one session whose loop state is kept. Those under way have theirs in the hot cache
/// too; of the others only the last ones in trouble matter.
pub(super) const MAX_LOOPS: usize = 2;

/// The state of one session, at most 2 KiB.
#[derive(Debug)]
pub(super) struct SessionMonitor {
    /// When it was first seen.
    pub(super) since: Instant,
    rate: Rate,
    /// All turns, those of forgotten lineages included.
    pub(super) total: Counters,
    /// Times guards changed something, in turns that failed as well.
    pub(super) interventions: u32,
    /// What had been spent when a human last set the session free.
    freed: Freed,
    /// The most recently committed first.
    lineages: Vec<Lineage>,
}

/// What is remembered of one lineage.
#[derive(Clone, Debug)]
pub(super) struct Lineage {
    pub(super) trail: Trail,
    /// Who served it last, and has its KV cache.
    pub(super) backend: Option<BackendId>,
    /// When its last turn was committed, in seconds since the session began.
    seen: u32,
    spent: Small,
    /// Of conversations that were counted or cut; others have nothing to remember.
    context: Option<Box<ContextState>>,
    /// Where it stands on the ladder of loop protection, if that matters.
    pub(super) loops: Option<Box<LoopState>>,
}

/// Where a session's budget begins.
#[derive(Clone, Copy, Debug, Default)]
struct Freed {
    turns: u32,
    seconds: u32,
    generated: u64,
}

/// Where a turn was counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counted {
    pub(super) lineage: LineageId,
    pub(super) is_retry: bool,
}

/// The lineage whose KV cache a request can use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cache {
    /// Its own, or one that began alike.
    pub lineage: LineageId,
    /// How much of it the request has in common with it, up to 1.
    pub common: f64,
}

/// What a request meets.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub(super) lineage: LineageId,
    pub(super) preferred: Option<BackendId>,
    pub(super) cache: Option<Cache>,
    pub(super) main: Option<(LineageId, BackendId)>,
    pub(super) is_retry: bool,
    pub(super) context: Remembered,
    /// Messages of the request that were there at the last turn.
    pub(super) covered: Option<usize>,
    pub(super) loops: Option<LoopState>,
}

impl Lineage {
    /// What was done and spent in it.
    pub(super) fn counters(&self) -> Counters {
        self.spent.into()
    }
}

impl SessionMonitor {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            since: now,
            rate: Rate::default(),
            total: Counters::default(),
            interventions: 0,
            freed: Freed::default(),
            lineages: Vec::new(),
        }
    }

    /// Requests in the last 60 s, this one included.
    pub(super) fn hit(&mut self, now: Instant) -> u32 {
        self.rate.hit(self.seconds(now))
    }

    /// Guards have changed something this often.
    pub(super) fn intervened(&mut self, times: usize) {
        let times = u32::try_from(times).unwrap_or(u32::MAX);
        self.interventions = self.interventions.saturating_add(times);
    }

    /// Requests in the last 60 s.
    pub(super) fn rate(&self, now: Instant) -> u32 {
        self.rate.count(self.seconds(now))
    }

    pub(super) fn lineages(&self) -> &[Lineage] {
        &self.lineages
    }

    /// What is known about the conversation of `transcript`; changes nothing.
    pub(super) fn snapshot<M: AsRef<[u64]>>(
        &self,
        transcript: &Transcript,
        messages: impl Fn(LineageId) -> Option<M>,
    ) -> Snapshot {
        match self.place(transcript, &messages) {
            Place::Known(index) => {
                let lineage = &self.lineages[index];
                Snapshot {
                    lineage: lineage.trail.id,
                    preferred: lineage.backend.clone(),
                    cache: Some(Cache {
                        lineage: lineage.trail.id,
                        common: 1.0,
                    }),
                    main: self.main_beside(transcript),
                    is_retry: lineage.trail.is_retried_by(transcript),
                    context: self.remembered(transcript, Some(index)),
                    covered: lineage.trail.covered(transcript),
                    loops: lineage.loops.as_deref().cloned(),
                }
            }
            Place::New(lineage) => {
                let nearest = self.nearest(transcript, messages);
                let (cache, preferred) = nearest.unzip();
                Snapshot {
                    lineage,
                    preferred: preferred.flatten(),
                    cache,
                    main: self.main_beside(transcript),
                    is_retry: false,
                    context: self.remembered(transcript, None),
                    covered: None,
                    loops: None,
                }
            }
        }
    }

    /// A turn was answered. The place is found anew: another request of the same
    /// lineage may have been committed meanwhile.
    pub(super) fn commit<M: AsRef<[u64]>>(
        &mut self,
        transcript: &Transcript,
        messages: impl Fn(LineageId) -> Option<M>,
        served: Served,
        now: Instant,
    ) -> Counted {
        let seconds = self.since_began(now);
        let place = self.place(transcript, messages);
        let (mut lineage, is_retry) = match place {
            Place::Known(index) => {
                let lineage = self.lineages.remove(index);
                let is_retry = lineage.trail.is_retried_by(transcript);
                (lineage, is_retry)
            }
            Place::New(id) => {
                self.make_room();
                (Lineage::new(Trail::new(id, transcript)), false)
            }
        };
        let Served {
            backend,
            usage,
            context,
            loops: _,
        } = served;
        let id = lineage.trail.id;
        lineage.trail = Trail::new(id, transcript);
        lineage.seen = seconds;
        lineage.spent.add(is_retry, usage);
        if backend.is_some() {
            // A turn that asked nobody has learned nothing.
            lineage.context = (!context.is_empty()).then(|| Box::new(context));
            lineage.backend = backend;
        }
        self.total.add(is_retry, usage);
        self.lineages.insert(0, lineage);
        Counted {
            lineage: id,
            is_retry,
        }
    }

    /// Where `lineage` stands on the ladder, if that matters.
    pub(super) fn loops(&self, lineage: LineageId) -> Option<&LoopState> {
        let found = self.lineages.iter().find(|l| l.trail.id == lineage);
        found?.loops.as_deref()
    }

    /// Remember where `lineage` stands on the ladder, in place of the one that was not asked about
    /// for longest.
    pub(super) fn keep_loops(&mut self, lineage: LineageId, state: &LoopState) {
        let Some(found) = self.lineages.iter_mut().find(|l| l.trail.id == lineage) else {
            return;
        };
        found.loops = state.matters().then(|| Box::new(state.clone()));
        let kept = self.lineages.iter_mut().filter(|l| l.loops.is_some());
        kept.skip(MAX_LOOPS).for_each(|l| l.loops = None);
    }

    /// What was spent since a human last set the session free.
    pub(super) fn spent(&self, now: Instant) -> Spent {
        let Freed {
            turns,
            seconds,
            generated,
        } = self.freed;
        let wall = self.since_began(now).saturating_sub(seconds);
        Spent {
            turns: self.total.turns.saturating_sub(turns),
            generated: self.total.tokens.completion.saturating_sub(generated),
            wall: Duration::from_secs(u64::from(wall)),
        }
    }

    /// A human has set the session free: its budget begins again.
    pub(super) fn free(&mut self, now: Instant) {
        self.freed = Freed {
            turns: self.total.turns,
            seconds: self.since_began(now),
            generated: self.total.tokens.completion,
        };
    }

    /// What the lineage at `index` remembers of its size, and all cuts of its kind.
    fn remembered(&self, transcript: &Transcript, index: Option<usize>) -> Remembered {
        let own = index.and_then(|index| self.lineages[index].context.as_deref());
        let alike = self.lineages.iter();
        let alike = alike.filter(|lineage| lineage.trail.kind() == transcript.kind());
        Remembered {
            own: own.cloned().unwrap_or_default(),
            others: alike.filter_map(|l| l.context.as_ref()?.cut()).collect(),
        }
    }

    fn place<M: AsRef<[u64]>>(
        &self,
        transcript: &Transcript,
        messages: impl Fn(LineageId) -> Option<M>,
    ) -> Place {
        place(transcript, self.lineages.iter().map(|l| &l.trail), messages)
    }

    /// The lineage, and its backend, that has most in common with a new one: a conversation that went
    /// back a few turns finds most of its KV cache there.
    fn nearest<M: AsRef<[u64]>>(
        &self,
        transcript: &Transcript,
        messages: impl Fn(LineageId) -> Option<M>,
    ) -> Option<(Cache, Option<BackendId>)> {
        let same_kind = |l: &&Lineage| l.trail.kind() == transcript.kind();
        let alike = self.lineages.iter().filter(same_kind);
        let candidates = alike.filter_map(|lineage| {
            let known = messages(lineage.trail.id)?;
            let length = transcript.common_prefix(known.as_ref());
            (length >= WORTH_SHARING).then_some((length, lineage))
        });
        let (length, lineage) = candidates.max_by_key(|(length, _)| *length)?;
        let cache = Cache {
            lineage: lineage.trail.id,
            common: (length as f64 / lineage.trail.length().max(1) as f64).min(1.0),
        };
        Some((cache, lineage.backend.clone()))
    }

    /// The main conversation and its backend, if `transcript` is a side call: a subagent's, or one
    /// without tools.
    fn main_beside(&self, transcript: &Transcript) -> Option<(LineageId, BackendId)> {
        if transcript.kind() == Kind::Tools {
            return None;
        }
        let mains = self
            .lineages
            .iter()
            .filter(|l| l.trail.kind() == Kind::Tools);
        let main = mains.max_by_key(|lineage| lineage.counters().turns)?;
        Some((main.trail.id, main.backend.clone()?))
    }

    /// Forget the lineage not seen for longest, but never the one with most turns: while its
    /// subagents work, the main conversation waits.
    fn make_room(&mut self) {
        if self.lineages.len() < MAX_LINEAGES {
            // Exactly: most sessions have one or two.
            self.lineages.reserve_exact(1);
            return;
        }
        let turns = |lineage: &Lineage| lineage.spent.turns;
        let most = self.lineages.iter().map(turns).max().unwrap_or(0);
        let main = self.lineages.iter().position(|l| turns(l) == most);
        let last = self.lineages.len() - 1;
        let victim = if main == Some(last) { last - 1 } else { last };
        self.lineages.remove(victim);
    }

    fn seconds(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.since).as_secs()
    }

    fn since_began(&self, now: Instant) -> u32 {
        u32::try_from(self.seconds(now)).unwrap_or(u32::MAX)
    }

    /// When the last turn of `lineage` was committed, to the second.
    pub(super) fn seen(&self, lineage: &Lineage) -> Instant {
        self.since + Duration::from_secs(u64::from(lineage.seen))
    }
}

impl Lineage {
    /// Messages of the last turn that were not sent.
    pub(super) fn left_out(&self) -> u32 {
        let context = self.context.as_deref();
        context.and_then(|c| c.cut()).map_or(0, |cut| cut.removed())
    }

    fn new(trail: Trail) -> Self {
        Self {
            trail,
            backend: None,
            seen: 0,
            spent: Small::default(),
            loops: None,
            context: None,
        }
    }
}

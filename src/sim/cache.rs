//! The slots and their prefix caches: which slot a prompt gets and how much of it is reused.
//!
//! As in `get_available_slot` of b11434: the idle slot with the longest common prefix, if that is
//! more than a tenth of the prompt, else the least recently used one. A conversation that loses
//! its slot may be kept aside in a bounded store and loaded back (`--cache-ram`).

use super::tokens::Token;

/// `--slot-prompt-similarity`.
const SIMILARITY: f64 = 0.1;

/// What `/slots` shows of a slot's last task.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) id: u64,
    pub(crate) prompt: usize,
    pub(crate) processed: usize,
    pub(crate) cached: usize,
    pub(crate) decoded: usize,
    pub(crate) limit: Option<usize>,
    pub(crate) stream: bool,
    pub(crate) chat: bool,
    pub(crate) temperature: f64,
    pub(crate) seed: u64,
    pub(crate) ignore_eos: bool,
}

/// One parallel sequence.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slot {
    pub(crate) busy: bool,
    pub(crate) task: Option<Task>,
    tokens: Vec<Token>,
    used: u64,
}

impl Slot {
    /// Tokens in the slot's part of the KV cache.
    pub(crate) fn len(&self) -> usize {
        match (&self.task, self.busy) {
            (Some(task), true) => task.cached + task.processed + task.decoded,
            _ => self.tokens.len(),
        }
    }
}

/// All slots of a server.
#[derive(Debug)]
pub(crate) struct Slots {
    pub(crate) slots: Vec<Slot>,
    clock: u64,
    aside: Vec<Vec<Token>>,
    aside_room: usize,
    /// Most tokens over all slots, when they share one cache.
    shared: Option<usize>,
}

/// A slot given to a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub(crate) slot: usize,
    /// Prompt tokens that are already in the cache; at least one is always evaluated.
    pub(crate) cached: usize,
}

impl Slots {
    /// `shared`: size of one cache for all slots; `aside_room`: tokens kept of idle conversations.
    pub(crate) fn new(total: usize, shared: Option<usize>, aside_room: usize) -> Self {
        Self {
            slots: vec![Slot::default(); total],
            clock: 0,
            aside: Vec::new(),
            aside_room,
            shared,
        }
    }

    /// Takes an idle slot for `prompt`; `None` when all are busy.
    pub(crate) fn assign(&mut self, prompt: &[Token], reuse: bool) -> Option<Assignment> {
        let idle = |slot: &&Slot| !slot.busy;
        let best = self
            .slots
            .iter()
            .enumerate()
            .filter(|(_, slot)| !slot.busy)
            .map(|(index, slot)| (common(&slot.tokens, prompt), index))
            .max_by_key(|(common, index)| (*common, usize::MAX - index));
        let similar = best.filter(|(common, _)| *common as f64 > SIMILARITY * prompt.len() as f64);
        let slot = match similar {
            Some((_, index)) => index,
            None => {
                let oldest = self.slots.iter().filter(idle).map(|slot| slot.used).min()?;
                self.slots
                    .iter()
                    .position(|slot| !slot.busy && slot.used == oldest)?
            }
        };
        self.swap(slot, prompt);
        self.clock += 1;
        let clock = self.clock;
        let chosen = &mut self.slots[slot];
        chosen.busy = true;
        chosen.used = clock;
        let cached = common(&chosen.tokens, prompt).min(prompt.len().saturating_sub(1));
        Some(Assignment {
            slot,
            cached: if reuse { cached } else { 0 },
        })
    }

    /// Keeps a conversation aside that would lose more than half of its tokens, and loads a
    /// better one for `prompt` if there is one.
    fn swap(&mut self, slot: usize, prompt: &[Token]) {
        let kept = common(&self.slots[slot].tokens, prompt);
        if self.aside_room == 0 || kept * 2 >= self.slots[slot].tokens.len().max(1) {
            return;
        }
        let evicted = std::mem::take(&mut self.slots[slot].tokens);
        let better = self
            .aside
            .iter()
            .enumerate()
            .map(|(index, tokens)| (common(tokens, prompt), index))
            .filter(|(found, index)| *found > kept && found * 4 >= self.aside[*index].len())
            .max();
        self.slots[slot].tokens = match better {
            Some((_, index)) => self.aside.remove(index),
            None => evicted[..kept].to_vec(),
        };
        if evicted.len() <= self.aside_room {
            self.aside.push(evicted);
        }
        let mut total: usize = self.aside.iter().map(Vec::len).sum();
        while total > self.aside_room && !self.aside.is_empty() {
            total -= self.aside.remove(0).len();
        }
    }

    /// Gives a slot back with the tokens that are now in its cache.
    pub(crate) fn release(&mut self, slot: usize, tokens: Vec<Token>) {
        let slot = &mut self.slots[slot];
        slot.busy = false;
        slot.tokens = tokens;
        if let Some(task) = &mut slot.task {
            (task.processed, task.cached, task.decoded) = (0, 0, 0);
        }
    }

    /// With one cache for all: true when it overflows even after idle slots were emptied.
    pub(crate) fn overflows(&mut self) -> bool {
        let Some(size) = self.shared else {
            return false;
        };
        let mut total: usize = self.slots.iter().map(Slot::len).sum();
        while total > size {
            let idle = self
                .slots
                .iter_mut()
                .filter(|slot| !slot.busy && !slot.tokens.is_empty());
            let Some(oldest) = idle.min_by_key(|slot| slot.used) else {
                return true;
            };
            total -= oldest.tokens.len();
            oldest.tokens.clear();
        }
        false
    }

    /// Number of busy slots.
    pub(crate) fn busy(&self) -> usize {
        self.slots.iter().filter(|slot| slot.busy).count()
    }
}

fn common(a: &[Token], b: &[Token]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(start: u64, len: u64) -> Vec<Token> {
        (start..start + len).collect()
    }

    fn run(slots: &mut Slots, prompt: &[Token]) -> Assignment {
        let assignment = slots.assign(prompt, true).unwrap();
        slots.release(assignment.slot, prompt.to_vec());
        assignment
    }

    #[test]
    fn a_conversation_returns_to_its_slot() {
        let mut slots = Slots::new(2, None, 0);
        assert_eq!(
            run(&mut slots, &prompt(0, 100)),
            Assignment { slot: 0, cached: 0 }
        );
        assert_eq!(
            run(&mut slots, &prompt(1000, 100)),
            Assignment { slot: 1, cached: 0 }
        );
        assert_eq!(
            run(&mut slots, &prompt(0, 150)),
            Assignment {
                slot: 0,
                cached: 100
            }
        );
        assert_eq!(
            run(&mut slots, &prompt(0, 150)),
            Assignment {
                slot: 0,
                cached: 149
            }
        );
        assert_eq!(
            run(&mut slots, &prompt(5000, 10)),
            Assignment { slot: 1, cached: 0 },
            "LRU"
        );
    }

    #[test]
    fn little_similarity_does_not_bind() {
        let mut slots = Slots::new(2, None, 0);
        run(&mut slots, &prompt(0, 100));
        let mut other = prompt(0, 5);
        other.extend(prompt(7000, 95));
        assert_eq!(run(&mut slots, &other), Assignment { slot: 1, cached: 0 });
    }

    #[test]
    fn busy_slots_are_not_given() {
        let mut slots = Slots::new(1, None, 0);
        assert!(slots.assign(&prompt(0, 10), true).is_some());
        assert_eq!(slots.assign(&prompt(0, 10), true), None);
        assert_eq!(slots.busy(), 1);
    }

    #[test]
    fn reuse_can_be_refused() {
        let mut slots = Slots::new(1, None, 0);
        run(&mut slots, &prompt(0, 10));
        assert_eq!(
            slots.assign(&prompt(0, 10), false),
            Some(Assignment { slot: 0, cached: 0 })
        );
    }

    #[test]
    fn evicted_conversations_come_back_from_the_side_store() {
        for (room, cached) in [(0, 0), (1000, 100)] {
            let mut slots = Slots::new(1, None, room);
            run(&mut slots, &prompt(0, 100));
            run(&mut slots, &prompt(1000, 100));
            assert_eq!(
                run(&mut slots, &prompt(0, 120)).cached,
                cached,
                "room {room}"
            );
        }
    }

    #[test]
    fn a_shared_cache_empties_idle_slots_first() {
        let mut slots = Slots::new(2, Some(150), 0);
        run(&mut slots, &prompt(0, 100));
        let taken = slots.assign(&prompt(1000, 100), true).unwrap();
        let task = Task {
            id: 1,
            prompt: 100,
            processed: 100,
            cached: 0,
            decoded: 0,
            limit: None,
            stream: true,
            chat: true,
            temperature: 0.0,
            seed: 1,
            ignore_eos: false,
        };
        slots.slots[taken.slot].task = Some(task);
        assert!(!slots.overflows());
        assert_eq!(slots.slots[0].len(), 0, "the idle conversation was dropped");
        slots.slots[taken.slot].task.as_mut().unwrap().decoded = 51;
        assert!(slots.overflows());
    }
}

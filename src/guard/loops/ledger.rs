//! What a lineage has done and seen, and what that makes of its next step.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use super::class::Kind;
use super::read::{Seen, Step};

/// Turns back in which the same call with the same result is a repetition.
const REPEAT_WINDOW: u32 = 4;

/// Turns back in which a change that was made before is an oscillation.
const OSCILLATION_WINDOW: u32 = 32;

/// Turns back in which reading the same again counts.
const REREAD_WINDOW: u32 = 16;

/// How often the same thing must have happened to be called a repetition.
const TIMES: usize = 3;

/// Longest cycle looked for, in turns.
const LONGEST_CYCLE: usize = 4;

/// Entries of each kind remembered; beyond it the oldest half is forgotten.
const MAX_ENTRIES: usize = 8192;

/// Reads remembered.
const MAX_READS: usize = 32;

/// How many unchanged answers of something that waits count as one.
const PATIENCE: u32 = 3;

/// Hashes are their own hash.
#[derive(Clone, Copy, Default)]
struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

type Hashed = BuildHasherDefault<Identity>;

/// What a tool turn was worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// It brought something new.
    Productive,
    /// The same was done with the same result a moment ago.
    Repeated,
    /// Neither: a new call, but nothing new came of it.
    Barren,
    /// It says nothing, for or against.
    Neutral,
}

/// What a tool turn was, in the light of those before it.
#[derive(Clone, Debug)]
pub(super) struct Judged {
    pub(super) class: Class,
    /// How often in a row this very turn has happened, this time included.
    pub(super) run: u32,
    /// Length of the cycle it closes for the third time.
    pub(super) cycle: Option<usize>,
    /// It reads for the third time what has not changed.
    pub(super) reread: bool,
    /// Tools of the last cycle, or of this turn.
    pub(super) names: Vec<u32>,
}

/// A step in the light of those before it.
#[derive(Clone, Debug)]
pub(super) struct Verdict {
    /// Its tool turn; none if it has no calls.
    pub(super) turn: Option<Judged>,
    /// A human has said something new in it.
    pub(super) human: bool,
}

/// See the module's documentation. Rebuilt from the transcript when it was forgotten.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    turns: u32,
    /// Calls with their results, and when they were last seen.
    pairs: HashMap<u64, u32, Hashed>,
    results: HashSet<u64, Hashed>,
    calls: HashSet<u64, Hashed>,
    recent: VecDeque<Turn>,
    reads: VecDeque<Reading>,
    waited: u32,
    run: u32,
    /// What a human said last.
    human: u64,
    /// There was text beside the last results.
    beside: bool,
}

#[derive(Clone, Debug)]
struct Turn {
    signature: u64,
    names: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Reading {
    target: u64,
    result: u64,
    times: u32,
    turn: u32,
}

impl Ledger {
    /// Memory it takes, about, in bytes.
    pub fn bytes(&self) -> usize {
        self.pairs.capacity() * 17 + (self.results.capacity() + self.calls.capacity()) * 9 + 1024
    }

    /// Take in a step.
    pub(super) fn judge(&mut self, step: &Step) -> Verdict {
        let turn = self.tool_turn(step);
        let human = self.hears(step);
        if human {
            self.begin_anew();
        }
        Verdict { turn, human }
    }

    /// Whether a human has said something new. Text that comes beside the results of every turn is
    /// the agent's own.
    fn hears(&mut self, step: &Step) -> bool {
        let beside = !step.calls.is_empty() && step.human.is_some();
        let always = std::mem::replace(&mut self.beside, beside) && beside;
        let Some(human) = step.human else {
            return false;
        };
        let is_new = std::mem::replace(&mut self.human, human) != human;
        is_new && !always
    }

    /// A human has said something new: what was done is known, but not held against anybody.
    fn begin_anew(&mut self) {
        self.recent.clear();
        self.reads.clear();
        (self.run, self.waited) = (0, 0);
        self.turns += REPEAT_WINDOW + 1;
    }

    fn tool_turn(&mut self, step: &Step) -> Option<Judged> {
        if step.calls.is_empty() {
            return None;
        }
        self.turns += 1;
        let classes: Vec<Class> = step.calls.iter().map(|call| self.classify(call)).collect();
        let reread = step
            .calls
            .iter()
            .fold(false, |any, call| self.reads_again(call) | any);
        for call in &step.calls {
            self.remember(call);
        }
        let class = self.patiently(step, sum(&classes));
        self.note(step);
        let cycle = self.cycle();
        let alone = self.run as usize >= TIMES || reread;
        let turns = cycle.unwrap_or(if alone { 1 } else { REPEAT_WINDOW as usize });
        Some(Judged {
            class,
            run: self.run,
            cycle,
            reread,
            names: self.names(turns),
        })
    }

    fn classify(&self, call: &Seen) -> Class {
        let pair = call.pair();
        let seen = self.pairs.get(&pair).map(|turn| self.turns - turn);
        match (call.kind, seen) {
            (Kind::Polling, Some(_)) => Class::Neutral,
            (_, Some(ago)) if ago <= REPEAT_WINDOW => Class::Repeated,
            (Kind::Change, Some(ago)) if ago <= OSCILLATION_WINDOW => Class::Repeated,
            (_, Some(_)) => Class::Barren,
            (_, None) => self.first_time(call),
        }
    }

    /// This call has not had this result before.
    fn first_time(&self, call: &Seen) -> Class {
        let Some(result) = call.result else {
            return Class::Neutral;
        };
        let is_rerun = self.calls.contains(&call.call);
        let changes = call.kind == Kind::Change && !result.is_error;
        let is_news = !result.is_empty && !result.is_error && !self.results.contains(&result.hash);
        if is_rerun || changes || is_news || call.kind == Kind::Polling {
            Class::Productive
        } else {
            Class::Barren
        }
    }

    /// Something that waits may give the same answer for a while.
    fn patiently(&mut self, step: &Step, class: Class) -> Class {
        let waits = step.calls.iter().all(|call| call.kind == Kind::Wait);
        if class != Class::Repeated || !waits {
            self.waited = 0;
            return class;
        }
        self.waited += 1;
        if self.waited.is_multiple_of(PATIENCE) {
            Class::Repeated
        } else {
            Class::Neutral
        }
    }

    fn remember(&mut self, call: &Seen) {
        self.pairs.insert(call.pair(), self.turns);
        self.calls.insert(call.call);
        if let Some(result) = call.result {
            self.results.insert(result.hash);
        }
        if self.pairs.len() > MAX_ENTRIES {
            let recent = self.turns.saturating_sub(MAX_ENTRIES as u32 / 4);
            self.pairs.retain(|_, turn| *turn >= recent);
            self.results.clear();
            self.calls.clear();
        }
    }

    /// Whether `call` reads for the third time in a while what has not changed.
    fn reads_again(&mut self, call: &Seen) -> bool {
        let (Some(target), Some(result)) = (call.target, call.result) else {
            return false;
        };
        let turn = self.turns;
        let known = self
            .reads
            .iter_mut()
            .find(|read| read.target == target && turn - read.turn <= REREAD_WINDOW);
        if let Some(read) = known {
            read.times = if read.result == result.hash {
                read.times + 1
            } else {
                1
            };
            (read.result, read.turn) = (result.hash, turn);
            return read.times as usize >= TIMES;
        }
        if self.reads.len() == MAX_READS {
            self.reads.pop_front();
        }
        self.reads.push_back(Reading {
            target,
            result: result.hash,
            times: 1,
            turn,
        });
        false
    }

    fn note(&mut self, step: &Step) {
        let signature = step.signature();
        let waits = self.waited > 0 && !self.waited.is_multiple_of(PATIENCE);
        let before = self.recent.back().map(|turn| turn.signature);
        if waits {
            return;
        }
        self.run = if before == Some(signature) {
            self.run + 1
        } else {
            1
        };
        if self.recent.len() == TIMES * LONGEST_CYCLE {
            self.recent.pop_front();
        }
        self.recent.push_back(Turn {
            signature,
            names: step.names().collect(),
        });
    }

    /// The shortest cycle of at least two turns that has just gone round three times.
    fn cycle(&self) -> Option<usize> {
        (2..=LONGEST_CYCLE).find(|length| {
            let span = length * TIMES;
            let Some(start) = self.recent.len().checked_sub(span) else {
                return false;
            };
            let signature = |at: usize| self.recent[start + at].signature;
            let distinct = (1..*length).any(|at| signature(at) != signature(0));
            distinct && (*length..span).all(|at| signature(at) == signature(at - length))
        })
    }

    fn names(&self, turns: usize) -> Vec<u32> {
        let mut names = Vec::new();
        for turn in self.recent.iter().rev().take(turns) {
            for name in &turn.names {
                if !names.contains(name) {
                    names.push(*name);
                }
            }
        }
        names
    }

    /// Forget nothing, and know in addition what `older` knew: a client's compaction hides what was
    /// done, it does not undo it.
    pub(super) fn absorb(&mut self, older: &Self) {
        let offset = older.turns;
        for turn in self.pairs.values_mut() {
            *turn += offset;
        }
        for read in &mut self.reads {
            read.turn += offset;
        }
        for (pair, turn) in &older.pairs {
            self.pairs.entry(*pair).or_insert(*turn);
        }
        if self.human == 0 {
            (self.human, self.beside) = (older.human, older.beside);
        }
        self.results.extend(&older.results);
        self.calls.extend(&older.calls);
        self.turns += offset;
    }
}

/// What a turn of several calls was.
fn sum(classes: &[Class]) -> Class {
    let any = |class: Class| classes.contains(&class);
    if any(Class::Productive) {
        Class::Productive
    } else if any(Class::Barren) {
        Class::Barren
    } else if any(Class::Repeated) {
        Class::Repeated
    } else {
        Class::Neutral
    }
}

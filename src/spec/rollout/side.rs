//! What came of the turns of one side.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::spec::sequential::{Count, Sample};
use crate::spec::{Aggregate, Observation, Stratum};

/// Sessions that are told apart; no step asks for more.
const MOST_SESSIONS: usize = 1024;

/// First turns of the candidate whose accept length is what later ones are compared with.
const FIRST: u64 = 32;

/// Turns of one look at the latest ones.
const BLOCK: u64 = 32;

/// One side of a step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// By class and load.
    #[serde(with = "pairs")]
    pub strata: BTreeMap<Stratum, Aggregate>,
    /// Hashes of its sessions.
    sessions: BTreeSet<u64>,
}

impl Side {
    /// A turn of `session`.
    pub fn push(&mut self, session: &str, seen: &Observation) {
        self.strata.entry(seen.stratum).or_default().push(seen);
        if self.sessions.len() < MOST_SESSIONS {
            self.sessions.insert(xxh3_64(session.as_bytes()));
        }
    }

    /// How many turns.
    pub fn turns(&self) -> u64 {
        self.strata.values().map(|all| all.turns).sum()
    }

    /// How many sessions, up to the most that are told apart.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// Sessions of both halves of a crossover.
    pub(super) fn sessions_with(&self, first: Option<&Self>) -> usize {
        let first = first.map(|side| &side.sessions);
        match first {
            Some(first) => self.sessions.union(first).count(),
            None => self.sessions.len(),
        }
    }

    /// Failed turns of whatever class.
    pub fn errors(&self) -> Count {
        let all = self.strata.values().map(Aggregate::errors);
        all.fold(Count::default(), Count::merged)
    }
}

/// Accept length of the candidate: at first, and since.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    #[serde(with = "pairs")]
    strata: BTreeMap<Stratum, Since>,
}

/// Of one stratum.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Since {
    /// The first turns.
    pub first: Sample,
    /// The latest ones, up to a block of them.
    pub latest: Sample,
    /// Blocks that are complete.
    pub blocks: u32,
}

impl Drift {
    /// A turn of the candidate.
    pub fn push(&mut self, seen: &Observation) {
        let Some(length) = seen.drafts.accept_length().map(f64::ln) else {
            return;
        };
        let since = self.strata.entry(seen.stratum).or_default();
        if since.first.n() < FIRST {
            since.first.push(length);
            return;
        }
        if since.latest.n() >= BLOCK {
            since.latest = Sample::default();
            since.blocks = since.blocks.saturating_add(1);
        }
        since.latest.push(length);
    }

    /// By stratum.
    pub fn strata(&self) -> impl Iterator<Item = (Stratum, &Since)> {
        self.strata.iter().map(|(stratum, since)| (*stratum, since))
    }

    /// Of one stratum.
    pub fn of(&self, stratum: Stratum) -> Option<&Since> {
        self.strata.get(&stratum)
    }
}

/// A map as a list: keys of JSON objects are text.
mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<K: Serialize, V: Serialize, S: Serializer>(
        map: &BTreeMap<K, V>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map)
    }

    pub(super) fn deserialize<'de, K, V, D>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
    where
        K: Deserialize<'de> + Ord,
        V: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        let pairs = Vec::<(K, V)>::deserialize(deserializer)?;
        Ok(pairs.into_iter().collect())
    }
}

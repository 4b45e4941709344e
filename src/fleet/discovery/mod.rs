//! Backends that are not listed in the configuration but found: in a file, in DNS, in Kubernetes, at a router.
//!
//! Each source runs in a task of its own and tells the whole set it sees. [`Discovery`] compares that with
//! what it told before; whoever reloads the fleet puts it to use like a changed configuration. A source that
//! fails, or finds nothing, changes nothing.

mod dns;
mod file;
mod kubernetes;
mod once;
mod router;

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};

use crate::config::{self, Backend, Config};
pub use once::Missing;

/// What came of something that a source told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiscoveryResult {
    /// The pool has these backends now.
    Applied,
    /// The pool had them already.
    Unchanged,
    /// It found none: the pool keeps those it has.
    Empty,
    /// It could not look: the pool keeps those it has.
    Failed,
    /// They cannot be used, such as two of one name: the pool keeps those it has.
    Invalid,
}

impl DiscoveryResult {
    /// Every result.
    pub const ALL: [Self; 5] = [
        Self::Applied,
        Self::Unchanged,
        Self::Empty,
        Self::Failed,
        Self::Invalid,
    ];

    /// Its name in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Unchanged => "unchanged",
            Self::Empty => "empty",
            Self::Failed => "failed",
            Self::Invalid => "invalid",
        }
    }
}

/// A set of backends, or why there is none, in words for people.
type Told = Result<Vec<Backend>, String>;

/// Something new about the backends of a pool.
#[derive(Debug)]
pub struct Found {
    /// Name of the pool.
    pub pool: String,
    /// What it is.
    pub news: News,
}

/// What a source told, compared with what it had told before.
#[derive(Debug)]
pub enum News {
    /// Other backends than before: at least one.
    Changed(Vec<Backend>),
    /// Nothing to do.
    None(DiscoveryResult),
}

/// What the sources have told and nobody has heard yet: the last of each.
#[derive(Debug, Default)]
struct Board {
    told: Mutex<BTreeMap<u64, Told>>,
    something: Notify,
}

/// The way of a source to tell.
#[derive(Clone, Debug)]
struct Teller {
    source: u64,
    board: Arc<Board>,
}

impl Teller {
    fn tell(&self, told: Told) {
        self.board.told.lock().insert(self.source, told);
        self.board.something.notify_one();
    }
}

#[derive(Debug)]
struct Source {
    id: u64,
    from: config::Discovery,
    task: AbortHandle,
    /// What the pool has from it.
    known: Vec<Backend>,
    /// What is wrong at present; it is logged when it changes.
    trouble: Option<String>,
    /// Its last set could not be used.
    refused: bool,
    /// It has told something.
    heard: bool,
}

/// Looks for the backends of every pool that has a source.
#[derive(Debug, Default)]
pub struct Discovery {
    board: Arc<Board>,
    sources: BTreeMap<String, Source>,
    tasks: JoinSet<()>,
    started: u64,
}

impl Discovery {
    /// Starts and stops looking, so that it is done for the pools of `config`. A pool whose source is another
    /// one now keeps what the old one found until the new one finds something. Call it inside a runtime.
    pub fn follow(&mut self, config: &Config) {
        let mut before = std::mem::take(&mut self.sources);
        for pool in &config.fleet.pools {
            let Some(from) = &pool.discovery else {
                continue;
            };
            let source = match before.remove(&pool.name) {
                // A set that could not be used may fit the new configuration: it is looked for again.
                Some(source) if source.from == *from && !source.refused => source,
                Some(old) => {
                    old.task.abort();
                    self.start(from, old.known)
                }
                None => self.start(from, Vec::new()),
            };
            self.sources.insert(pool.name.clone(), source);
        }
        before.into_values().for_each(|gone| gone.task.abort());
    }

    fn start(&mut self, from: &config::Discovery, known: Vec<Backend>) -> Source {
        self.started += 1;
        let teller = Teller {
            source: self.started,
            board: Arc::clone(&self.board),
        };
        Source {
            id: self.started,
            from: from.clone(),
            task: self.tasks.spawn(look(from.clone(), teller)),
            known,
            trouble: None,
            refused: false,
            heard: false,
        }
    }

    /// Whether every source has told something, good or bad.
    pub fn heard_all(&self) -> bool {
        self.sources.values().all(|source| source.heard)
    }

    /// Completes when a source has told something.
    pub async fn found(&mut self) -> Found {
        loop {
            while let Some(ended) = self.tasks.try_join_next() {
                if let Err(error) = ended
                    && error.is_panic()
                {
                    tracing::error!(%error, "a task that looks for backends has died");
                }
            }
            if let Some(found) = self.next() {
                return found;
            }
            self.board.something.notified().await;
        }
    }

    fn next(&mut self) -> Option<Found> {
        loop {
            let (id, told) = self.board.told.lock().pop_first()?;
            // The others have been stopped meanwhile.
            if let Some((pool, source)) = self.sources.iter_mut().find(|(_, s)| s.id == id) {
                return Some(Found {
                    pool: pool.clone(),
                    news: source.judge(pool, told),
                });
            }
        }
    }

    /// `config` with all that was found: for the pool `news` names these backends, for the others what they
    /// have.
    #[must_use]
    pub fn merged(&self, config: &Config, news: Option<(&str, &[Backend])>) -> Config {
        let mut merged = config.clone();
        for pool in &mut merged.fleet.pools {
            let known = match (news, self.sources.get(&pool.name)) {
                (Some((name, backends)), _) if name == pool.name => backends,
                (_, Some(source)) if pool.discovery.is_some() => &source.known,
                _ => &[],
            };
            pool.backends.extend(known.iter().cloned());
        }
        merged
    }

    /// The pool serves with `backends` now.
    pub fn applied(&mut self, pool: &str, backends: Vec<Backend>) {
        if let Some(source) = self.sources.get_mut(pool) {
            source.known = backends;
        }
    }

    /// What was found for the pool cannot be used.
    pub fn refused(&mut self, pool: &str, why: &str) {
        if let Some(source) = self.sources.get_mut(pool) {
            source.refused = true;
            source.keeps(pool, why);
        }
    }
}

impl Source {
    fn judge(&mut self, pool: &str, told: Told) -> News {
        self.heard = true;
        match told {
            Err(why) => {
                self.keeps(pool, &why);
                News::None(DiscoveryResult::Failed)
            }
            Ok(found) if found.is_empty() => {
                self.keeps(pool, "it found none");
                News::None(DiscoveryResult::Empty)
            }
            Ok(found) => {
                self.refused = false;
                if self.trouble.take().is_some() {
                    tracing::info!(pool, "backends are found again");
                }
                match found == self.known {
                    true => News::None(DiscoveryResult::Unchanged),
                    false => News::Changed(found),
                }
            }
        }
    }

    fn keeps(&mut self, pool: &str, why: &str) {
        if self.trouble.as_deref() != Some(why) {
            let kept = self.known.len();
            tracing::warn!(pool, why, kept, "no backends found; those known stay");
            self.trouble = Some(why.to_owned());
        }
    }
}

async fn look(from: config::Discovery, teller: Teller) {
    let config::Discovery {
        file,
        dns,
        srv,
        kubernetes,
        router,
        backend: like,
    } = from;
    if let Some(source) = file {
        file::look(&source, &teller).await;
    } else if let Some(source) = dns {
        dns::look_for_addresses(&source, &like, &teller).await;
    } else if let Some(source) = srv {
        dns::look_for_services(&source, &like, &teller).await;
    } else if let Some(source) = kubernetes {
        kubernetes::look(&source, &like, &teller).await;
    } else if let Some(source) = router {
        router::look(&source, &like, &teller).await;
    }
}

#[cfg(test)]
mod tests;

//! More conversations than slots: the real pool and its queue, in paused time, before modelled servers and agents, as in the
//! second case of `make bench-fleet`. What takes minutes there takes a second here, and always comes out the same.
//!
//! The yardstick is a router that never moves anybody: a conversation stays where it began, with the server that had the
//! fewest requests. With as many conversations everywhere that finds all there is in caches.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rstest::rstest;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::state::Observation;
use super::tests::ready;
use super::*;
use crate::config;
use crate::sim::cache::Slots;
use crate::sim::rng::Rng;

/// Tokens of an answer, and of a small request of another kind.
const ANSWER: u64 = 16;
const SIDE_CALL: u64 = 45;

/// What is played.
#[derive(Clone, Copy, Debug)]
struct Scene {
    servers: usize,
    slots: usize,
    conversations: u64,
    turns: u64,
    /// Tokens that a turn adds.
    growth: u64,
    /// Part of the turns that are followed by a small request of another kind.
    side_calls: f64,
    /// Tokens a second.
    reads: f64,
    writes: f64,
    /// Mean time in seconds between an answer and the next turn.
    thinks: f64,
    /// Of idle conversations in each server's memory, in tokens.
    aside: usize,
    restart: bool,
}

/// Who finds the places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Router {
    Drover,
    /// Each conversation stays where it began, with the server that had the fewest.
    Sticky,
}

/// What came of it.
#[derive(Debug, Default)]
struct Seen {
    turns: u64,
    /// Tokens that the turn before had read, and those of them that were found.
    could: u64,
    cached: u64,
    /// Seconds of all requests, side calls included.
    seconds: f64,
    requests: u64,
    /// Turns on another server than the last one's.
    moves: u64,
    /// Conversations that have begun on each server.
    begun: Vec<u64>,
}

/// A server.
struct Server {
    slots: Mutex<Slots>,
    /// How often it has begun anew, while it is up.
    life: watch::Sender<u64>,
    permits: tokio::sync::Semaphore,
}

/// What is being played.
struct Play {
    scene: Scene,
    router: Router,
    _fleet: Arc<Fleet>,
    pool: Arc<Pool>,
    servers: Vec<Server>,
    /// Requests of each, of those who wait there too.
    requests: Mutex<Vec<usize>>,
    seen: Mutex<Seen>,
}

/// A conversation.
struct Talk {
    number: u64,
    /// The server of its last turn, and the length of that turn's prompt.
    last: Option<usize>,
    said: u64,
}

impl Talk {
    fn new(number: u64) -> Self {
        Self {
            number,
            last: None,
            said: 0,
        }
    }
}

impl Play {
    fn new(scene: Scene, router: Router) -> Arc<Self> {
        let backend = |n: usize| {
            format!(
                "{{name: s{n}, url: 'http://127.0.0.1:{}', slots: {}}}",
                n + 1,
                scene.slots
            )
        };
        let backends: Vec<_> = (0..scene.servers).map(backend).collect();
        let text = format!(
            "fleet: {{pools: [{{name: p, models: [m], queue: {{timeout: 1h}}, backends: [{}]}}]}}",
            backends.join(", ")
        );
        let config = config::parse(&text, std::iter::empty()).unwrap();
        let fleet = Fleet::new(&config).unwrap();
        ready(&fleet);
        let server = || Server {
            slots: Mutex::new(Slots::new(scene.slots, None, scene.aside)),
            life: watch::Sender::new(0),
            permits: tokio::sync::Semaphore::new(scene.slots),
        };
        Arc::new(Self {
            scene,
            router,
            pool: fleet.pool("p").unwrap(),
            _fleet: fleet,
            servers: std::iter::repeat_with(server).take(scene.servers).collect(),
            requests: Mutex::new(vec![0; scene.servers]),
            seen: Mutex::new(Seen {
                begun: vec![0; scene.servers],
                ..Seen::default()
            }),
        })
    }

    async fn run(self: &Arc<Self>) {
        let mut all = JoinSet::new();
        for number in 0..self.scene.conversations {
            let play = Arc::clone(self);
            all.spawn(async move { play.converse(number).await });
        }
        while all.join_next().await.is_some() {}
    }

    async fn converse(self: Arc<Self>, number: u64) {
        let mut dice = Rng::seeded(&[7, number]);
        let mut talk = Talk::new(number);
        let mut length = 0;
        for turn in 0..self.scene.turns {
            length += self.scene.growth + dice.below(40) as u64;
            self.turn(&mut talk, length).await;
            length += ANSWER;
            if dice.unit() < self.scene.side_calls {
                let mut side = Talk::new(1_000_000 + number * 1000 + turn);
                self.ask(&mut side, SIDE_CALL).await;
            }
            let thinks = dice.unit() * 2.0 * self.scene.thinks;
            sleep(Duration::from_secs_f64(thinks)).await;
        }
    }

    async fn turn(self: &Arc<Self>, talk: &mut Talk, length: u64) {
        let (before, said) = (talk.last, talk.said);
        let cached = self.ask(talk, length).await.min(said);
        let half = {
            let mut seen = self.seen.lock();
            seen.turns += 1;
            seen.could += said;
            seen.cached += cached;
            match before {
                None => talk.last.into_iter().for_each(|at| seen.begun[at] += 1),
                Some(_) => seen.moves += u64::from(before != talk.last),
            }
            seen.turns == self.scene.conversations * self.scene.turns / 2
        };
        if half && self.scene.restart {
            let play = Arc::clone(self);
            tokio::spawn(async move { play.restart().await });
        }
    }

    /// The first server dies, and is there again 3 s later with nothing in its caches.
    async fn restart(&self) {
        let server = &self.servers[0];
        *server.slots.lock() = Slots::new(self.scene.slots, None, self.scene.aside);
        server.life.send_modify(|life| *life += 1);
        let backend = &self.pool.backends()[0];
        sleep(Duration::from_secs(1)).await;
        backend.observe(Observation::Loading, "");
        sleep(Duration::from_secs(2)).await;
        backend.observe(Observation::Well, "");
        self.pool.queue().offered();
    }

    fn wish(&self, talk: &Talk, length: u64) -> Wish {
        Wish {
            conversation: Some(talk.number),
            cache: talk.last.map(|at| Known {
                backend: self.pool.backends()[at].id().clone(),
                conversation: talk.number,
            }),
            common: 1.0,
            caller: Caller {
                principal: 1,
                session: talk.number,
                bytes: length * 5,
                ..Caller::default()
            },
            ..Wish::default()
        }
    }

    /// Tokens found in the cache.
    async fn ask(self: &Arc<Self>, talk: &mut Talk, length: u64) -> u64 {
        let began = Instant::now();
        let (mut except, mut held) = (smallvec::SmallVec::<[BackendId; 4]>::new(), None);
        loop {
            let (at, lease) = self.place(talk, length, &except, held.take()).await;
            let served = self.serve(at, talk.number, length).await;
            self.requests.lock()[at] -= usize::from(lease.is_none());
            match (served, lease) {
                (Some((cached, reading)), lease) => {
                    if let Some(lease) = lease {
                        lease.observe_success();
                        self.pool.served(lease.id(), talk.number, length + ANSWER);
                        self.pool.has_read(lease.id(), length - cached, reading);
                    }
                    (talk.last, talk.said) = (Some(at), length);
                    let mut seen = self.seen.lock();
                    seen.requests += 1;
                    seen.seconds += began.elapsed().as_secs_f64();
                    return cached;
                }
                (None, Some(lease)) => {
                    lease.observe_failure(Failure::Connect);
                    except.push(lease.id().clone());
                    held = Some(lease);
                }
                // Its client tries again.
                (None, None) => sleep(Duration::from_millis(1500)).await,
            }
        }
    }

    async fn place(
        &self,
        talk: &Talk,
        length: u64,
        except: &[BackendId],
        held: Option<Lease>,
    ) -> (usize, Option<Lease>) {
        if self.router == Router::Sticky {
            let mut requests = self.requests.lock();
            let at = talk.last.unwrap_or_else(|| {
                let least = *requests.iter().min().unwrap();
                requests.iter().position(|n| *n == least).unwrap()
            });
            requests[at] += 1;
            return (at, None);
        }
        let wish = self.wish(talk, length);
        let ask = Ask {
            except: except.into(),
            prefer: wish.preferred().cloned(),
            wish,
        };
        let lease = match self.pool.admit(ask, held).unwrap() {
            Admitted::Now(grant) => grant.lease,
            Admitted::Later(mut waiting) => waiting.granted().await.unwrap().lease,
        };
        let at = self
            .pool
            .backends()
            .iter()
            .position(|b| b.id() == lease.id());
        (at.unwrap(), Some(lease))
    }

    /// Tokens found in the cache and the time of reading the others; none when the server died.
    async fn serve(&self, at: usize, number: u64, length: u64) -> Option<(u64, Duration)> {
        let server = &self.servers[at];
        let _permit = server.permits.acquire().await.unwrap();
        let mut life = server.life.subscribe();
        let born = *life.borrow_and_update();
        let prompt = tokens(number, length);
        let taken = server.slots.lock().assign(&prompt, true).unwrap();
        let reading = (length as usize - taken.cached) as f64 / self.scene.reads;
        let reading = Duration::from_secs_f64(reading);
        let writing = Duration::from_secs_f64(ANSWER as f64 / self.scene.writes);
        tokio::select! {
            _ = life.changed() => return None,
            () = sleep(reading + writing) => {}
        }
        if *server.life.borrow() != born {
            return None;
        }
        let all = tokens(number, length + ANSWER);
        server.slots.lock().release(taken.slot, all);
        Some((taken.cached as u64, reading))
    }
}

fn tokens(number: u64, length: u64) -> Vec<u64> {
    (number << 20..(number << 20) + length).collect()
}

/// Sixty-four servers of four slots; 1.5 conversations a slot, at the speeds of `make bench-fleet`.
const CROWD: Scene = Scene {
    servers: 64,
    slots: 4,
    conversations: 384,
    turns: 12,
    growth: 490,
    side_calls: 0.3,
    reads: 750.0,
    writes: 15.0,
    thinks: 0.2,
    aside: 65_536,
    restart: false,
};

fn play(scene: Scene, router: Router) -> Seen {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async move {
        let play = Play::new(scene, router);
        play.run().await;
        let seen = std::mem::take(&mut *play.seen.lock());
        println!(
            "{router:?}: {:.2} % cached, {} moves, {:.3} s a request",
            seen.found(),
            seen.moves,
            seen.pace()
        );
        seen
    })
}

impl Seen {
    /// Percent of what could be found.
    fn found(&self) -> f64 {
        100.0 * self.cached as f64 / self.could as f64
    }

    /// Seconds of a request.
    fn pace(&self) -> f64 {
        self.seconds / self.requests as f64
    }
}

#[rstest]
#[case::all_stay_up(false, 99.9)]
#[case::one_restarts(true, 99.7)]
fn conversations_keep_their_caches_in_a_crowd(#[case] restart: bool, #[case] least: f64) {
    let scene = Scene { restart, ..CROWD };
    let (ours, sticky) = (play(scene, Router::Drover), play(scene, Router::Sticky));
    assert!(ours.found() >= least && ours.found() >= sticky.found() - 0.2);
    assert!(
        ours.pace() <= 1.03 * sticky.pace(),
        "and nobody waits longer for that"
    );
    let most = ours.begun.iter().max().unwrap();
    assert!(*most <= 8, "six are the mean: {:?}", ours.begun);
}

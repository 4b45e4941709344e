use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use proptest::prelude::*;
use tokio::sync::{Mutex, mpsc};

use super::*;
use crate::policy::lease::{Action, EVERYTHING, Want};
use crate::store::{Entry, Sqlite};

const WINDOW: Duration = Duration::from_secs(5);

fn claim(session: &str, worktree: &str, call: &str, action: Action, target: &str) -> Claim {
    let want = Want {
        action,
        target: target.to_owned(),
        digest: 7,
        window: WINDOW,
    };
    Claim {
        repository: "/r".to_owned(),
        session: session.to_owned(),
        worktree: worktree.to_owned(),
        call: call.to_owned(),
        wants: vec![want],
    }
}

/// A clock that a test turns.
#[derive(Clone, Default)]
struct Turned(Arc<AtomicU64>);

impl Turned {
    fn clock(&self) -> Clock {
        let millis = Arc::clone(&self.0);
        Arc::new(move || Duration::from_millis(millis.load(Ordering::SeqCst)))
    }

    fn now(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// A store whose every step waits until it is let go: what several do at once is done in any order.
struct Stepped {
    inner: Arc<dyn Store>,
    /// It writes whatever it is told, without comparing.
    forgets: bool,
    arrived: mpsc::UnboundedSender<()>,
    go: Mutex<mpsc::UnboundedReceiver<()>>,
}

impl Stepped {
    async fn step(&self) {
        self.arrived.send(()).unwrap();
        self.go.lock().await.recv().await.unwrap();
    }
}

#[async_trait]
impl Store for Stepped {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        self.step().await;
        self.inner.get(key).await
    }

    async fn swap(
        &self,
        key: &str,
        expected: Option<u64>,
        value: Option<&[u8]>,
        expires_in: Option<Duration>,
    ) -> Result<Swap, StoreError> {
        self.step().await;
        let expected = match self.forgets {
            true => self.inner.get(key).await?.map(|entry| entry.version),
            false => expected,
        };
        self.inner.swap(key, expected, value, expires_in).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<(String, Entry)>, StoreError> {
        self.inner.list(prefix).await
    }
}

/// What one actor tries: the target, and whether it ends well.
type Deed = (usize, bool);

/// Who has what, until when.
type Held = Arc<parking_lot::Mutex<Vec<(String, String, u64)>>>;

/// One session at work: it claims, does its work, and frees, time and again. How often it was refused.
async fn works(
    at: Arc<Stepped>,
    clock: Turned,
    who: usize,
    own_tree: bool,
    deeds: Vec<Deed>,
    held: Held,
) -> usize {
    let leases = Leases::new(at.clone(), clock.clock());
    let session = format!("s{who}");
    let worktree = if own_tree {
        format!("/r/w{who}")
    } else {
        "/r".to_owned()
    };
    let mut refused = 0;
    for (n, (target, well)) in deeds.into_iter().enumerate() {
        let target = match own_tree {
            true => format!("head of {worktree}"),
            false => ["branch main", "branch topic", EVERYTHING][target].to_owned(),
        };
        let claim = claim(
            &session,
            &worktree,
            &format!("{who}.{n}"),
            Action::Commit,
            &target,
        );
        // The lease lasts at least until then.
        let until = clock.now() + WINDOW.as_millis() as u64;
        if leases.claim(&claim, true, WINDOW).await.unwrap() != Answer::Granted {
            refused += 1;
            continue;
        }
        {
            let mut held = held.lock();
            held.retain(|(.., until)| *until > clock.now());
            for (other, theirs, _) in held.iter().filter(|(other, ..)| *other != session) {
                let both = *theirs == target || theirs == EVERYTHING || target == EVERYTHING;
                assert!(!both, "{session} and {other} both have {target}");
            }
            held.push((session.clone(), target.clone(), until));
        }
        // Others do theirs meanwhile.
        at.step().await;
        at.step().await;
        held.lock().retain(|(other, ..)| *other != session);
        leases.free(&Grant::of(&claim), well).await.unwrap();
    }
    refused
}

/// Let actors go step by step, as `order` says; how many claims were refused.
async fn play(
    store: Arc<dyn Store>,
    forgets: bool,
    clock: Turned,
    own_trees: bool,
    deeds: Vec<Vec<Deed>>,
    order: Vec<(usize, u64)>,
) -> usize {
    let held = Held::default();
    let mut actors = Vec::new();
    for (who, deeds) in deeds.into_iter().enumerate() {
        let (arrived, arrives) = mpsc::unbounded_channel();
        let (lets, go) = mpsc::unbounded_channel();
        let go = Mutex::new(go);
        let inner = Arc::clone(&store);
        let stepped = Arc::new(Stepped {
            inner,
            forgets,
            arrived,
            go,
        });
        let held = Arc::clone(&held);
        let work = works(stepped, clock.clone(), who, own_trees, deeds, held);
        actors.push((tokio::spawn(work), arrives, lets));
    }
    let mut live: Vec<usize> = Vec::new();
    for (n, (_, arrives, _)) in actors.iter_mut().enumerate() {
        if arrives.recv().await.is_some() {
            live.push(n);
        }
    }
    let mut order = order.into_iter().cycle();
    while !live.is_empty() {
        let (which, wait) = order.next().unwrap();
        clock.0.fetch_add(wait, Ordering::SeqCst);
        let place = which % live.len();
        let (_, arrives, lets) = &mut actors[live[place]];
        lets.send(()).unwrap();
        if arrives.recv().await.is_none() {
            live.remove(place);
        }
    }
    let mut refused = 0;
    for (work, ..) in actors {
        refused += work.await.unwrap();
    }
    refused
}

fn run(
    store: Arc<dyn Store>,
    clock: Turned,
    own_trees: bool,
    deeds: Vec<Vec<Deed>>,
    order: Vec<(usize, u64)>,
) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(play(store, false, clock, own_trees, deeds, order))
}

fn deeds() -> impl Strategy<Value = Vec<Vec<Deed>>> {
    let deeds = proptest::collection::vec((0usize..3, any::<bool>()), 1..4);
    proptest::collection::vec(deeds, 2..4)
}

/// Who goes next, and how much later.
fn order() -> impl Strategy<Value = Vec<(usize, u64)>> {
    proptest::collection::vec((0usize..4, 0u64..300), 8..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn two_on_one_target_never_overlap(deeds in deeds(), order in order()) {
        let clock = Turned::default();
        run(Arc::new(Sqlite::memory(clock.clock()).unwrap()), clock, false, deeds, order);
    }

    #[test]
    fn worktrees_never_collide(deeds in deeds(), order in order()) {
        let clock = Turned::default();
        let refused = run(Arc::new(Sqlite::memory(clock.clock()).unwrap()), clock, true, deeds, order);
        prop_assert_eq!(refused, 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// The same, with a file that each gateway opens for itself.
    #[test]
    fn nor_do_they_in_a_file(deeds in deeds(), order in order(), own_trees in any::<bool>()) {
        let dir = tempfile::tempdir().unwrap();
        let clock = Turned::default();
        let store = Sqlite::file(&dir.path().join("store"), clock.clock()).unwrap();
        let refused = run(Arc::new(store), clock, own_trees, deeds, order);
        prop_assert!(!own_trees || refused == 0);
    }
}

/// What the tests above would find: without compare-and-swap two have one target at once.
#[tokio::test]
#[should_panic(expected = "JoinError")]
async fn a_store_that_does_not_compare_is_found_out() {
    let clock = Turned::default();
    let store = Arc::new(Sqlite::memory(clock.clock()).unwrap());
    // Both read before one writes.
    let order = vec![(0, 0), (1, 0)];
    play(store, true, clock, false, vec![vec![(0, true)]; 2], order).await;
}

#[tokio::test]
async fn leases_outlive_the_process_but_not_their_session_or_window() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let clock = Turned::default();
    let open = || {
        Leases::new(
            Arc::new(Sqlite::file(&path, clock.clock()).unwrap()),
            clock.clock(),
        )
    };
    let push = |session: &str| claim(session, "/r", session, Action::Push, "branch main");
    let first = open();
    assert_eq!(
        first.claim(&push("a"), true, WINDOW).await.unwrap(),
        Answer::Granted
    );
    drop(first);
    let second = open();
    let held = second.claim(&push("b"), true, WINDOW).await.unwrap();
    assert!(matches!(held, Answer::Held { .. }), "{held:?}");
    // What is only tried out neither meets nor takes anything.
    assert_eq!(
        second.claim(&push("b"), false, WINDOW).await.unwrap(),
        Answer::Granted
    );
    second.ended("/r", "a").await.unwrap();
    // A session that may end sooner has its lease no longer than that.
    let short = Duration::from_secs(1);
    assert_eq!(
        second.claim(&push("b"), true, short).await.unwrap(),
        Answer::Granted
    );
    clock.0.store(1001, Ordering::SeqCst);
    assert_eq!(
        second.claim(&push("c"), true, WINDOW).await.unwrap(),
        Answer::Granted
    );
    clock.0.store(9000, Ordering::SeqCst);
    let empty = Sqlite::file(&path, clock.clock()).unwrap();
    assert!(
        empty.list("policy/lease").await.unwrap().is_empty(),
        "nothing is left behind"
    );
}

#[tokio::test]
async fn a_table_that_nobody_can_read_grants_nothing() {
    let clock = Turned::default();
    let store = Arc::new(Sqlite::memory(clock.clock()).unwrap());
    let key = key(TAKEN, "/r");
    store
        .swap(&key, None, Some(b"?"), Some(WINDOW))
        .await
        .unwrap();
    let leases = Leases::new(store, clock.clock());
    let push = claim("a", "/r", "1", Action::Push, "branch main");
    assert!(leases.claim(&push, true, WINDOW).await.is_err());
    clock.0.store(5001, Ordering::SeqCst);
    assert_eq!(
        leases.claim(&push, true, WINDOW).await.unwrap(),
        Answer::Granted
    );
}

use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

/// A clock that stands still until it is told to go on.
#[derive(Clone, Default)]
struct Hand(Arc<AtomicU64>);

impl Hand {
    fn clock(&self) -> Clock {
        let at = Arc::clone(&self.0);
        Arc::new(move || Duration::from_millis(at.load(Ordering::SeqCst)))
    }

    fn go_on(&self, time: Duration) {
        self.0.fetch_add(time.as_millis() as u64, Ordering::SeqCst);
    }
}

struct Both {
    hand: Hand,
    stores: Vec<Sqlite>,
    _folder: TempDir,
}

fn both() -> Both {
    let hand = Hand::default();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("store.db");
    Both {
        stores: vec![
            Sqlite::memory(hand.clock()).unwrap(),
            Sqlite::file(&file, hand.clock()).unwrap(),
        ],
        hand,
        _folder: folder,
    }
}

async fn put(store: &Sqlite, key: &str, expected: Option<u64>, value: &str) -> Swap {
    let swapped = store.swap(key, expected, Some(value.as_bytes()), None);
    swapped.await.unwrap()
}

fn version(swap: Swap) -> u64 {
    match swap {
        Swap::Done(version) => version,
        Swap::Conflict(found) => panic!("somebody else was faster: {found:?}"),
    }
}

#[tokio::test]
async fn only_who_knows_the_present_version_may_write() {
    for store in &both().stores {
        assert_eq!(store.get("a").await.unwrap(), None);
        let first = version(put(store, "a", None, "1").await);
        let Swap::Conflict(Some(found)) = put(store, "a", None, "2").await else {
            panic!("it was there")
        };
        assert_eq!((found.value.as_slice(), found.version), (&b"1"[..], first));
        let second = version(put(store, "a", Some(first), "2").await);
        assert!(matches!(
            put(store, "a", Some(first), "3").await,
            Swap::Conflict(Some(_))
        ));
        assert_eq!(
            store.swap("a", Some(second), None, None).await.unwrap(),
            Swap::Done(0)
        );
        assert!(matches!(
            put(store, "a", Some(second), "4").await,
            Swap::Conflict(None)
        ));
        let again = version(put(store, "a", None, "5").await);
        assert!(
            again > second,
            "a key that comes back does not look unchanged"
        );
    }
}

#[tokio::test]
async fn what_has_expired_is_not_there() {
    let both = both();
    for store in &both.stores {
        let time = Some(Duration::from_secs(10));
        let first = version(store.swap("lease", None, Some(b"x"), time).await.unwrap());
        both.hand.go_on(Duration::from_millis(9_999));
        assert!(store.get("lease").await.unwrap().is_some());
        both.hand.go_on(Duration::from_millis(1));
        assert_eq!(store.get("lease").await.unwrap(), None);
        assert_eq!(store.list("le").await.unwrap(), []);
        assert!(matches!(
            put(store, "lease", Some(first), "y").await,
            Swap::Conflict(None)
        ));
        version(put(store, "lease", None, "y").await);
    }
}

#[tokio::test]
async fn a_prefix_lists_what_begins_with_it_and_no_more() {
    for store in &both().stores {
        for key in ["b/2", "a", "b/1", "b", "c", "b/é", "b0"] {
            put(store, key, None, key).await;
        }
        let keys = |found: Vec<(String, Entry)>| found.into_iter().map(|(key, _)| key);
        let found: Vec<_> = keys(store.list("b/").await.unwrap()).collect();
        assert_eq!(found, ["b/1", "b/2", "b/é"]);
        assert_eq!(keys(store.list("").await.unwrap()).count(), 7);
    }
}

#[tokio::test]
async fn keys_and_values_are_bounded() {
    for store in &both().stores {
        let long = vec![b'x'; MAX_VALUE + 1];
        let refused = [
            store.swap("", None, Some(b"x"), None).await,
            store
                .swap(&"k".repeat(MAX_KEY + 1), None, Some(b"x"), None)
                .await,
            store.swap("k", None, Some(&long), None).await,
        ];
        assert!(
            refused
                .iter()
                .all(|done| matches!(done, Err(StoreError::Bounds)))
        );
        version(store.swap("k", None, Some(&long[1..]), None).await.unwrap());
    }
}

#[tokio::test]
async fn a_file_is_there_after_a_restart_and_for_a_second_process() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("store.db");
    let first = Sqlite::file(&path, wall_clock()).unwrap();
    let at = version(put(&first, "rollout/a", None, "5%").await);
    let second = Sqlite::file(&path, wall_clock()).unwrap();
    let at = version(put(&second, "rollout/a", Some(at), "25%").await);
    assert_eq!(first.get("rollout/a").await.unwrap().unwrap().value, b"25%");
    drop((first, second));
    let third = Sqlite::file(&path, wall_clock()).unwrap();
    let found = third.get("rollout/a").await.unwrap().unwrap();
    assert_eq!((found.value.as_slice(), found.version), (&b"25%"[..], at));
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "nobody else may read it");
}

#[test]
fn a_file_that_is_none_of_ours_is_left_alone() {
    let folder = TempDir::new().unwrap();
    let text = folder.path().join("text");
    std::fs::write(
        &text,
        "something else, and long enough to be looked at".repeat(100),
    )
    .unwrap();
    let later = folder.path().join("later.db");
    let connection = rusqlite::Connection::open(&later).unwrap();
    connection.pragma_update(None, "user_version", 7).unwrap();
    for path in [
        text.as_path(),
        later.as_path(),
        std::path::Path::new("/nowhere/store.db"),
    ] {
        let refused = Sqlite::file(path, wall_clock()).err().unwrap();
        assert!(
            refused.to_string().contains(&path.display().to_string()),
            "{refused}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_who_want_the_same_one_gets_it() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("store.db");
    let open = || Arc::new(Sqlite::file(&path, wall_clock()).unwrap());
    let stores = [open(), open()];
    for round in 0..20 {
        let key = format!("lease/{round}");
        let tries = (0..8).map(|who| {
            let (store, key) = (Arc::clone(&stores[who % 2]), key.clone());
            tokio::spawn(async move { put(&store, &key, None, &who.to_string()).await })
        });
        let mut winners = 0;
        for tried in tries.collect::<Vec<_>>() {
            winners += usize::from(matches!(tried.await.unwrap(), Swap::Done(_)));
        }
        assert_eq!(winners, 1);
    }
}

/// One step of a story that a map tells as well.
#[derive(Clone, Debug)]
enum Step {
    Swap {
        key: usize,
        fresh: bool,
        value: Option<u8>,
        expires_in: Option<u64>,
    },
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let swap = (
        0..4_usize,
        any::<bool>(),
        any::<Option<u8>>(),
        proptest::option::of(1..50_u64),
    );
    let swap = swap.prop_map(|(key, fresh, value, expires_in)| Step::Swap {
        key,
        fresh,
        value,
        expires_in,
    });
    proptest::collection::vec(
        prop_oneof![4 => swap, 1 => (1..40_u64).prop_map(Step::Wait)],
        1..60,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_store_is_a_map_with_expiry(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let hand = Hand::default();
        let store = Sqlite::memory(hand.clock()).unwrap();
        let mut model: Vec<Option<(u8, u64, Option<u64>)>> = vec![None; 4];
        let mut now = 0;
        for step in steps {
            let (key, fresh, value, expires_in) = match step {
                Step::Wait(time) => {
                    now += time;
                    hand.go_on(Duration::from_millis(time));
                    continue;
                }
                Step::Swap { key, fresh, value, expires_in } => (key, fresh, value, expires_in),
            };
            let held = &mut model[key];
            *held = held.filter(|(_, _, expires)| expires.is_none_or(|at| at > now));
            let present = held.map(|(_, version, _)| version);
            let expected = if fresh { present } else { Some(u64::from(u32::MAX)) };
            let bytes = value.map(|value| [value]);
            let name = format!("k{key}");
            let done = runtime.block_on(store.swap(
                &name, expected, bytes.as_ref().map(<[u8; 1]>::as_slice), expires_in.map(Duration::from_millis),
            )).unwrap();
            match done {
                Swap::Done(version) => {
                    prop_assert!(fresh);
                    *held = value.map(|value| (value, version, expires_in.map(|time| now + time)));
                }
                Swap::Conflict(found) => {
                    prop_assert!(!fresh);
                    prop_assert_eq!(found.map(|entry| entry.version), present);
                }
            }
            let found = runtime.block_on(store.get(&name)).unwrap();
            prop_assert_eq!(found.map(|entry| entry.value[0]), held.map(|(value, _, _)| value));
        }
    }
}

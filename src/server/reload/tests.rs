use std::fs;
use std::path::Path;

use once_cell::sync::Lazy;

use super::*;

static METRICS: Lazy<Metrics> = Lazy::new(|| Metrics::new().unwrap());

struct Bench {
    config: Arc<ArcSwap<Config>>,
    fleet: Arc<Fleet>,
    handle: Handle,
    file: PathBuf,
    _dir: tempfile::TempDir,
}

/// A reloader at work on a file with this text. Its backends are never new, so nobody has to watch.
fn bench(text: &str) -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("drover.yaml");
    fs::write(&file, text).unwrap();
    let source = Source::new(Some(file.clone()), std::iter::empty());
    let config = source.load().unwrap();
    let fleet = Fleet::new(&config).unwrap();
    let config = Arc::new(ArcSwap::from_pointee(config));
    let (reloader, handle) =
        Reloader::new(source, Arc::clone(&config), Arc::clone(&fleet), &METRICS);
    let asked = reloader.asked.lock().take().unwrap();
    tokio::spawn(async move { reloader.run(asked, || {}).await });
    Bench {
        config,
        fleet,
        handle,
        file,
        _dir: dir,
    }
}

/// In place of the file, as editors and Kubernetes do it.
fn replace(file: &Path, text: &str) {
    let new = file.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, file).unwrap();
}

#[tokio::test]
async fn what_is_asked_for_is_applied_and_told() {
    let bench = bench("reload: {watch: false}");
    replace(
        &bench.file,
        "reload: {watch: false}\ntimeouts: {write: 9s, drain: 1s}",
    );
    let report = bench.handle.reload().await.unwrap().unwrap();
    assert_eq!(report.changed, ["timeouts.write"]);
    assert_eq!(report.needs_restart, ["timeouts.drain"]);
    assert_eq!(report.backends.unwrap().kept, ["127.0.0.1:8081"]);
    assert_eq!(bench.config.load().timeouts.write, Duration::from_secs(9));
    let again = bench.handle.reload().await.unwrap().unwrap();
    assert_eq!((again.changed.len(), again.backends), (0, None));
}

#[tokio::test]
async fn mistakes_change_nothing_and_are_all_told_with_their_place() {
    let bench = bench("reload: {watch: false}");
    let before = bench.config.load_full();
    replace(
        &bench.file,
        "timeouts: {write: never}\nfleet: {pools: []}\nnonsense: 1",
    );
    let error = bench.handle.reload().await.unwrap().unwrap_err();
    let ReloadError::Invalid(errors) = error else {
        panic!("{error}");
    };
    assert_eq!(errors.file.as_deref(), Some(&*bench.file));
    let paths: Vec<&str> = errors.errors.iter().map(|e| e.path.as_str()).collect();
    assert_eq!(paths, ["timeouts.write", "nonsense"], "{errors}");
    assert!(Arc::ptr_eq(&before, &bench.config.load_full()));
    assert_eq!(bench.fleet.backends().len(), 1);
}

#[tokio::test]
async fn a_changed_file_is_loaded_by_itself() {
    let bench = bench("reload: {every: 10ms}");
    replace(&bench.file, "");
    sleep(Duration::from_millis(100)).await;
    assert_eq!(bench.config.load().reload.every, Duration::from_millis(10));
    replace(&bench.file, "reload: {every: 10ms}\ntimeouts: {write: 9s}");
    let applied = async {
        while bench.config.load().timeouts.write != Duration::from_secs(9) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), applied)
        .await
        .unwrap();
}

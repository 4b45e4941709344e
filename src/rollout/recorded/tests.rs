use std::path::{Path, PathBuf};

use serde_json::json;

use super::*;
use crate::bench::Artifact;
use crate::bench::tests::artifact;
use crate::config::Config;
use crate::spec::RequestClass;

fn write(dir: &Path, name: &str, artifact: &Artifact) -> PathBuf {
    let path = dir.join(name);
    artifact.write(&path).unwrap();
    path
}

fn plan(more: &serde_json::Value) -> Rollout {
    let mut plan = json!({
        "name": "r", "pool": "p", "baseline": "none", "candidate": "ngram-mod", "control": "slow",
    });
    for (key, value) in more.as_object().unwrap() {
        plan[key] = value.clone();
    }
    serde_json::from_value(plan).unwrap()
}

async fn read(paths: &[(&str, PathBuf)]) -> Recorded {
    let mut config = Config::default();
    let paths = paths
        .iter()
        .map(|(name, path)| ((*name).to_owned(), path.clone()));
    config.spec.recorded = paths.collect();
    Recorded::read(&config).await
}

fn names(all: &[&str]) -> Vec<String> {
    all.iter().map(|name| (*name).to_owned()).collect()
}

#[tokio::test]
async fn servers_differ_by_what_is_recorded_of_both() {
    let dir = tempfile::tempdir().unwrap();
    let wobble = |n: u32| 1.0 + 0.02 * f64::from(n % 3);
    let slow = write(dir.path(), "slow.json", &artifact(|_, n| wobble(n)));
    let fast = write(
        dir.path(),
        "fast.json",
        &artifact(|_, n| 1.5 * wobble(n + 1)),
    );
    let faster = write(
        dir.path(),
        "faster.json",
        &artifact(|_, n| 2.0 * wobble(n + 2)),
    );
    let recorded = read(&[("slow", slow), ("fast", fast), ("faster", faster)]).await;
    let of = |candidates: &[&str]| {
        let found = recorded.hardware(&plan(&json!({})), "slow", &names(candidates));
        found.unwrap().unwrap()
    };
    let (one, told) = of(&["fast"]);
    assert!(
        told.contains("prose") && told.contains("repetitive"),
        "{told}"
    );
    let decode = one.0[&RequestClass::Prose].decode;
    assert!(
        decode.low < 1.5f64.ln() && 1.5f64.ln() < decode.high && decode.low > 0.2,
        "{decode:?}"
    );
    // Who of two serves a turn is not known: it may be either.
    let (both, _) = of(&["fast", "faster"]);
    let decode = both.0[&RequestClass::Prose].decode;
    assert!(
        decode.low < 1.5f64.ln() && decode.high > 2.0f64.ln(),
        "{decode:?}"
    );
}

#[tokio::test]
async fn what_is_missing_or_of_no_use_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let good = write(dir.path(), "good.json", &artifact(|_, _| 1.0));
    let bad = dir.path().join("bad.json");
    std::fs::write(&bad, "{}").unwrap();
    let recorded = read(&[("fast", good.clone()), ("bad", bad)]).await;
    let of = |control: &str, candidates: &[&str], more: serde_json::Value| {
        recorded.hardware(&plan(&more), control, &names(candidates))
    };
    assert!(
        of("slow", &["other"], json!({})).is_none(),
        "nothing is recorded of them"
    );
    let why = of("slow", &["fast"], json!({})).unwrap().unwrap_err();
    assert!(why.contains("nothing of slow"), "{why}");
    let why = of("bad", &["fast"], json!({})).unwrap().unwrap_err();
    assert!(why.contains("bad.json"), "{why}");
    let other = json!({"baseline": "draft-simple"});
    let why = of("fast", &["fast"], other).unwrap().unwrap_err();
    assert!(why.contains("draft-simple was not measured"), "{why}");
    // A build or a backend is compared by whatever was measured on both.
    let build = json!({"baseline": {"build": "b1"}, "candidate": {"build": "b2"}});
    assert!(of("fast", &["fast"], build).unwrap().is_ok());
}

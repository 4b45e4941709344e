//! The configurations we ship, and how mistakes in one are told.

use std::path::PathBuf;
use std::process::Output;

use tokio::process::Command;

use crate::support::*;

fn shipped() -> Vec<PathBuf> {
    let conf = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("conf");
    let examples = std::fs::read_dir(conf.join("examples")).unwrap();
    let mut files: Vec<_> = examples.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|ext| ext == "yaml"));
    files.push(conf.join("drover.yaml"));
    files
}

async fn drover(arguments: &[&str]) -> Output {
    let mut command = Command::new(DROVER);
    command.args(arguments).kill_on_drop(true);
    // What the examples name; values are of no importance.
    for name in ["DROVER_ADMIN_TOKEN", "DROVER_KEY_CI", "GPU_BOX_KEY"] {
        command.env(name, "for-the-example-only");
    }
    patiently("drover", command.output()).await.unwrap()
}

#[tokio::test]
async fn every_example_is_valid() {
    let files = shipped();
    assert!(files.len() >= 4, "{files:?}");
    for file in files {
        let output = drover(&["check", "--config", file.to_str().unwrap()]).await;
        let (out, err) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert_eq!(output.status.code(), Some(0), "{}: {err}", file.display());
        assert!(
            out.contains("backends"),
            "the effective configuration is printed: {out}"
        );
        assert!(
            !out.contains("for-the-example-only"),
            "a secret is printed: {out}"
        );
    }
}

#[tokio::test]
async fn every_mistake_is_told_with_its_place_and_exit_64() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bad.yaml");
    let text =
        "listen: [\"0.0.0.0:8080\"]\ntimeouts: { conect: 1s }\nlimits: { max_body_bytes: many }\n";
    std::fs::write(&file, text).unwrap();
    for command in ["check", "serve"] {
        let output = drover(&[command, "--config", file.to_str().unwrap()]).await;
        assert_eq!(output.status.code(), Some(64));
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        for expected in ["conect", "max_body_bytes"] {
            assert!(told.contains(expected), "{expected} in {told}");
        }
    }
    assert_eq!(drover(&["no-such-command"]).await.status.code(), Some(64));
    assert_eq!(
        drover(&["check", "--config", "/no/such/file"])
            .await
            .status
            .code(),
        Some(64)
    );
}

#[tokio::test]
async fn an_open_gateway_is_refused_beyond_loopback() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("open.yaml");
    let text = "listen: [\"0.0.0.0:8080\"]\nfleet: { pools: [{ name: a, models: [\"*\"], backends: [{ url: \"http://127.0.0.1:1\" }] }] }\n";
    std::fs::write(&file, text).unwrap();
    let output = drover(&["serve", "--config", file.to_str().unwrap()]).await;
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&output.stderr).contains("listen"));
}

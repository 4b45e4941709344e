//! `drover bench` on simulated servers: what it writes, and what it concludes from it.

use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::support::*;

const FAST: [&str; 4] = ["--decode-tps", "400", "--prefill-tps", "20000"];

async fn bench(args: &[&str]) -> Output {
    Command::new(DROVER)
        .arg("bench")
        .args(args)
        .output()
        .await
        .unwrap()
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Sims without and with speculation.
async fn sims() -> [Sim; 2] {
    let plain = Sim::start(&FAST).await;
    let drafts = Sim::start(&[&FAST[..], &["--profile", "ngram-mod"]].concat()).await;
    [plain, drafts]
}

/// A measurement of both, with further arguments.
async fn measured(sims: &[Sim; 2], out: &Path, more: &[&str]) -> Output {
    let backends = [
        format!("none={}", sims[0].url),
        format!("ngram-mod={}", sims[1].url),
    ];
    let mut args = vec!["spec", "--backend", &backends[0], "--backend", &backends[1]];
    args.extend([
        "--workload",
        "prose,repetitive",
        "--max-tokens",
        "24",
        "--runs",
        "6",
    ]);
    args.extend(["--check-totals", "--out", out.to_str().unwrap()]);
    args.extend(more);
    bench(&args).await
}

#[tokio::test]
async fn profiles_are_measured_side_by_side_and_the_artifact_fits_its_schema() {
    let sims = sims().await;
    let dir = TempDir::new().unwrap();
    let done = measured(&sims, dir.path(), &[]).await;
    assert_eq!(
        code(&done),
        Some(0),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    let artifact = read(&dir.path().join("artifact.json"));
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/bench/schema/spec.schema.json");
    let validator = jsonschema::validator_for(&read(Path::new(schema))).unwrap();
    let errors: Vec<_> = validator
        .iter_errors(&artifact)
        .map(|e| e.to_string())
        .collect();
    assert!(errors.is_empty(), "{errors:?}");
    let [plain, drafts] = artifact["contestants"].as_array().unwrap().as_slice() else {
        panic!("{artifact}");
    };
    assert_eq!(plain["totals"]["gateway"]["drafted"], 0);
    assert_eq!(drafts["totals"]["equal"], true);
    assert_eq!(drafts["totals"]["gateway"], drafts["totals"]["server"]);
    assert!(drafts["totals"]["server"]["verify_steps"].as_u64() > Some(0));
    assert_eq!(drafts["build"], "b11434-sim");
    for (cell, class) in [(0, "repetitive"), (1, "prose")] {
        let cell = &drafts["cells"][cell];
        assert_eq!(cell["summary"]["classes"], json!({ class: 6 }));
        assert_eq!(cell["turns"].as_array().unwrap().len(), 6);
        let per_turn = cell["turns"].as_array().unwrap().iter();
        let drafted: u64 = per_turn
            .filter_map(|t| t["drafts"]["drafted"].as_u64())
            .sum();
        assert_eq!(cell["summary"]["drafts"]["drafted"], drafted);
        assert!(cell["summary"]["ttft_ms"]["p50"].as_f64() > Some(0.0));
    }
    let report = std::fs::read_to_string(dir.path().join("report.md")).unwrap();
    assert!(
        report.contains("| ngram-mod |") && report.contains("equal"),
        "{report}"
    );
    assert!(dir.path().join("decode.svg").exists());
}

#[tokio::test]
async fn a_slower_artifact_is_a_regression_and_what_is_no_artifact_is_refused() {
    let sims = sims().await;
    let dir = TempDir::new().unwrap();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    assert_eq!(code(&measured(&sims, &a, &[]).await), Some(0));
    let a = a.join("artifact.json");
    let parent = ["--parent", a.to_str().unwrap()];
    assert_eq!(code(&measured(&sims, &b, &parent).await), Some(0));
    let b = b.join("artifact.json");
    let mut slow = read(&a);
    assert_eq!(read(&b)["lineage"]["parent"]["id"], slow["id"]);

    let same = bench(&["compare", a.to_str().unwrap(), a.to_str().unwrap()]).await;
    assert_eq!(
        code(&same),
        Some(0),
        "{}",
        String::from_utf8_lossy(&same.stdout)
    );
    for turn in slow["contestants"][1]["cells"][0]["turns"]
        .as_array_mut()
        .unwrap()
    {
        turn["generated_ms"] = json!(turn["generated_ms"].as_f64().unwrap() * 3.0);
    }
    std::fs::write(&b, slow.to_string()).unwrap();
    let worse = bench(&[
        "compare",
        "--json",
        a.to_str().unwrap(),
        b.to_str().unwrap(),
    ])
    .await;
    assert_eq!(
        code(&worse),
        Some(1),
        "{}",
        String::from_utf8_lossy(&worse.stdout)
    );
    let told: Value = serde_json::from_slice(&worse.stdout).unwrap();
    let cells = told["cells"].as_array().unwrap().iter();
    let worse: Vec<_> = cells.filter(|cell| cell["verdict"] == "worse").collect();
    assert_eq!(worse.len(), 1, "{told}");
    assert_eq!(
        (&worse[0]["contestant"], &worse[0]["workload"]),
        (&json!("ngram-mod"), &json!("repetitive"))
    );

    let other = dir.path().join("other.json");
    std::fs::write(&other, "{}").unwrap();
    let refused = bench(&["compare", a.to_str().unwrap(), other.to_str().unwrap()]).await;
    assert_eq!(code(&refused), Some(64));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no artifact"));
}

#[tokio::test]
async fn a_gateway_that_runs_is_measured_through() {
    let sims = sims().await;
    let urls = [sims[0].url.clone(), sims[1].url.clone()];
    let mut setup = Setup::urls(&urls);
    for (n, profile) in ["none", "ngram-mod"].iter().enumerate() {
        setup.config["fleet"]["pools"][0]["backends"][n]["profile"] = json!(profile);
    }
    let gateway = setup.start().await;
    let (url, admin) = (
        format!("http://{}", gateway.addr),
        format!("http://{}", gateway.admin),
    );
    let dir = TempDir::new().unwrap();
    let out = dir.path().to_str().unwrap();
    let mut args = vec![
        "spec",
        "--gateway",
        &url,
        "--admin",
        &admin,
        "--out",
        out,
        "--check-totals",
    ];
    args.extend([
        "--profile",
        "none",
        "--profile",
        "ngram-mod",
        "--runs",
        "2",
        "--max-tokens",
        "16",
    ]);
    let done = bench(&args).await;
    assert_eq!(
        code(&done),
        Some(0),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    let artifact = read(&dir.path().join("artifact.json"));
    assert_eq!(artifact["lineage"]["gateway"], json!(url));
    assert_eq!(artifact["contestants"][1]["totals"]["equal"], true);
    args.extend(["--profile", "draft-mtp"]);
    let nobody = bench(&args).await;
    assert_eq!(code(&nobody), Some(64), "no backend runs it");
}

#[tokio::test]
async fn what_cannot_be_measured_is_a_usage_error() {
    let lines: [&[&str]; 5] = [
        &["spec", "--out", "x"],
        &[
            "spec",
            "--out",
            "x",
            "--profile",
            "nonsense",
            "--server",
            "a",
            "--model",
            "b",
        ],
        // It starts and ends, and lists nothing.
        &[
            "spec",
            "--out",
            "x",
            "--server",
            "/bin/true",
            "--model",
            "b",
        ],
        &[
            "autotune",
            "--out",
            "x",
            "--server",
            "/bin/true",
            "--model",
            "b",
            "--at-once",
            "1",
        ],
        &["autotune", "--out", "x", "--type", "nonsense"],
    ];
    for line in lines {
        let done = bench(line).await;
        assert_eq!(
            code(&done),
            Some(64),
            "{line:?}: {}",
            String::from_utf8_lossy(&done.stderr)
        );
    }
}

/// The first night has nothing to compare with, the second one does, and a regression does not become the baseline.
#[tokio::test]
async fn nights_are_compared_with_the_last_good_one() {
    let sims = sims().await;
    let dir = TempDir::new().unwrap();
    let night = async || {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/bench/nightly.sh");
        let mut command = Command::new(script);
        command.env("DROVER", DROVER).arg(dir.path()).arg("--");
        for (profile, sim) in [("none", &sims[0]), ("ngram-mod", &sims[1])] {
            command.args(["--backend", &format!("{profile}={}", sim.url)]);
        }
        command.args([
            "--workload",
            "repetitive",
            "--max-tokens",
            "24",
            "--runs",
            "6",
        ]);
        command.output().await.unwrap()
    };
    let baseline = dir.path().join("baseline.json");
    let first = night().await;
    assert_eq!(
        code(&first),
        Some(0),
        "{}",
        String::from_utf8_lossy(&first.stderr)
    );
    let was = std::fs::read_link(&baseline).unwrap();
    // As if it had been ten times as fast then.
    let path = baseline.canonicalize().unwrap();
    let mut fast = read(&path);
    for contestant in fast["contestants"].as_array_mut().unwrap() {
        for turn in contestant["cells"][0]["turns"].as_array_mut().unwrap() {
            turn["generated_ms"] = json!(turn["generated_ms"].as_f64().unwrap() / 10.0);
        }
    }
    std::fs::write(&path, fast.to_string()).unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let second = night().await;
    assert_eq!(
        code(&second),
        Some(1),
        "{}",
        String::from_utf8_lossy(&second.stdout)
    );
    assert!(String::from_utf8_lossy(&second.stdout).contains("worse"));
    assert_eq!(std::fs::read_link(&baseline).unwrap(), was);
    let mut usage = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/bench/nightly.sh"));
    assert_eq!(code(&usage.output().await.unwrap()), Some(64));
}

/// As systemd itself reads them; without the programs, which are not installed here.
#[tokio::test]
async fn units_are_sound() {
    let Ok(told) = Command::new("systemd-analyze")
        .arg("--version")
        .output()
        .await
    else {
        return;
    };
    assert!(told.status.success());
    let dir = TempDir::new().unwrap();
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/systemd");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(units).unwrap() {
        let entry = entry.unwrap();
        let is_unit = |end| entry.path().extension().is_some_and(|e| e == end);
        if !["service", "timer"].into_iter().any(is_unit) {
            continue;
        }
        let text = std::fs::read_to_string(entry.path()).unwrap();
        let there = text.replace("/usr/local/bin/drover", "/bin/true");
        let there = there.replace("/usr/local/lib/drover/nightly.sh", "/bin/true");
        let name = entry.file_name().to_string_lossy().replace("@.", "@a.");
        let file = dir.path().join(name);
        std::fs::write(&file, there).unwrap();
        files.push(file);
    }
    assert!(files.len() >= 4, "{files:?}");
    let verify = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .args(&files)
        .output();
    let verify = verify.await.unwrap();
    let said = String::from_utf8_lossy(&verify.stderr).into_owned();
    // What else it says is about units of this machine.
    let ours: Vec<_> = said
        .lines()
        .filter(|line| line.contains("drover"))
        .collect();
    assert!(verify.status.success() && ours.is_empty(), "{said}");
}

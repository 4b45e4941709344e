//! An artifact for people: Markdown with plots.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use super::artifact::{Artifact, ContestantResult, Percentiles, StopReason, Summary, Workload};
use super::compare::{Metric, Sides};
use super::plot::{self, Shown};
use crate::spec::sequential::Interval;

/// Chance that any interval of a report's tables misses.
const ALPHA: f64 = 0.05;

/// Writes `report.md` and its plots into a folder.
///
/// # Errors
/// Of the file system, or of the drawing.
pub fn write(artifact: &Artifact, folder: &Path) -> io::Result<()> {
    for shown in Shown::ALL {
        let svg = plot::bars(artifact, shown).map_err(io::Error::other)?;
        fs::write(folder.join(shown.file()), svg)?;
    }
    fs::write(folder.join("report.md"), markdown(artifact))
}

/// The report.
pub fn markdown(artifact: &Artifact) -> String {
    let mut text = String::from("# Speculative profiles side by side\n\n");
    lineage(artifact, &mut text);
    for workload in workloads(artifact) {
        let _ = writeln!(text, "\n## {}\n", workload.as_str());
        text.push_str(&table(artifact, workload));
    }
    text.push_str(
        "\n## Counted twice\n\nDraft tokens, accepted ones and verified drafts of all turns, warm-up included, as the gateway \
         counts them and as the server's own `/metrics` does.\n\n",
    );
    totals(artifact, &mut text);
    text.push('\n');
    for shown in Shown::ALL {
        let _ = writeln!(text, "![{}]({})\n", shown.title(), shown.file());
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

/// Where it comes from and all tables, for a page of the documentation.
pub fn tables(artifact: &Artifact) -> String {
    let mut text = String::new();
    lineage(artifact, &mut text);
    for workload in workloads(artifact) {
        let _ = writeln!(text, "\n**{}**\n", workload.as_str());
        text.push_str(&table(artifact, workload));
    }
    text.push_str("\n**Drafted, accepted, verified drafts: counted twice**\n\n");
    totals(artifact, &mut text);
    text
}

fn lineage(artifact: &Artifact, text: &mut String) {
    let (protocol, hardware) = (&artifact.protocol, &artifact.lineage.hardware);
    let or = |value: Option<String>| value.unwrap_or_else(|| "unknown".to_owned());
    let mut builds: Vec<&str> = artifact
        .contestants
        .iter()
        .filter_map(|c| c.build.as_deref())
        .collect();
    builds.dedup();
    let model = artifact.contestants.first().and_then(|c| c.model.as_ref());
    let hash = model
        .and_then(|model| model.sha256.as_deref())
        .and_then(|hash| hash.get(..12));
    let rows = [
        ("artifact", artifact.id.clone()),
        ("begun", artifact.started.clone()),
        ("llama.cpp", builds.join(", ")),
        (
            "model",
            format!(
                "{} (SHA-256 {}…)",
                model.map_or("unknown", |model| &model.file),
                hash.unwrap_or("unknown")
            ),
        ),
        (
            "machine",
            format!(
                "{}, {} threads{}, load {} at the beginning",
                or(hardware.cpu.clone()),
                hardware.threads,
                hardware
                    .gpus
                    .iter()
                    .map(|gpu| format!(", {gpu}"))
                    .collect::<String>(),
                or(hardware.load_1m.map(|load| load.to_string())),
            ),
        ),
        (
            "gateway",
            format!(
                "drover {}, {}",
                artifact.lineage.drover, artifact.lineage.gateway
            ),
        ),
        (
            "turns",
            format!(
                "{} of each profile and workload after {} to warm up, {}, up to {} tokens, temperature {}",
                protocol.runs,
                protocol.warmup,
                protocol.order,
                protocol.max_tokens,
                protocol.temperature
            ),
        ),
    ];
    text.push_str("| | |\n|---|---|\n");
    for (name, value) in rows {
        let _ = writeln!(text, "| {name} | {value} |");
    }
    text.push_str(
        "\nMedians; in brackets the 95th percentile. The change of decode speed is against the first profile, prompt by \
         prompt, and all its intervals together hold with 95 %. What is measured here is true of this model, this \
         machine and these prompts.\n",
    );
}

fn workloads(artifact: &Artifact) -> Vec<Workload> {
    let first = artifact.contestants.first();
    first
        .map(|c| c.cells.iter().map(|cell| cell.workload).collect())
        .unwrap_or_default()
}

/// The table of one workload.
pub fn table(artifact: &Artifact, workload: Workload) -> String {
    let mut text = String::from(
        "| profile | decode, tokens/s | against the first | prefill, tokens/s | first token, ms | whole, ms | accepted | \
         accept length | rolled back | malformed | ended by |\n|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    let comparisons =
        (artifact.contestants.len().saturating_sub(1) * workloads(artifact).len()).max(1);
    let first = artifact.contestants.first();
    for (n, contestant) in artifact.contestants.iter().enumerate() {
        let Some(cell) = contestant.cell(workload) else {
            continue;
        };
        let summary = &cell.summary;
        let against = first.filter(|_| n > 0).and_then(|first| {
            let sides = Sides {
                a: &first.cell(workload)?.turns,
                b: &cell.turns,
                paired: true,
            };
            sides.difference(Metric::DecodeTps, ALPHA / comparisons as f64)
        });
        let cells = [
            contestant.name.clone(),
            number(summary.decode_tps.map(|p| p.p50), 1),
            against.map_or("–".to_owned(), |(interval, mean, _)| {
                percent(mean, interval)
            }),
            number(summary.prefill_tps.map(|p| p.p50), 0),
            both(summary.ttft_ms),
            both(summary.latency_ms),
            number(summary.acceptance.map(|part| part * 100.0), 0) + " %",
            number(summary.accept_length, 2),
            summary.rolled_back.to_string(),
            number(summary.malformed_rate.map(|part| part * 100.0), 0) + " %",
            stops(summary),
        ];
        let _ = writeln!(text, "| {} |", cells.join(" | ").replace("– %", "–"));
    }
    text
}

fn percent(mean: f64, interval: Interval) -> String {
    let part = |ln: f64| (ln.exp() - 1.0) * 100.0;
    format!(
        "{:+.0} % ({:+.0} … {:+.0})",
        part(mean),
        part(interval.low),
        part(interval.high)
    )
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or("–".to_owned(), |value| format!("{value:.digits$}"))
}

fn both(value: Option<Percentiles>) -> String {
    value.map_or("–".to_owned(), |value| {
        format!("{:.0} ({:.0})", value.p50, value.p95)
    })
}

fn stops(summary: &Summary) -> String {
    let name = |stop: &StopReason| match stop {
        StopReason::End => "end",
        StopReason::Length => "length",
        StopReason::StopSequence => "stop sequence",
        StopReason::ToolCalls => "call",
        StopReason::Failed => "failure",
    };
    let each = summary
        .stops
        .iter()
        .map(|(stop, n)| format!("{n} {}", name(stop)));
    each.collect::<Vec<_>>().join(", ")
}

fn totals(artifact: &Artifact, text: &mut String) {
    text.push_str("| profile | gateway | server | |\n|---|---|---|---|\n");
    let three = |c: super::Counters| format!("{}, {}, {}", c.drafted, c.accepted, c.verify_steps);
    for ContestantResult { name, totals, .. } in &artifact.contestants {
        let server = totals.server.map_or("–".to_owned(), three);
        let verdict = match totals.equal {
            Some(true) => "equal",
            Some(false) => "**not equal**",
            None => "the server does not say",
        };
        let _ = writeln!(
            text,
            "| {name} | {} | {server} | {verdict} |",
            three(totals.gateway)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::artifact;
    use super::*;

    #[test]
    fn the_report_tells_what_was_measured() {
        let artifact = artifact(|name, _| if name == "none" { 1.0 } else { 1.5 });
        let folder = tempfile::tempdir().unwrap();
        write(&artifact, folder.path()).unwrap();
        let text = fs::read_to_string(folder.path().join("report.md")).unwrap();
        for what in [
            "| llama.cpp | b1-abc |",
            "| ngram-mod | 61.8 | +50 % (+50 … +50) | 1942 |",
            "| 67 % | 3.00 | 120 | 0 % | 12 length |",
            "| none | 41.2 | – |",
            "| ngram-mod | 720, 480, 240 | 720, 480, 240 | equal |",
        ] {
            assert!(text.contains(what), "{what} is not in\n{text}");
        }
        let images = text
            .lines()
            .filter_map(|line| line.strip_prefix("![")?.split_once("]("));
        let files: Vec<_> = images.map(|(_, file)| file.trim_end_matches(')')).collect();
        assert_eq!(files.len(), 4);
        assert!(files.iter().all(|file| folder.path().join(file).exists()));
    }

    #[test]
    fn totals_that_differ_are_said() {
        let mut artifact = artifact(|_, _| 1.0);
        artifact.contestants[1].totals.equal = Some(false);
        assert!(markdown(&artifact).contains("**not equal**"));
    }
}

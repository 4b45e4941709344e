//! `drover doctor`: ask every backend about itself and say what is wrong or unwise.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::{EXIT_INTERNAL, EXIT_USAGE, check, fail};
use crate::config::{self, Config};
use crate::doctor::{self, Finding, Severity};
use crate::fleet::{self, Discovery, Fleet, Missing, Survey};

/// Exit codes by the gravest finding.
const EXIT_WARNINGS: u8 = 1;
const EXIT_ERRORS: u8 = 2;

/// Longest wait for the sources of backends: DNS servers are asked twice for up to 5 s.
const DISCOVERY: Duration = Duration::from_secs(12);

/// Ask every backend about itself and name what is wrong or unwise; changes nothing
#[derive(Args, Clone, Debug)]
pub struct DoctorArgs {
    /// Configuration file; without it the defaults and the environment
    #[arg(long, short, value_name = "FILE", env = "DROVER_CONFIG")]
    pub config: Option<PathBuf>,
    /// Print JSON, for other programs
    #[arg(long)]
    pub json: bool,
}

/// What is printed as JSON.
#[derive(Serialize)]
struct Diagnosis<'a> {
    backends: usize,
    errors: usize,
    warnings: usize,
    findings: &'a [Finding],
}

/// Examines the fleet: 0 when nothing is amiss, 1 after warnings, 2 after errors.
#[must_use]
pub fn run(args: &DoctorArgs) -> ExitCode {
    let config = match config::load(args.config.as_deref(), check::environment()) {
        Ok(config) => config,
        Err(errors) => {
            return fail(
                "doctor",
                EXIT_USAGE,
                format_args!("invalid configuration\n{errors}"),
            );
        }
    };
    let (surveys, missing) = match ask(&config) {
        Ok(answers) => answers,
        Err(error) => return fail("doctor", EXIT_INTERNAL, error),
    };
    let findings = doctor::examine(&surveys, &missing);
    let text = if args.json {
        json(surveys.len(), &findings)
    } else {
        Ok(text(surveys.len(), &findings))
    };
    if let Err(error) = text.and_then(|text| check::print(&text)) {
        return fail("doctor", EXIT_INTERNAL, error);
    }
    let gravest = findings.iter().map(|finding| finding.severity).min();
    match gravest {
        Some(Severity::Error) => ExitCode::from(EXIT_ERRORS),
        Some(Severity::Warning) => ExitCode::from(EXIT_WARNINGS),
        Some(Severity::Info) | None => ExitCode::SUCCESS,
    }
}

/// What the backends say, those of the list and those that are found, and where none were found.
fn ask(config: &Config) -> Result<(Vec<Survey>, Vec<Missing>), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let accept = |mut merged: Config| {
        let checked = config::check(&mut merged, check::environment());
        checked
            .map(|()| merged)
            .map_err(|errors| errors.to_string())
    };
    runtime.block_on(async {
        let (config, missing) = Discovery::once(config, DISCOVERY, accept).await;
        let fleet = Fleet::new(&config)?;
        let surveys = fleet::survey(&fleet, config.fleet.health.timeout).await;
        Ok((surveys, missing))
    })
}

fn count(findings: &[Finding], severity: Severity) -> usize {
    findings.iter().filter(|f| f.severity == severity).count()
}

fn json(backends: usize, findings: &[Finding]) -> std::io::Result<String> {
    let diagnosis = Diagnosis {
        backends,
        errors: count(findings, Severity::Error),
        warnings: count(findings, Severity::Warning),
        findings,
    };
    Ok(serde_json::to_string_pretty(&diagnosis)?)
}

fn text(backends: usize, findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let severity = finding.severity.as_str();
        let place = match &finding.backend {
            Some(backend) => format!("{}/{backend}", finding.pool),
            None => finding.pool.clone(),
        };
        // Writing to a text does not fail.
        let _ = write!(
            text,
            "{severity:<7} {place}: {} [{}]\n        why: {}\n        do:  {}\n\n",
            finding.what, finding.id, finding.why, finding.remedy
        );
    }
    let (errors, warnings) = (
        count(findings, Severity::Error),
        count(findings, Severity::Warning),
    );
    let _ = write!(
        text,
        "backends: {backends}, errors: {errors}, warnings: {warnings}"
    );
    text
}

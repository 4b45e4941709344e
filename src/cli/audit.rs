//! `drover audit`: is the log as it was written, and what does it say.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};
use tokio::time::Instant;

use super::{EXIT_INTERNAL, EXIT_USAGE, check, fail};
use crate::audit::{self, Chain, Filter, Follow, Record, Report};
use crate::config;

/// Exit code when something is wrong with the log.
const EXIT_UNSOUND: u8 = 1;

/// Pause between two looks of `tail --follow`.
const LOOK: Duration = Duration::from_millis(200);

/// Verify, follow and search the audit log
#[derive(Args, Clone, Debug)]
pub struct AuditArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Clone, Debug)]
enum Command {
    /// Look at every record and name those that were changed, removed, moved or added
    Verify(Verify),
    /// Print the last records, and with --follow those that come, as JSON lines
    Tail(Tail),
    /// Print the records that fit, as JSON lines
    Query(Query),
}

/// Which log.
#[derive(Args, Clone, Debug)]
struct Log {
    /// Its directory; without it the one in the configuration
    #[arg(value_name = "DIRECTORY")]
    path: Option<PathBuf>,
    /// Configuration file whose `audit` section names directory and key
    #[arg(long, short, value_name = "FILE", env = "DROVER_CONFIG")]
    config: Option<PathBuf>,
}

#[derive(Args, Clone, Debug)]
struct Verify {
    #[command(flatten)]
    log: Log,
    /// File with the key of the chain, where no configuration names it
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// The chain must hold the record SEQ with the hash HASH, as an earlier `verify` printed it: what was written
    /// down elsewhere cannot be taken back
    #[arg(long, value_name = "SEQ:HASH")]
    expect: Option<String>,
    /// Print JSON, for other programs
    #[arg(long)]
    json: bool,
}

#[derive(Args, Clone, Debug)]
struct Which {
    /// Only of this session
    #[arg(long)]
    session: Option<String>,
    /// Only of this request
    #[arg(long, value_name = "ID")]
    request: Option<String>,
    /// Only by this rule
    #[arg(long)]
    rule: Option<String>,
    /// Only such decisions: allow, rewrite, block, warn, record, gate_exhausted, gate_unsatisfiable
    #[arg(long)]
    decision: Option<String>,
    /// Only about this tool
    #[arg(long)]
    tool: Option<String>,
    /// Only of this API key
    #[arg(long, value_name = "NAME")]
    principal: Option<String>,
    /// Not before: a time such as 2026-01-31T12:00:00Z, or how long ago, such as 2h
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<SystemTime>,
    /// Before
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<SystemTime>,
}

#[derive(Args, Clone, Debug)]
struct Tail {
    #[command(flatten)]
    log: Log,
    /// How many
    #[arg(long, short = 'n', default_value_t = 10)]
    lines: usize,
    /// Go on with those that come
    #[arg(long, short)]
    follow: bool,
    #[command(flatten)]
    which: Which,
}

#[derive(Args, Clone, Debug)]
struct Query {
    #[command(flatten)]
    log: Log,
    #[command(flatten)]
    which: Which,
    /// At most so many
    #[arg(long, value_name = "COUNT")]
    limit: Option<usize>,
}

/// A time, or how long ago.
fn moment(text: &str) -> Result<SystemTime, String> {
    if let Ok(ago) = humantime::parse_duration(text) {
        let then = SystemTime::now().checked_sub(ago);
        return then.ok_or_else(|| "that long ago there was nothing".to_owned());
    }
    humantime::parse_rfc3339_weak(text).map_err(|error| error.to_string())
}

impl Which {
    fn filter(&self) -> Filter {
        Filter {
            session: self.session.clone(),
            request: self.request.clone(),
            rule: self.rule.clone(),
            decision: self.decision.clone(),
            tool: self.tool.clone(),
            principal: self.principal.clone(),
            since: self.since,
            until: self.until,
        }
    }
}

impl Log {
    /// Its directory and its key.
    fn find(&self) -> Result<(PathBuf, Option<PathBuf>), String> {
        if let (Some(path), None) = (&self.path, &self.config) {
            return Ok((path.clone(), None));
        }
        let config = config::load(self.config.as_deref(), check::environment());
        let config = config.map_err(|errors| format!("invalid configuration\n{errors}"))?;
        match (config.audit, &self.path) {
            (Some(audit), path) => Ok((path.clone().unwrap_or(audit.path), audit.key_file)),
            (None, Some(path)) => Ok((path.clone(), None)),
            (None, None) => Err("there is no section `audit`: name the directory".to_owned()),
        }
    }
}

/// Runs it: 0 when all is well, 1 when the log is not as it was written.
#[must_use]
pub fn run(args: &AuditArgs) -> ExitCode {
    let log = match &args.command {
        Command::Verify(args) => &args.log,
        Command::Tail(args) => &args.log,
        Command::Query(args) => &args.log,
    };
    let (path, key) = match log.find() {
        Ok(found) => found,
        Err(error) => return fail("audit", EXIT_USAGE, error),
    };
    if !path.is_dir() {
        let error = format!("{} is no directory", path.display());
        return fail("audit", EXIT_USAGE, error);
    }
    let done = match &args.command {
        Command::Verify(args) => {
            let key = args.key_file.clone().or(key);
            match audit::chain(key.as_deref()) {
                Ok(chain) => verify(args, &path, &chain),
                Err(error) => return fail("audit", EXIT_USAGE, error),
            }
        }
        Command::Tail(args) => tail(args, &path),
        Command::Query(args) => query(args, &path),
    };
    match done {
        Ok(code) => code,
        // Whoever read it has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => fail("audit", EXIT_INTERNAL, error),
    }
}

fn verify(args: &Verify, path: &std::path::Path, chain: &Chain) -> io::Result<ExitCode> {
    let begun = Instant::now();
    let report = audit::verify(path, chain)?;
    let took = begun.elapsed();
    let mut missed = None;
    if let Some(expected) = &args.expect {
        missed = Some(expected).filter(|expected| !holds(path, expected));
    }
    let text = match args.json {
        true => serde_json::to_string_pretty(&report)?,
        false => text(&report, took),
    };
    check::print(&text)?;
    if let Some(missed) = missed {
        let mut err = io::stderr().lock();
        writeln!(
            err,
            "drover audit: the chain does not hold {missed}: it is another one, or was written anew"
        )?;
    }
    Ok(match report.is_sound() && missed.is_none() {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(EXIT_UNSOUND),
    })
}

/// Whether there is a record with this number and this hash.
fn holds(path: &std::path::Path, expected: &str) -> bool {
    let mut found = false;
    let _ = audit::read(path, |record| {
        found |= format!("{}:{}", record.seq, record.hash) == expected;
        Ok(!found)
    });
    found
}

fn text(report: &Report, took: Duration) -> String {
    let mut lines: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
    if report.more_problems > 0 {
        lines.push(format!("and {} more", report.more_problems));
    }
    lines.extend(
        report
            .notices
            .iter()
            .map(|notice| format!("note: {notice}")),
    );
    let problems = report.problems.len() as u64 + report.more_problems;
    let seconds = took.as_secs_f64().max(0.000_001);
    lines.push(format!(
        "{}: {} records ({} to {}) in {} files, {} problems, {} chain, {:.0} records/s",
        if report.is_sound() {
            "sound"
        } else {
            "NOT SOUND"
        },
        report.records,
        report.first,
        report.last,
        report.files,
        problems,
        if report.keyed { "keyed" } else { "unkeyed" },
        report.records as f64 / seconds,
    ));
    lines.push(format!("last: {}:{}", report.last, report.hash));
    lines.join("\n")
}

fn show(out: &mut impl io::Write, record: &Record) -> io::Result<()> {
    serde_json::to_writer(&mut *out, record)?;
    out.write_all(b"\n")
}

fn tail(args: &Tail, path: &std::path::Path) -> io::Result<ExitCode> {
    let filter = args.which.filter();
    let mut out = io::stdout().lock();
    // Before the last are read: none falls between.
    let mut follow = Follow::new(path)?;
    let mut seen = 0;
    for record in audit::last(path, &filter, args.lines)? {
        seen = record.seq;
        show(&mut out, &record)?;
    }
    out.flush()?;
    if !args.follow {
        return Ok(ExitCode::SUCCESS);
    }
    loop {
        std::thread::sleep(LOOK);
        for record in follow.news()? {
            if record.seq > seen && filter.takes(&record) {
                show(&mut out, &record)?;
            }
        }
        out.flush()?;
    }
}

fn query(args: &Query, path: &std::path::Path) -> io::Result<ExitCode> {
    let filter = args.which.filter();
    let mut left = args.limit.unwrap_or(usize::MAX);
    let mut out = io::BufWriter::new(io::stdout().lock());
    audit::read(path, |record| {
        if left > 0 && filter.takes(&record) {
            left -= 1;
            show(&mut out, &record)?;
        }
        Ok(left > 0)
    })?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

//! What the gateway adds to a request: the same backend asked directly and through the gateway, in
//! turns, on one machine at one time.
//!
//!     latency --gateway BINARY [--rounds N] [--out FILE]     against a simulated backend it starts
//!     latency --attach [--rounds N] [--out FILE]             against what runs already: DROVER_URL,
//!                                                            DROVER_BACKENDS (the first), DROVER_MODEL
//!
//! With --guards it is the gateway against itself: `direct` has its guards off, `through` has them on.

mod http;
mod measure;
mod processes;
mod workload;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::{env, fs, io};

use measure::{Result as Measured, Sides};
use serde_json::{Value, json};

struct Args {
    gateway: Option<PathBuf>,
    attach: bool,
    guards: bool,
    rounds: usize,
    out: Option<PathBuf>,
}

fn main() -> ExitCode {
    match arguments().and_then(|args| run(&args)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::from(64)
        }
    }
}

fn arguments() -> io::Result<Args> {
    let mut args = Args {
        gateway: None,
        attach: false,
        guards: false,
        rounds: 9,
        out: None,
    };
    let mut given = env::args().skip(1);
    while let Some(name) = given.next() {
        let mut value = || {
            given
                .next()
                .ok_or_else(|| io::Error::other(format!("{name} needs a value")))
        };
        match name.as_str() {
            "--gateway" => args.gateway = Some(value()?.into()),
            "--attach" => args.attach = true,
            "--guards" => args.guards = true,
            "--rounds" => args.rounds = value()?.parse().map_err(io::Error::other)?,
            "--out" => args.out = Some(value()?.into()),
            _ => return Err(io::Error::other(format!("unknown argument {name}"))),
        }
    }
    if args.gateway.is_none() && !args.attach {
        return Err(io::Error::other("--gateway BINARY or --attach is needed"));
    }
    Ok(args)
}

/// Whether every goal is met.
fn run(args: &Args) -> io::Result<bool> {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default().to_owned();
    let results = match &args.gateway {
        Some(binary) => simulated(binary, args)?,
        None => attached(args)?,
    };
    print(&results, &load);
    if let Some(out) = &args.out {
        if let Some(parent) = out.parent() {
            fs::create_dir_all(parent)?;
        }
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let results: Vec<Value> = results.iter().map(Measured::to_json).collect();
        let document = json!({
            "schema": 1, "rounds": args.rounds, "cores": cores, "load_before": load, "results": results,
        });
        fs::write(out, format!("{document:#}\n"))?;
        println!("\nwritten to {}", out.display());
    }
    Ok(match args.guards {
        true => results.iter().all(Measured::guards_are_cheap),
        false => results.iter().all(Measured::meets_goal),
    })
}

fn sides(args: &Args, direct: SocketAddr, through: SocketAddr) -> Sides {
    match args.guards {
        true => Sides::guards(through),
        false => Sides {
            direct,
            through,
            headers: [""; 2],
        },
    }
}

fn simulated(binary: &std::path::Path, args: &Args) -> io::Result<Vec<Measured>> {
    let fleet = processes::start(binary)?;
    let sides = sides(args, fleet.direct, fleet.through);
    let cpu = || fleet.gateway.cpu();
    workload::simulated()
        .iter()
        .map(|workload| measure::run(workload, &sides, args.rounds, Some(&cpu)))
        .collect()
}

fn attached(args: &Args) -> io::Result<Vec<Measured>> {
    let variable =
        |name: &str| env::var(name).map_err(|_| io::Error::other(format!("{name} is not set")));
    let address = |url: &str| -> io::Result<SocketAddr> {
        let url = url.strip_prefix("http://").unwrap_or(url);
        url.parse()
            .map_err(|_| io::Error::other(format!("{url} is no address")))
    };
    let backends = variable("DROVER_BACKENDS")?;
    let direct = address(backends.split(',').next().unwrap_or_default())?;
    let sides = sides(args, direct, address(&variable("DROVER_URL")?)?);
    let model = variable("DROVER_MODEL")?;
    workload::real(&model)
        .iter()
        .map(|workload| measure::run(workload, &sides, args.rounds, None))
        .collect()
}

fn print(results: &[Measured], load: &str) {
    println!("medians over the rounds, in µs; load of the machine before: {load}\n");
    println!(
        "{:<26} {:>9} {:>9} | {:>9} {:>9} | {:>9} {:>9} | {:>8} {:>8} {:>7}",
        "",
        "1st text",
        "1st text",
        "added 1st",
        "added 1st",
        "added all",
        "added all",
        "own time",
        "goal",
        "CPU"
    );
    println!(
        "{:<26} {:>9} {:>9} | {:>9} {:>9} | {:>9} {:>9} | {:>8} {:>8} {:>7}",
        "workload", "direct", "through", "p50", "p99", "p50", "p99", "p50", "", "/request"
    );
    let or_dash = |value: Option<f64>| value.map_or("-".to_owned(), |v| format!("{v:.0}"));
    for r in results {
        println!(
            "{:<26} {:>9.0} {:>9.0} | {:>9.0} {:>9.0} | {:>9.0} {:>9.0} | {:>8} {:>8} {:>7}{}",
            r.name,
            r.direct_first,
            r.through_first,
            r.added_first[0],
            r.added_first[1],
            r.added_total[0],
            r.added_total[1],
            or_dash(r.own),
            or_dash(r.goal.map(|goal| goal.round())).replace('-', ""),
            or_dash(r.cpu),
            if r.meets_goal() { "" } else { "  MISSED" },
        );
        if let Some([direct, through]) = r.gaps.filter(|gaps| gaps[0] > 0.0) {
            println!(
                "{:<26} between pieces of text: direct {direct:.0}, through {through:.0} (ratio {:.3}); \
                 first text: ratio {:.3}",
                "",
                through / direct,
                r.through_first / r.direct_first
            );
        }
    }
}

//! What guards cost in instructions: a streamed token, and a long turn, with guards off and on.
//!
//!     drover-bench-callgrind [--out FILE]      counts with valgrind, prints tables, fails above 1.5
//!     drover-bench-callgrind run token DIALECT PRESET TEXT TIMES     what is counted
//!     drover-bench-callgrind run turn PRESET ANSWER TIMES            what is counted
//!
//! Instructions are the same on every run and every machine with the same compiler; time is not.

mod count;
mod token;
mod turn;
#[path = "../../latency/src/workload.rs"]
#[allow(dead_code, reason = "the latency bench uses all of it")]
mod workload;

use std::process::ExitCode;
use std::{env, fs, io};

use drover::config::{self, Preset};
use drover::dialect::{Dialect, Meta};
use drover::exchange::Guards;
use serde_json::{Value, json};

/// Guards may cost this much of what the relay costs, for each token.
const MOST: f64 = 1.5;

/// Tokens of the short and of the long answer.
const TOKENS: [usize; 2] = [1_000, 5_000];

/// Turns of the short and of the long run.
const TURNS: [usize; 2] = [5, 25];

/// Stands for a preset: what comes before the conversion is done, and no more.
const NOTHING: &str = "nothing";

/// The presets that are compared.
const PRESETS: [&str; 3] = ["off", "standard", "strict"];

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args[..] {
        ["run", ref what @ ..] => run(what).map(|()| true),
        [] => tables(None),
        ["--out", file] => tables(Some(file)),
        _ => Err(io::Error::other("unknown arguments; see the file's head")),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::from(64)
        }
    }
}

fn tables(out: Option<&str>) -> io::Result<bool> {
    let (tokens, good) = tokens()?;
    let turns = turns()?;
    if let Some(file) = out {
        let report = json!({"instructions_per_token": tokens, "goal_ratio": MOST,
            "instructions_per_turn": turns});
        let text = serde_json::to_string_pretty(&report).map_err(io::Error::other)?;
        fs::write(file, text + "\n")?;
    }
    Ok(good)
}

fn tokens() -> io::Result<(Vec<Value>, bool)> {
    println!("instructions per streamed token of four bytes\n");
    header("dialect", "text");
    let mut rows = Vec::new();
    let mut good = true;
    for dialect in ["openai", "anthropic", "responses"] {
        for text in ["prose", "code"] {
            let cost = |preset| count::each(&["token", dialect, preset, text], TOKENS);
            let (row, standard) = row([dialect, text], cost)?;
            good &= standard <= MOST;
            rows.push(row);
        }
    }
    let verdict = if good { "met" } else { "MISSED" };
    println!("\ngoal: standard at most {MOST} of off: {verdict}\n");
    Ok((rows, good))
}

fn turns() -> io::Result<Vec<Value>> {
    println!("instructions of a turn of 200 KB with 40 tools, after it was read\n");
    header("answer", "");
    let rows = ["none", "call"].map(|answer| {
        let cost = |preset| count::each(&["turn", preset, answer], TURNS);
        row([answer, ""], cost).map(|(row, _)| row)
    });
    rows.into_iter().collect()
}

fn header(one: &str, two: &str) {
    println!(
        "{one:<11}{two:<7}{:>11}{:>11}{:>11}{:>8}{:>8}",
        PRESETS[0], PRESETS[1], PRESETS[2], "ratio", "ratio"
    );
}

/// Count and print one row; the second of the result is what `standard` costs of `off`.
fn row(
    names: [&str; 2],
    cost: impl Fn(&'static str) -> io::Result<f64>,
) -> io::Result<(Value, f64)> {
    let before = cost(NOTHING)?;
    let costs = PRESETS.map(|preset| cost(preset).map(|cost| cost - before));
    let [off, standard, strict] = costs;
    let (off, standard, strict) = (off?, standard?, strict?);
    let ratios = [standard / off, strict / off];
    let [one, two] = names;
    println!(
        "{one:<11}{two:<7}{off:>11.0}{standard:>11.0}{strict:>11.0}{:>8.2}{:>8.2}",
        ratios[0], ratios[1]
    );
    let names: Vec<&str> = names.into_iter().filter(|name| !name.is_empty()).collect();
    let row = json!({"of": names, "off": off.round(), "standard": standard.round(),
        "strict": strict.round(), "ratio": (ratios[0] * 100.0).round() / 100.0});
    Ok((row, ratios[0]))
}

fn run(what: &[&str]) -> io::Result<()> {
    match *what {
        ["token", dialect, preset, text, times] => {
            token::run(named(dialect)?, of(preset)?, text, number(times)?)
        }
        ["turn", preset, answer, times] => turn::run(of(preset)?, answer, number(times)?),
        _ => Err(io::Error::other("unknown arguments; see the file's head")),
    }
}

fn named(dialect: &str) -> io::Result<Dialect> {
    match dialect {
        "openai" => Ok(Dialect::OpenAi),
        "anthropic" => Ok(Dialect::Anthropic),
        "responses" => Ok(Dialect::Responses),
        _ => Err(io::Error::other("openai, anthropic or responses")),
    }
}

fn of(preset: &str) -> io::Result<Option<Preset>> {
    if preset == NOTHING {
        return Ok(None);
    }
    let preset = serde_json::from_value(Value::from(preset));
    preset.map(Some).map_err(io::Error::other)
}

fn number(text: &str) -> io::Result<usize> {
    text.parse().map_err(io::Error::other)
}

fn guards(preset: Preset) -> Guards {
    Guards::new(preset, &config::Guard::default())
}

fn meta() -> Meta {
    Meta {
        id: "1".into(),
        created: 1,
        model: "m".into(),
    }
}

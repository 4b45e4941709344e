//! What a streamed token costs, in instructions: the same answer converted with guards off and on.
//!
//!     drover-bench-callgrind [--out FILE]      counts with valgrind, prints a table, fails above 1.5
//!     drover-bench-callgrind run DIALECT PRESET TEXT TOKENS      what is counted
//!
//! The count of a short answer is taken from that of a long one, so that what a request costs once does
//! not show, and the count of making the chunks from that of making and converting them. Instructions are the same on every run and every machine with the same compiler; time is not.

use std::process::{Command, ExitCode};
use std::{env, fs, io};

use bytes::BytesMut;
use drover::config::{self, Preset};
use drover::dialect::llama::Target;
use drover::dialect::{Dialect, Meta};
use drover::exchange::{ChatConversion, Conversion, Guards};
use serde_json::{Value, json};

/// Guards may cost this much of what the relay costs.
const MOST: f64 = 1.5;

/// Tokens of the short and of the long answer.
const TOKENS: [usize; 2] = [1_000, 5_000];

/// Stands for a preset: the chunks are made, and not converted.
const NOTHING: &str = "nothing";

const PROSE: &str = include_str!("../../../README.md");
const CODE: &str = include_str!("../../../src/exchange/chat.rs");

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args[..] {
        ["run", dialect, preset, text, tokens] => run(dialect, preset, text, tokens),
        [] => table(None),
        ["--out", file] => table(Some(file)),
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

fn table(out: Option<&str>) -> io::Result<bool> {
    println!("instructions per streamed token of four bytes\n");
    println!(
        "{:<11}{:<7}{:>8}{:>10}{:>8}",
        "dialect", "text", "off", "standard", "ratio"
    );
    let mut rows = Vec::new();
    let mut good = true;
    for dialect in ["openai", "anthropic"] {
        for text in ["prose", "code"] {
            let off = per_token(dialect, "off", text)?;
            let standard = per_token(dialect, "standard", text)?;
            let ratio = standard / off;
            good &= ratio <= MOST;
            println!("{dialect:<11}{text:<7}{off:>8.0}{standard:>10.0}{ratio:>8.2}");
            rows.push(json!({"dialect": dialect, "text": text, "off": off.round(),
                "standard": standard.round(), "ratio": (ratio * 100.0).round() / 100.0}));
        }
    }
    println!(
        "\ngoal: a ratio of at most {MOST}: {}",
        if good { "met" } else { "MISSED" }
    );
    if let Some(file) = out {
        let report = json!({"instructions_per_token": rows, "goal_ratio": MOST});
        fs::write(
            file,
            serde_json::to_string_pretty(&report).map_err(io::Error::other)? + "\n",
        )?;
    }
    Ok(good)
}

fn per_token(dialect: &str, preset: &str, text: &str) -> io::Result<f64> {
    let [short, long] = TOKENS;
    let slope = |preset| -> io::Result<f64> {
        let more = instructions(dialect, preset, text, long)?;
        let fewer = instructions(dialect, preset, text, short)?;
        Ok((more - fewer) as f64 / (long - short) as f64)
    };
    Ok(slope(preset)? - slope(NOTHING)?)
}

fn instructions(dialect: &str, preset: &str, text: &str, tokens: usize) -> io::Result<u64> {
    let counted = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe()?)
        .args(["run", dialect, preset, text, &tokens.to_string()])
        .output()
        .map_err(|error| io::Error::other(format!("valgrind: {error}")))?;
    let said = String::from_utf8_lossy(&counted.stderr);
    let collected = said
        .lines()
        .find_map(|line| line.split_once("Collected : ")?.1.parse().ok());
    match collected {
        Some(collected) if counted.status.success() => Ok(collected),
        _ => Err(io::Error::other(format!("valgrind failed:\n{said}"))),
    }
}

/// Convert one answer of so many tokens, a chunk a token, as llama-server sends them.
fn run(dialect: &str, preset: &str, text: &str, tokens: &str) -> io::Result<bool> {
    let dialect = match dialect {
        "openai" => Dialect::OpenAi,
        "anthropic" => Dialect::Anthropic,
        _ => return Err(io::Error::other("openai or anthropic")),
    };
    let convert = preset != NOTHING;
    let preset = match convert {
        true => serde_json::from_value(Value::from(preset)).map_err(io::Error::other)?,
        false => Preset::Off,
    };
    let text = if text == "code" { CODE } else { PROSE };
    let tokens: usize = tokens.parse().map_err(io::Error::other)?;
    let schema = json!({"type": "object", "properties": {"path": {"type": "string"}}});
    let body = json!({"model": "m", "stream": true, "messages": [{"role": "user", "content": "x"}],
        "tools": [{"type": "function", "function": {"name": "read", "parameters": schema}}]});
    let turn = Dialect::OpenAi
        .decode(body.to_string().as_bytes())
        .map_err(io::Error::other)?;
    let meta = Meta {
        id: "1".into(),
        created: 1,
        model: "m".into(),
    };
    let guards = Guards::new(preset, config::Guard::default());
    let mut conversion = ChatConversion::new(dialect, turn, meta, guards);
    conversion.begin(Target::default(), None);
    let mut out = BytesMut::new();
    let chars: Vec<char> = text.chars().collect();
    let mut said = chars.chunks(4).cycle();
    for _ in 0..tokens {
        let token: String = said.next().into_iter().flatten().collect();
        let choice = json!({"index": 0, "delta": {"content": token}, "finish_reason": null});
        let chunk = json!({"choices": [choice], "created": 1_700_000_000, "id": "chatcmpl-0123456789abcdef0123456789abcdef",
            "model": "m", "system_fingerprint": "b11434", "object": "chat.completion.chunk"});
        let chunk = format!("data: {chunk}\n\n");
        if convert {
            let fed = conversion.feed(chunk.as_bytes(), &mut out);
            fed.map_err(|fault| io::Error::other(format!("{fault:?}")))?;
        }
        std::hint::black_box(&chunk);
        // The client takes it.
        out.clear();
    }
    Ok(true)
}

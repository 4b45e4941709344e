//! `drover bench compare`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::bench::Artifact;
use crate::bench::compare::{Terms, compare};
use crate::cli::{EXIT_INTERNAL, EXIT_USAGE, fail};

/// Exit code when anything is worse.
const EXIT_REGRESSION: u8 = 1;

/// Arguments of `drover bench compare`.
#[derive(Args, Clone, Debug)]
pub(super) struct CompareArgs {
    /// The artifact before
    a: PathBuf,
    /// The artifact now
    b: PathBuf,
    /// Chance of any wrong word in the whole comparison
    #[arg(long, value_name = "P", default_value_t = 0.05)]
    alpha: f64,
    /// Loss of decode speed that is no regression yet, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 3.0)]
    decode: f64,
    /// Loss of prefill speed, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0)]
    prefill: f64,
    /// More time to the first token, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0)]
    ttft: f64,
    /// Loss of accept length, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 10.0)]
    accept_length: f64,
    /// Print JSON, for other programs
    #[arg(long)]
    json: bool,
}

/// Compares: 0, 1 when anything is worse, 64 when the files cannot be compared.
pub(super) fn run(args: &CompareArgs) -> ExitCode {
    let unusable = |error: &dyn std::fmt::Display| fail("bench compare", EXIT_USAGE, error);
    let part = |percent: f64| percent / 100.0;
    let terms = Terms {
        alpha: args.alpha,
        decode: part(args.decode),
        prefill: part(args.prefill),
        ttft: part(args.ttft),
        accept_length: part(args.accept_length),
    };
    let margins = [terms.decode, terms.prefill, terms.ttft, terms.accept_length];
    if !(terms.alpha > 0.0 && terms.alpha < 1.0) || margins.iter().any(|m| !(0.0..1.0).contains(m))
    {
        return unusable(&"--alpha lies between 0 and 1, losses between 0 and 100 percent");
    }
    let read = Artifact::read(&args.a).and_then(|a| Ok((a, Artifact::read(&args.b)?)));
    let (a, b) = match read {
        Ok(both) => both,
        Err(error) => return unusable(&error),
    };
    let comparison = match compare(&a, &b, &terms) {
        Ok(comparison) => comparison,
        Err(why) => return unusable(&why),
    };
    let text = match args.json {
        true => serde_json::to_string_pretty(&comparison),
        false => Ok(comparison.to_text()),
    };
    match text {
        Ok(text) => match super::print("bench compare", &text) {
            code if code != ExitCode::SUCCESS => code,
            _ if comparison.has_regressed() => ExitCode::from(EXIT_REGRESSION),
            code => code,
        },
        Err(error) => fail("bench compare", EXIT_INTERNAL, error),
    }
}

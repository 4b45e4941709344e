//! `drover rollout`: orders to the rollouts of a running gateway, and how they go.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::admin::AdminArgs;
use super::{EXIT_INTERNAL, EXIT_USAGE, check, fail};

/// Arguments of `drover rollout`.
#[derive(Args, Clone, Debug)]
pub struct RolloutArgs {
    /// Where the gateway is
    #[command(flatten)]
    pub at: AdminArgs,
    /// What is to be done
    #[command(subcommand)]
    pub order: Order,
}

/// What is to be done.
#[derive(Clone, Debug, Subcommand)]
pub enum Order {
    /// Show every rollout, or all that is known of one
    Status {
        /// Its name
        name: Option<String>,
        /// As JSON, as the admin API says it
        #[arg(long)]
        json: bool,
    },
    /// Begin a rollout, or begin it anew
    Start {
        /// Its name
        name: String,
    },
    /// Keep the shares as they are; harm still rolls back
    Pause {
        /// Its name
        name: String,
    },
    /// Go on after a pause, or with a step that told nothing
    Resume {
        /// Its name
        name: String,
    },
    /// Go on to the next step, whatever is known
    Promote {
        /// Its name
        name: String,
        /// Give the candidate all sessions at once
        #[arg(long)]
        full: bool,
    },
    /// Give all sessions back to the baseline
    Abort {
        /// Its name
        name: String,
    },
}

/// Carries it out.
#[must_use]
pub fn run(args: &RolloutArgs) -> ExitCode {
    let address = match args.at.address() {
        Ok(address) => address,
        Err(error) => return fail("rollout", EXIT_USAGE, error),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail("rollout", EXIT_INTERNAL, error),
    };
    let (method, path, json) = request(&args.order);
    let answered = runtime.block_on(address.ask(method, &path));
    match answered.and_then(|(status, body)| told(status, &body)) {
        Ok(value) if json => print(&format!("{value:#}")),
        Ok(value) => print(page(&value).trim_end()),
        Err(error) => fail("rollout", EXIT_INTERNAL, error),
    }
}

fn print(text: &str) -> ExitCode {
    match check::print(text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail("rollout", EXIT_INTERNAL, error),
    }
}

/// Method and path, and whether the answer is shown as it is.
fn request(order: &Order) -> (&'static str, String, bool) {
    let of = |name: &str| {
        let name = utf8_percent_encode(name, NON_ALPHANUMERIC);
        format!("/api/rollouts/{name}")
    };
    let post = |name: &str, what: &str| ("POST", format!("{}/{what}", of(name)), false);
    match order {
        Order::Status { name: None, json } => ("GET", "/api/rollouts".to_owned(), *json),
        Order::Status {
            name: Some(name),
            json,
        } => ("GET", of(name), *json),
        Order::Start { name } => post(name, "start"),
        Order::Pause { name } => post(name, "pause"),
        Order::Resume { name } => post(name, "resume"),
        Order::Promote { name, full: true } => post(name, "promote?full=true"),
        Order::Promote { name, full: false } => post(name, "promote"),
        Order::Abort { name } => post(name, "abort"),
    }
}

fn told(status: u16, body: &[u8]) -> Result<Value, String> {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    match status {
        200 => Ok(value),
        401 => Err("it asks for a token, or for another one (--token-env)".to_owned()),
        status => Err(value["error"]["message"]
            .as_str()
            .map_or_else(|| format!("it answers {status}"), str::to_owned)),
    }
}

/// One rollout, or a line for each.
fn page(value: &Value) -> String {
    let Some(all) = value["rollouts"].as_array() else {
        return line(value) + &details(value);
    };
    match all.is_empty() {
        true => "there are no rollouts: spec.rollouts is empty".to_owned(),
        false => all.iter().map(line).collect(),
    }
}

fn line(of: &Value) -> String {
    let text = |key: &str| of[key].as_str().unwrap_or_default();
    let percent = |key: &str| of["shares"][key].as_f64().unwrap_or(0.0) * 100.0;
    let side = |key: &str| {
        let side = &of[key];
        format!("{} turns of {} sessions", side["turns"], side["sessions"])
    };
    let mut line = format!(
        "{}: {}, step {} of {}, candidate {:.0}% ({}), control {:.0}% ({})\n",
        text("name"),
        text("state"),
        of["step"].as_u64().unwrap_or(0) + 1,
        of["steps"],
        percent("candidate"),
        side("candidate"),
        percent("control"),
        side("control"),
    );
    if let Some(reason) = of["reason"].as_str() {
        let _ = writeln!(line, "  {reason}");
    }
    line
}

fn details(of: &Value) -> String {
    let mut text = String::new();
    let percent = |value: &Value| {
        let number = value.as_f64();
        number.map_or_else(|| "?".to_owned(), |n| format!("{:+.1}%", n * 100.0))
    };
    for row in of["estimates"].as_array().into_iter().flatten() {
        let _ = writeln!(
            text,
            "  {} {}, {} busy: {} (from {} to {}; {} and {} turns)",
            row["metric"].as_str().unwrap_or_default(),
            row["class"].as_str().unwrap_or_default(),
            row["busy"],
            percent(&row["difference"]),
            percent(&row["low"]),
            percent(&row["high"]),
            row["candidate"][1],
            row["control"][1],
        );
    }
    for judged in of["verdicts"].as_array().into_iter().flatten() {
        let _ = writeln!(
            text,
            "  step {}: {}, {}",
            judged["step"].as_u64().unwrap_or(0) + 1,
            judged["verdict"].as_str().unwrap_or_default(),
            judged["reason"].as_str().unwrap_or_default(),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn orders_are_paths() {
        let name = "a/b c".to_owned();
        assert_eq!(
            request(&Order::Start { name }).1,
            "/api/rollouts/a%2Fb%20c/start"
        );
        let name = "r".to_owned();
        let (method, path, _) = request(&Order::Promote { name, full: true });
        assert_eq!(
            (method, &*path),
            ("POST", "/api/rollouts/r/promote?full=true")
        );
    }

    #[test]
    fn a_rollout_is_told_in_lines() {
        let one = json!({
            "name": "r", "state": "rolled_back", "step": 1, "steps": 3, "reason": "slower",
            "shares": {"candidate": 0.25, "control": 0.25},
            "candidate": {"turns": 40, "sessions": 9}, "control": {"turns": 41, "sessions": 8},
            "estimates": [{"metric": "decode_tps", "class": "edit", "busy": 1, "difference": 0.5,
                "low": 0.1, "high": null, "candidate": [1.0, 20], "control": [1.0, 21]}],
            "verdicts": [{"step": 0, "verdict": "successful", "reason": "better in edit"}],
        });
        let text = page(&one);
        for part in [
            "r: rolled_back, step 2 of 3, candidate 25% (40 turns of 9 sessions)",
            "  slower\n",
            "decode_tps edit, 1 busy: +50.0% (from +10.0% to ?; 20 and 21 turns)",
            "step 1: successful, better in edit",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(page(&json!({"rollouts": []})).contains("no rollouts"));
        assert!(
            told(409, br#"{"error":{"message":"it is pending"}}"#)
                .unwrap_err()
                .contains("pending")
        );
    }
}

//! Instructions of a run of this program, as valgrind counts them.

use std::process::Command;
use std::{env, io};

/// Instructions that `run` with these words takes, its start included.
pub fn instructions(words: &[&str]) -> io::Result<u64> {
    let counted = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe()?)
        .arg("run")
        .args(words)
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

/// Instructions of one more of what `words` says is done so many times: those of a short run are
/// taken from those of a long one, so that what happens once does not show.
pub fn each(words: &[&str], times: [usize; 2]) -> io::Result<f64> {
    let count = |times: usize| {
        let times = times.to_string();
        instructions(&[words, &[times.as_str()]].concat())
    };
    let [few, many] = times;
    Ok((count(many)? as f64 - count(few)? as f64) / (many - few) as f64)
}

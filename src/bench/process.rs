//! Programs that are started for the time of a benchmark.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use parking_lot::Mutex;

/// Lines of a log that are shown when its program has failed.
const SHOWN: usize = 20;

/// All that run. Whoever has one may end them, such as a handler of signals.
#[derive(Clone, Debug, Default)]
pub struct Children {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    running: Vec<Child>,
    /// Nothing is started any more.
    ended: bool,
}

/// One that runs. It ends with this: nothing is at stake when what it measured is known.
#[derive(Debug)]
pub(super) struct Running {
    all: Children,
    pid: u32,
    log: PathBuf,
}

impl Children {
    /// Starts a program that logs to `log`.
    pub(super) fn start(&self, command: &mut Command, log: &Path) -> io::Result<Running> {
        let out = File::create(log)?;
        let err = out.try_clone()?;
        // Held while it starts: nothing slips in behind the end.
        let mut state = self.state.lock();
        if state.ended {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()?;
        let pid = child.id();
        state.running.push(child);
        drop(state);
        Ok(Running {
            all: self.clone(),
            pid,
            log: log.to_owned(),
        })
    }

    /// Ends them all, at once; no further one is started.
    pub fn end(&self) {
        let mut state = self.state.lock();
        state.ended = true;
        state.running.drain(..).for_each(end);
    }
}

impl Running {
    /// Whether it still runs.
    pub(super) fn is_alive(&self) -> bool {
        let mut state = self.all.state.lock();
        let mut running = state.running.iter_mut();
        let child = running.find(|child| child.id() == self.pid);
        child.is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// What it has written so far.
    pub(super) fn log(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The end of that.
    pub(super) fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(SHOWN)..].join("\n")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut state = self.all.state.lock();
        let place = state.running.iter().position(|c| c.id() == self.pid);
        if let Some(place) = place {
            let child = state.running.swap_remove(place);
            drop(state);
            end(child);
        }
    }
}

fn end(mut child: Child) {
    // It may have ended by itself.
    let _ = child.kill();
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_ends_with_its_handle_and_its_log_stays() {
        let dir = tempfile::tempdir().unwrap();
        let all = Children::default();
        let start = |line: &str| {
            let log = dir.path().join("log");
            all.start(Command::new("sh").args(["-c", line]), &log)
                .unwrap()
        };
        let running = start("echo here; exec sleep 600");
        while !running.log().contains("here") {
            std::thread::yield_now();
        }
        assert!(running.is_alive());
        drop(running);
        assert!(all.state.lock().running.is_empty());
        let other = start("exec sleep 600");
        all.end();
        assert!(!other.is_alive());
        let late = all.start(&mut Command::new("true"), &dir.path().join("late"));
        assert_eq!(late.unwrap_err().kind(), io::ErrorKind::Interrupted);
    }
}

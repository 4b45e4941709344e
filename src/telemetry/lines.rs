//! Lines that are written by a thread of their own, so that whoever has one to write neither waits for the
//! system nor for a reader that is slow.
//!
//! A line is appended to a buffer; the thread takes what is there and writes it at once. While it waits for
//! more it is not woken for each line, which is what costs most on a busy gateway.

use std::io::{self, Write};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// Bytes that wait at most; lines beyond them are lost and counted.
const MOST_WAITING: usize = 8 << 20;
/// How long lines are gathered before the next writing.
const GATHER: Duration = Duration::from_millis(20);
/// A buffer that has grown beyond this is given back.
const KEPT: usize = 1 << 20;

/// Where lines go. Clones write to the same place.
#[derive(Clone, Default)]
pub(super) struct Lines(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// There is something to write.
    work: Condvar,
    /// Nothing is left to write.
    done: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    writing: bool,
}

impl Lines {
    /// Lines written to `out` by a new thread called `name`, which lives as long as the process.
    ///
    /// # Errors
    /// When there can be no further thread.
    pub(super) fn to(name: &str, out: impl Write + Send + 'static) -> io::Result<Self> {
        let lines = Self::default();
        let shared = Arc::clone(&lines.0);
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || shared.write_all(out))?;
        Ok(lines)
    }

    /// Adds `line`, without its end. `false` where too much waits; then it is lost.
    #[must_use]
    pub(super) fn push(&self, line: &[u8]) -> bool {
        let mut state = self.0.state.lock();
        if state.waiting.len() + line.len() >= MOST_WAITING {
            return false;
        }
        let was_empty = state.waiting.is_empty();
        state.waiting.extend_from_slice(line);
        state.waiting.push(b'\n');
        drop(state);
        if was_empty {
            self.0.work.notify_one();
        }
        true
    }

    /// Waits until all is written, at most for `patience`.
    pub(super) fn flush(&self, patience: Duration) {
        let mut state = self.0.state.lock();
        self.0.done.wait_while_for(
            &mut state,
            |state| state.writing || !state.waiting.is_empty(),
            patience,
        );
    }
}

impl Shared {
    fn write_all(&self, mut out: impl Write) {
        let mut taken = Vec::new();
        loop {
            self.take(&mut taken);
            // As with any log: nobody is left to be told that it cannot be written.
            let _ = out.write_all(&taken).and_then(|()| out.flush());
            taken.clear();
            taken.shrink_to(KEPT);
            thread::sleep(GATHER);
        }
    }

    /// Waits for lines and takes all of them.
    fn take(&self, into: &mut Vec<u8>) {
        let mut state = self.state.lock();
        state.writing = false;
        if state.waiting.is_empty() {
            self.done.notify_all();
            self.work
                .wait_while(&mut state, |state| state.waiting.is_empty());
        }
        std::mem::swap(&mut state.waiting, into);
        state.writing = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};

    const PATIENCE: Duration = Duration::from_secs(20);

    /// Waits for a word before its first write, then keeps what it gets.
    struct Slow {
        begin: Option<Receiver<()>>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if let Some(begin) = self.begin.take() {
                begin.recv().unwrap();
            }
            self.written.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn slow() -> (Lines, Sender<()>, Arc<Mutex<Vec<u8>>>) {
        let (begin, begun) = channel();
        let written = Arc::default();
        let out = Slow {
            begin: Some(begun),
            written: Arc::clone(&written),
        };
        (Lines::to("test", out).unwrap(), begin, written)
    }

    #[test]
    fn lines_of_many_threads_stay_whole_and_in_order() {
        let (lines, begin, written) = slow();
        begin.send(()).unwrap();
        thread::scope(|scope| {
            for writer in 0..4 {
                let lines = lines.clone();
                scope.spawn(move || {
                    (0..5000).for_each(|n| assert!(lines.push(format!("{writer} {n}").as_bytes())))
                });
            }
        });
        lines.flush(PATIENCE);
        let text = String::from_utf8(written.lock().clone()).unwrap();
        assert_eq!(text.lines().count(), 20_000);
        for writer in 0..4 {
            let own = text
                .lines()
                .filter_map(|l| l.strip_prefix(&format!("{writer} ")));
            assert!(own.map(|n| n.parse::<u64>().unwrap()).eq(0..5000));
        }
    }

    /// A pipe that nobody reads must not stop the gateway, nor fill its memory.
    #[test]
    fn a_reader_that_hangs_costs_lines_and_no_time() {
        let (lines, begin, written) = slow();
        let line = "x".repeat(1023);
        let all = 2 * MOST_WAITING / 1024;
        let lost = (0..all).filter(|_| !lines.push(line.as_bytes())).count();
        assert!(lost > 0);
        lines.flush(Duration::from_millis(1));
        assert!(written.lock().is_empty(), "a flush has its limit");
        begin.send(()).unwrap();
        lines.flush(PATIENCE);
        assert_eq!(written.lock().len() / 1024 + lost, all);
    }
}

//! The audit log: what can be told before it is opened.

use std::path::Path;

use bytesize::ByteSize;

use super::Checker;
use crate::config::schema::Config;

/// Shortest key: as long as a random one that nobody can guess.
const MIN_KEY: usize = 16;

/// Smallest queue: one answer may have so many calls.
const MIN_QUEUE: usize = 256;

impl Checker<'_> {
    pub(super) fn audit(&mut self, config: &Config) {
        let Some(audit) = &config.audit else {
            return;
        };
        if audit.path.as_os_str().is_empty() {
            self.error("audit.path", "must not be empty");
        } else if audit.path.exists() && !audit.path.is_dir() {
            let message = format!("{} is no directory", audit.path.display());
            self.error("audit.path", message);
        }
        if let Some(file) = &audit.key_file
            && let Err(message) = key(file)
        {
            self.error("audit.key_file", message);
        }
        self.positive("audit.flush_every", audit.flush_every);
        self.positive("audit.rotate.every", audit.rotate.every);
        if audit.rotate.size < ByteSize::kib(4) {
            self.error("audit.rotate.size", "must be at least 4KiB");
        }
        if audit.rotate.keep == Some(0) {
            self.error("audit.rotate.keep", "must be at least 1");
        }
        if audit.max_text < ByteSize::b(256) || audit.max_text > ByteSize::kib(64) {
            self.error("audit.max_text", "must be from 256 bytes to 64KiB");
        }
        if audit.queue < MIN_QUEUE {
            self.error("audit.queue", format!("must be at least {MIN_QUEUE}"));
        }
    }
}

fn key(file: &Path) -> Result<(), String> {
    let key = std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
    match key.trim_ascii().len() >= MIN_KEY {
        true => Ok(()),
        false => Err(format!(
            "{}: the key is shorter than {MIN_KEY} bytes",
            file.display()
        )),
    }
}

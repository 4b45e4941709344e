//! What is logged, which can change while the process runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use once_cell::sync::OnceCell;
use parking_lot::Mutex;
use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Registry, reload};

use super::access_log;
use super::log::LogError;

/// The level of the process's logger.
static CURRENT: OnceCell<Level> = OnceCell::new();

/// What is logged now, and what was configured.
pub struct Level {
    filter: reload::Handle<EnvFilter, Registry>,
    configured: String,
    now: Mutex<String>,
    /// Whether access lines are written.
    access: Arc<AtomicBool>,
}

impl Level {
    /// A level, and the layer that it rules.
    pub(super) fn new(
        configured: String,
    ) -> Result<(Self, reload::Layer<EnvFilter, Registry>), LogError> {
        let (layer, handle) = reload::Layer::new(filter(&configured)?);
        let level = Self {
            filter: handle,
            now: Mutex::new(configured.clone()),
            access: Arc::new(AtomicBool::new(has_access_lines(&configured)?)),
            configured,
        };
        Ok((level, layer))
    }

    /// Makes it the level of the process; the first stays.
    pub(super) fn install(self) {
        let _ = CURRENT.set(self);
    }

    /// The level of the process's logger, once that is set up.
    #[must_use]
    pub fn current() -> Option<&'static Self> {
        CURRENT.get()
    }

    /// Logs by `directives` from now on: a level, or a list of directives as in `telemetry.level`.
    ///
    /// # Errors
    /// When they do not parse; then nothing changes.
    pub fn set(&self, directives: &str) -> Result<(), LogError> {
        let filter = filter(directives)?;
        let mut now = self.now.lock();
        self.filter
            .reload(filter)
            .map_err(|error| LogError::Level {
                directives: directives.to_owned(),
                reason: error.to_string(),
            })?;
        let access = has_access_lines(directives)?;
        self.access.store(access, Ordering::Relaxed);
        directives.trim().clone_into(&mut now);
        Ok(())
    }

    /// Logs as configured again.
    ///
    /// # Errors
    /// When the logger is gone.
    pub fn reset(&self) -> Result<(), LogError> {
        self.set(&self.configured)
    }

    /// Whether access lines are written, now and later.
    pub(super) fn access(&self) -> &Arc<AtomicBool> {
        &self.access
    }

    /// What is logged now.
    #[must_use]
    pub fn now(&self) -> String {
        self.now.lock().clone()
    }

    /// What was configured.
    #[must_use]
    pub fn configured(&self) -> &str {
        &self.configured
    }
}

/// Whether the filter lets access lines pass, which are no events of `tracing`.
fn has_access_lines(directives: &str) -> Result<bool, LogError> {
    let asked = tracing_subscriber::registry().with(filter(directives)?);
    Ok(tracing::subscriber::with_default(
        asked,
        || tracing::enabled!(target: access_log::TARGET, tracing::Level::INFO),
    ))
}

pub(super) fn filter(directives: &str) -> Result<EnvFilter, LogError> {
    let directives = directives.trim();
    let expanded = match directives.parse::<LevelFilter>() {
        Ok(LevelFilter::OFF) => "off".to_owned(),
        Ok(level) => {
            let libraries = level.min(LevelFilter::WARN);
            format!("{libraries},drover={level},{}=info", access_log::TARGET)
        }
        // A filter would take a misspelt level for the name of a module.
        Err(_) if !directives.contains(['=', ',']) => {
            return Err(LogError::Level {
                directives: directives.to_owned(),
                reason: "no level: error, warn, info, debug, trace or off".to_owned(),
            });
        }
        Err(_) => format!("{}=info,{directives}", access_log::TARGET),
    };
    EnvFilter::builder()
        .parse(&expanded)
        .map_err(|e| LogError::Level {
            directives: directives.to_owned(),
            reason: e.to_string(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_level_is_an_error_that_names_it() {
        let error = filter("drover=loud").unwrap_err().to_string();
        assert!(error.contains("drover=loud"), "{error}");
        assert!(filter("inof").is_err());
        assert!(filter("info").is_ok());
        assert!(filter("warn,drover::fleet=debug").is_ok());
    }
}

//! What is wrong, or unwise, about the backends of a configuration, judged by what they say.
//!
//! Asking is done by [`crate::fleet::survey`]; everything here decides only.

mod build;
mod discovery;
mod exposed;
mod kv;
mod one;
mod pool;
mod router;
mod said;
mod speculation;

use serde::Serialize;

use crate::fleet::{Missing, Survey};

pub use said::Said;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Requests fail, or are answered wrongly.
    Error,
    /// It works, and will disappoint.
    Warning,
    /// Worth knowing.
    Info,
}

impl Severity {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

/// One thing found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// A stable name, explained in docs/doctor.md.
    pub id: &'static str,
    /// The pool it is about.
    pub pool: String,
    /// The backend it is about; `None` when it is about the pool.
    pub backend: Option<String>,
    /// What was seen.
    pub what: String,
    /// Why it matters.
    pub why: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

/// Everything found: pools whose backends could not be found, then pool by pool in the order of the configuration.
#[must_use]
pub fn examine(surveys: &[Survey], missing: &[Missing]) -> Vec<Finding> {
    let said: Vec<Said<'_>> = surveys.iter().map(Said::of).collect();
    let mut findings: Vec<Finding> = missing.iter().map(discovery::examine).collect();
    for pool in said.chunk_by(|a, b| a.pool() == b.pool()) {
        for backend in pool {
            one::examine(backend, &mut findings);
        }
        pool::examine(pool, &mut findings);
    }
    router::shared(&said, &mut findings);
    findings
}

//! Pools whose backends could not be found.

use super::Finding;
use super::Severity::{Error, Warning};
use crate::fleet::Missing;

pub(super) fn examine(missing: &Missing) -> Finding {
    Finding {
        severity: if missing.listed == 0 { Error } else { Warning },
        id: "not_discovered",
        pool: missing.pool.clone(),
        backend: None,
        what: format!("its source of backends gives none: {}", missing.why),
        why: "it has the backends of its list only, and those were the only ones examined",
        remedy: "look whether the source can be reached from here, and what it says; `drover doctor` asks it once",
    }
}

//! What is built in: facts, rules and profiles, as anybody could write them.

use super::source::Source;

/// Their text; documentation shows it.
pub const TEXT: &str = include_str!("builtin.yaml");

/// Read them.
///
/// # Errors
/// When the text is not right, which a test would find.
pub(super) fn source() -> Result<Source, String> {
    serde_saphyr::from_str(TEXT).map_err(|error| error.to_string())
}

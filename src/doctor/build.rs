//! The build of llama.cpp a backend runs.

use super::Finding;
use super::Severity::{Info, Warning};
use super::said::Said;

/// The build Drover was tried against.
const TRIED: u32 = 11434;

/// Builds before this one ended the process after three requests in a row that did not fit the context
/// (`n_empty_consecutive` was counted up by errors; release notes of b8330). Agents send such requests.
const SURVIVES_OVERFLOWS: u32 = 8330;

pub(super) fn examine(said: &Said<'_>) -> Option<Finding> {
    let build = said.survey.facts.build.as_deref()?;
    // 0 stands for a build without git.
    match said.survey.facts.build_number().filter(|n| *n > 0) {
        None => Some(said.find(
            Info,
            "unknown_build",
            format!("its build is {build}"),
            "it was built outside of a git checkout: known faults of its build cannot be looked up",
            "use a released build, or pass -DLLAMA_BUILD_NUMBER when you build it",
        )),
        Some(number) if number < SURVIVES_OVERFLOWS => Some(said.find(
            Warning,
            "known_bad_build",
            format!("its build is {build}"),
            "builds before b8330 end the process after three requests in a row that are longer than the \
             context",
            "update it",
        )),
        Some(number) if number < TRIED => Some(said.find(
            Info,
            "older_build",
            format!("its build is {build}"),
            "Drover was tried against b11434; what older builds tell about their slots and templates differs",
            "update it when you can",
        )),
        Some(_) => None,
    }
}

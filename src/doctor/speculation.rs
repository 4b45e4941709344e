//! What it says about speculative decoding.

use super::Finding;
use super::Severity::{Error, Info, Warning};
use super::said::Said;

pub(super) fn examine(said: &Said<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let facts = &said.survey.facts;
    let profile = said.survey.backend.profile();
    match (profile.as_deref(), facts.speculative) {
        (Some(profile), Some(false)) if profile != "none" => findings.push(said.find(
            Error,
            "spec_silently_off",
            format!("`profile` says {profile}, and its slots do not speculate"),
            "llama-server starts without speculation when its settings do not fit, and says so in its \
             log only",
            "read its log for `failed to initialize speculative decoding context`; draft types need \
             -md and --spec-type",
        )),
        (Some("none"), Some(true)) => findings.push(said.find(
            Warning,
            "spec_unexpected",
            "`profile` says none, and its slots speculate",
            "comparisons between profiles would be wrong",
            "set `profile` to what the server was started with",
        )),
        _ => {}
    }
    findings.extend(shift_with_map(said));
    findings.extend(synthetic(said));
    let types = said.spec_types.as_deref().or(profile.as_deref());
    if types.is_some_and(|types| types.contains("ngram-mod")) {
        findings.push(said.find(
            Info,
            "shared_ngram_pool",
            "it speculates with ngram-mod",
            "all its users share one pool of n-grams: the speed of one depends on the text of others, \
             and can be measured",
            "give users who must not learn of each other backends of their own",
        ));
    }
    findings
}

/// Acceptance that is made up, for benchmarks: the answers are not the model's.
fn synthetic(said: &Said<'_>) -> Option<Finding> {
    said.argument(&["--spec-synth-len", "--spec-synth-rates"])?;
    Some(said.find(
        Error,
        "synthetic_acceptance",
        "it accepts drafts by chance (--spec-synth-len, --spec-synth-rates)",
        "drafts are taken for what the model says: its answers are invalid",
        "start it without; these options are for benchmarks",
    ))
}

/// `--context-shift` with `ngram-map-*` aborts the server at the first shift (reproduced on b11434).
fn shift_with_map(said: &Said<'_>) -> Option<Finding> {
    let args = said.args();
    let has = |flag: &str| args.is_some_and(|args| args.iter().any(|arg| arg.contains(flag)));
    let profile = said.survey.backend.profile();
    let types = said.spec_types.as_deref().or(profile.as_deref());
    let maps = has("ngram-map-k") || types.is_some_and(|types| types.contains("ngram-map-k"));
    const MEANS: &str = "with --context-shift and ngram-map the server aborts at the first shift, and \
         every open answer with it";
    const REMEDY: &str = "start it without --context-shift; the gateway fits conversations itself";
    match (maps, args) {
        (true, Some(_)) if has("--context-shift") => Some(said.find(
            Error,
            "context_shift_with_ngram_map",
            "it runs with --context-shift and ngram-map",
            MEANS,
            REMEDY,
        )),
        (true, None) => Some(said.find(
            Info,
            "ngram_map",
            "it speculates with ngram-map; whether it runs with --context-shift cannot be seen",
            MEANS,
            REMEDY,
        )),
        _ => None,
    }
}

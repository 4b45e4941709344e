//! What a change, or a line of a backend's log, is a sign of.

use serde::Serialize;

use super::observe::Place;

/// The named findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Signature {
    /// A verified draft brings fewer tokens than it did.
    AcceptanceCollapse,
    /// Many more drafted tokens are thrown away, and few accepted.
    RollbackSpike,
    /// Slower since another build runs.
    ThroughputCollapseAfterBuildChange,
    /// The prompt is read more slowly.
    PrefillRegression,
    /// Prompts are read anew that should have been in the cache.
    CacheReprefill,
    /// Calls that cannot be used, with odd acceptance.
    GarbledOutput,
    /// A telling line in the backend's log.
    LogSignature,
    /// Configured to speculate, and it does not.
    SpecSilentlyOff,
    /// A slot that works on and gets nowhere.
    SlotWedged,
}

impl Signature {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::AcceptanceCollapse,
        Self::RollbackSpike,
        Self::ThroughputCollapseAfterBuildChange,
        Self::PrefillRegression,
        Self::CacheReprefill,
        Self::GarbledOutput,
        Self::LogSignature,
        Self::SpecSilentlyOff,
        Self::SlotWedged,
    ];

    /// Its name in metrics and in the admin API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AcceptanceCollapse => "acceptance_collapse",
            Self::RollbackSpike => "rollback_spike",
            Self::ThroughputCollapseAfterBuildChange => "throughput_collapse_after_build_change",
            Self::PrefillRegression => "prefill_regression",
            Self::CacheReprefill => "cache_reprefill",
            Self::GarbledOutput => "garbled_output",
            Self::LogSignature => "log_signature",
            Self::SpecSilentlyOff => "spec_silently_off",
            Self::SlotWedged => "slot_wedged",
        }
    }

    /// What is the likely cause.
    pub const fn cause(self) -> &'static str {
        match self {
            Self::AcceptanceCollapse => {
                "drafts no longer fit what the model says: another draft model or model file, other drafting \
                 settings, or an n-gram pool filled by other work"
            }
            Self::RollbackSpike => "the draft budget is larger than what this work lets it predict",
            Self::ThroughputCollapseAfterBuildChange => "the build that came with the change",
            Self::PrefillRegression => {
                "another batch size, attention kernel or offload, mostly with a build"
            }
            Self::CacheReprefill => {
                "the server lost the prefix: a context shift, sliding-window or recurrent memory without \
                 checkpoints, too small a prompt cache, or a prompt that no longer begins the same"
            }
            Self::GarbledOutput => {
                "verification or the target model is broken: what is accepted has little to do with what is \
                 right"
            }
            Self::LogSignature => "what the server itself wrote",
            Self::SpecSilentlyOff => {
                "the profile could not be initialised (a draft type without its model, for one) and the \
                 server started without it"
            }
            Self::SlotWedged => "the server's loop hangs in one request",
        }
    }

    /// What to do about it.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::AcceptanceCollapse => {
                "compare model and draft files and flags with the time before; go back, or route this class \
                 to `none`"
            }
            Self::RollbackSpike => "lower n_max, or raise n_min or p_min",
            Self::ThroughputCollapseAfterBuildChange => {
                "go back to the earlier build, or bisect with `llama-bench`"
            }
            Self::PrefillRegression => "compare -b, -ub, -fa and -ngl with the time before",
            Self::CacheReprefill => {
                "look for `forcing full prompt re-processing` in its log; raise --cache-ram or \
                 --ctx-checkpoints; do not use --context-shift"
            }
            Self::GarbledOutput => {
                "route to `none` now; then compare both without speculation at temperature 0"
            }
            Self::LogSignature => "see the line",
            Self::SpecSilentlyOff => {
                "look for `failed to initialize speculative decoding context` in its log"
            }
            Self::SlotWedged => "drain the backend and start it anew",
        }
    }
}

/// A sign with what it rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Of what.
    pub signature: Signature,
    /// Where.
    pub place: Place,
    /// The numbers, in words.
    pub evidence: String,
    /// The likely cause.
    pub cause: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

impl Finding {
    /// A finding.
    pub fn new(signature: Signature, place: &Place, evidence: String) -> Self {
        Self {
            signature,
            place: place.clone(),
            evidence,
            cause: signature.cause(),
            remedy: signature.remedy(),
        }
    }
}

/// What a line of llama-server's log tells (b11434 and before; wording as in its source).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LogSignature {
    /// Positions of a sequence have a hole: recurrent or hybrid memory after a rollback of drafts.
    NonConsecutivePosition,
    /// No cell of the KV cache is free.
    KvCacheFull,
    /// The window slid on: the cached prompt is shifted, and wrong for some caches.
    ContextShift,
    /// A whole prompt is read anew.
    FullReprocessing,
    /// A checkpoint was thrown away to make room.
    CheckpointLost,
    /// The configured speculation could not be set up.
    SpecInitFailed,
    /// The hash pool of ngram-mod is full and starts anew.
    NgramPoolReset,
    /// The model's tool call could not be read.
    UnreadableCall,
    /// The process has aborted.
    Aborted,
}

/// Part of a line, and what it tells. More than one part: all of them.
const LINES: &[(&[&str], LogSignature)] = &[
    (
        &["non-consecutive token position"],
        LogSignature::NonConsecutivePosition,
    ),
    (
        &["failed to find free space in the KV cache"],
        LogSignature::KvCacheFull,
    ),
    (
        &["failed to find a memory slot for batch"],
        LogSignature::KvCacheFull,
    ),
    (&["slot context shift"], LogSignature::ContextShift),
    (
        &["forcing full prompt re-processing"],
        LogSignature::FullReprocessing,
    ),
    (
        &["erasing old context checkpoint"],
        LogSignature::CheckpointLost,
    ),
    (
        &["failed to initialize speculative decoding context"],
        LogSignature::SpecInitFailed,
    ),
    (
        &["ngram_mod occupancy", "exceeds threshold"],
        LogSignature::NgramPoolReset,
    ),
    (
        &["unparsed peg-native output"],
        LogSignature::UnreadableCall,
    ),
    (&["GGML_ABORT"], LogSignature::Aborted),
    (&["map.idx_last_check > cur_len"], LogSignature::Aborted),
];

/// What `line` tells; none for nearly all lines.
pub fn log_signature(line: &str) -> Option<LogSignature> {
    let told = LINES
        .iter()
        .find(|(parts, _)| parts.iter().all(|part| line.contains(part)));
    told.map(|(_, signature)| *signature)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines as they were seen, or as the source writes them.
    #[test]
    fn telling_lines_are_told_and_others_are_not() {
        let told = [
            (
                "find_slot: non-consecutive token position 12 after 9 for sequence 0",
                LogSignature::NonConsecutivePosition,
            ),
            (
                "0.08.516.240 W srv        decode: failed to find free space in the KV cache, retrying with smaller batch size, off = 0, n_batch = 256, ret = 1",
                LogSignature::KvCacheFull,
            ),
            (
                "0.06.702.260 W slot   operator(): id  0 | task 0 | slot context shift, n_keep = 0, n_left = 511, n_discard = 255",
                LogSignature::ContextShift,
            ),
            (
                "0.05.889.676 I slot   operator(): id  0 | task 29 | forcing full prompt re-processing due to lack of cache data",
                LogSignature::FullReprocessing,
            ),
            (
                "E srv load_model: failed to initialize speculative decoding context: draft-simple requires a draft context",
                LogSignature::SpecInitFailed,
            ),
            (
                "common/ngram-map.cpp:242: common_ngram_map_draft: map.idx_last_check > cur_len: 509 > 256",
                LogSignature::Aborted,
            ),
        ];
        for (line, signature) in told {
            assert_eq!(log_signature(line), Some(signature), "{line}");
        }
        for line in [
            "",
            "0.04.657.580 I slot print_timing: id  1 | task 4 | draft acceptance = 0.56250 (   54 accepted /    96 generated), mean len = 28.00",
            "0.06.646.753 I slot   operator(): id  0 | task 64 | restored context checkpoint (pos_min = 0)",
            "need to evaluate at least 1 token for each active slot",
            "ngram_mod occupancy 0.10",
        ] {
            assert_eq!(log_signature(line), None, "{line}");
        }
    }

    #[test]
    fn names_are_those_of_the_json() {
        for signature in Signature::ALL {
            let json = serde_json::to_value(signature).unwrap();
            assert_eq!(json, signature.as_str());
            assert!(!signature.cause().is_empty() && !signature.remedy().is_empty());
        }
    }
}

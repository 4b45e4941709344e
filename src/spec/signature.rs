//! What a change, or a line of a backend's log, is a sign of.

use serde::Serialize;

use super::attribute::Blame;
use super::log::LogSignature;
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
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// Of what.
    pub signature: Signature,
    /// Where.
    pub place: Place,
    /// What it is compared with, where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Place>,
    /// The numbers, in words.
    pub evidence: String,
    /// What explains most of it, the most likely first; empty where there is nothing to tell it by.
    pub blames: Vec<Blame>,
    /// The likely cause.
    pub cause: &'static str,
    /// What to do.
    pub remedy: &'static str,
    /// The kind of line, of one in a backend's log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<LogSignature>,
}

impl Finding {
    /// A finding.
    pub fn new(signature: Signature, place: &Place, evidence: String) -> Self {
        Self {
            signature,
            place: place.clone(),
            before: None,
            evidence,
            blames: Vec::new(),
            cause: signature.cause(),
            remedy: signature.remedy(),
            line: None,
        }
    }

    /// A telling line, seen so often; `shown` is what may be told of the last one.
    pub fn of_log(place: &Place, signature: LogSignature, shown: &str, count: u64) -> Self {
        let times = if count == 1 { "once" } else { "times" };
        let evidence = match count {
            1 => format!("{times}: {shown}"),
            _ => format!("{count} {times}, the last: {shown}"),
        };
        Self {
            cause: signature.cause(),
            remedy: signature.remedy(),
            line: Some(signature),
            ..Self::new(Signature::LogSignature, place, evidence)
        }
    }

    /// What explains most of it, as `build b2`; none where nothing does.
    pub fn blamed(&self) -> Option<String> {
        let blame = self.blames.first()?;
        Some(format!("{} {}", blame.dimension.as_str(), blame.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_json() {
        for signature in Signature::ALL {
            let json = serde_json::to_value(signature).unwrap();
            assert_eq!(json, signature.as_str());
            assert!(!signature.cause().is_empty() && !signature.remedy().is_empty());
        }
    }
}

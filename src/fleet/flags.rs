//! What a server shows of the flags it was started with. `/props` has no command line: it shows what some of them
//! have led to.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::spec::UNKNOWN;

/// Defaults of sampling that flags set. Others are left out: every build has new ones, and what only a build has
/// changed is no flag.
const SETTINGS: [&str; 12] = [
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "repeat_penalty",
    "presence_penalty",
    "frequency_penalty",
    "max_tokens",
    "n_keep",
    "samplers",
    "reasoning_format",
    "lora",
];

/// See the module's documentation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Flags {
    /// Digest of all of it: the same flags have the same, on every server and at every time.
    pub id: Arc<str>,
    /// Names and values.
    pub shown: BTreeMap<&'static str, String>,
}

impl Default for Flags {
    /// Nothing is shown.
    fn default() -> Self {
        Self {
            id: UNKNOWN.into(),
            shown: BTreeMap::new(),
        }
    }
}

impl Flags {
    /// From the defaults of sampling, and what else is there.
    pub(super) fn of(
        settings: Option<&Map<String, Value>>,
        others: &[(&'static str, Option<String>)],
    ) -> Self {
        let named = |name: &'static str| Some((name, text(settings?.get(name)?)));
        let others = others
            .iter()
            .filter_map(|(name, value)| Some((*name, value.clone()?)));
        let shown: BTreeMap<_, _> = SETTINGS
            .into_iter()
            .filter_map(named)
            .chain(others)
            .collect();
        if shown.is_empty() {
            return Self::default();
        }
        let all: String = shown.iter().map(|(k, v)| format!("{k}={v}\0")).collect();
        Self {
            id: Self::digest(&all).into(),
            shown,
        }
    }

    /// A few digits that stand for a text.
    pub(super) fn digest(text: &str) -> String {
        let digest = Sha256::digest(text);
        digest[..4].iter().map(|b| format!("{b:02x}")).collect()
    }
}

/// The server keeps numbers in 32 bits and writes them in 64: 0.8 is 0.800000011920929.
fn text(value: &Value) -> String {
    match value.as_f64().filter(|_| value.is_f64()) {
        Some(number) => (number as f32).to_string(),
        None => value.to_string(),
    }
}

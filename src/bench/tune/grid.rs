//! The candidates.

use std::fmt::Write as _;

use crate::bench::Contestant;
use crate::bench::contestant::plain;
use crate::bench::flags;
use crate::config::{SpecProfile, SpecType};

/// Values to try; empty ones are left at llama-server's own.
#[derive(Clone, Debug, Default)]
pub struct Grid {
    /// Tokens that have to be the same before a draft.
    pub n_match: Vec<u32>,
    /// Fewest tokens of a draft.
    pub n_min: Vec<u32>,
    /// Most tokens of a draft.
    pub n_max: Vec<u32>,
    /// Least probability of a drafted token.
    pub p_min: Vec<f64>,
}

impl Grid {
    /// What is worth a try where nothing is said.
    pub fn usual(kind: SpecType) -> Self {
        match kind {
            SpecType::NgramMod => Self {
                n_match: vec![8, 16, 24],
                n_min: vec![2, 8, 48],
                n_max: vec![16, 32, 64],
                p_min: Vec::new(),
            },
            SpecType::NgramSimple | SpecType::NgramMapK | SpecType::NgramMapK4v => Self {
                n_match: vec![4, 8, 12],
                n_max: vec![8, 16, 48],
                ..Self::default()
            },
            kind if kind.has_draft_model() => Self {
                n_max: vec![2, 3, 5, 8],
                p_min: vec![0.0, 0.5, 0.75],
                ..Self::default()
            },
            _ => Self::default(),
        }
    }

    /// Every combination that makes sense for `kind`, by name.
    ///
    /// # Errors
    /// A setting that the type does not have, or no combination at all.
    pub fn candidates(&self, kind: SpecType) -> Result<Vec<Contestant>, String> {
        let some = |values: &[u32]| -> Vec<Option<u32>> {
            match values {
                [] => vec![None],
                values => values.iter().copied().map(Some).collect(),
            }
        };
        let p_min: Vec<Option<f64>> = match self.p_min.as_slice() {
            [] => vec![None],
            values => values.iter().copied().map(Some).collect(),
        };
        let mut all = Vec::new();
        for n_match in some(&self.n_match) {
            for n_min in some(&self.n_min) {
                for n_max in some(&self.n_max) {
                    for p_min in &p_min {
                        let profile = SpecProfile {
                            n_match,
                            n_min,
                            n_max,
                            p_min: *p_min,
                            ..plain(kind)
                        };
                        all.push(profile);
                    }
                }
            }
        }
        // A draft that has to be longer than it may be is none.
        all.retain(|p| p.n_min.zip(p.n_max).is_none_or(|(min, max)| min <= max));
        if all.is_empty() {
            return Err("no combination has n_min up to n_max".to_owned());
        }
        // The file of a draft model is named elsewhere.
        flags::arguments(&all[0], Some("draft"))?;
        Ok(all.into_iter().map(named).collect())
    }
}

/// A candidate called by its settings.
fn named(profile: SpecProfile) -> Contestant {
    let mut name = profile.kind.as_str().to_owned();
    let numbers = [
        ("match", profile.n_match.map(f64::from)),
        ("min", profile.n_min.map(f64::from)),
        ("max", profile.n_max.map(f64::from)),
        ("p", profile.p_min),
    ];
    for (what, value) in numbers {
        if let Some(value) = value {
            // Writing to a text does not fail.
            let _ = write!(name, "-{what}{value}");
        }
    }
    if profile == plain(profile.kind) {
        name.push_str("-default");
    }
    Contestant {
        name,
        types: Some(profile.kind.as_str().to_owned()),
        profile: Some(profile),
    }
}

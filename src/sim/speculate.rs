//! The model of speculative decoding: which tokens share a decode step.

use super::{config::Speculation, plan::Beat, rng::Rng};

/// A decode step: a target model pass that checks `drafted` tokens and keeps `accepted` of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pass {
    pub(crate) drafted: u32,
    pub(crate) accepted: u32,
}

/// Groups tokens into decode steps. The first token comes from the prompt's evaluation, each
/// further pass yields one token plus the accepted ones.
pub(crate) fn speculate(
    beats: &mut [Beat],
    speculation: &Speculation,
    repetitive: bool,
    rng: &mut Rng,
) {
    let acceptance = if repetitive {
        speculation.repetitive
    } else {
        speculation.plain
    };
    let mut left = beats
        .iter()
        .filter(|beat| matches!(beat, Beat::Token(_)))
        .count();
    let mut first = true;
    let mut accepted = 0;
    for beat in beats {
        let Beat::Token(token) = beat else {
            accepted = 0;
            continue;
        };
        left -= 1;
        if let Some(scripted) = token.pass {
            accepted = scripted.accepted;
        } else if accepted > 0 {
            accepted -= 1;
        } else {
            let mut pass = Pass {
                drafted: 0,
                accepted: 0,
            };
            if !first && left > 0 && speculation.is_active() && rng.chance(acceptance.draft_rate) {
                pass.drafted = speculation.n_max;
                let most = pass.drafted.min(u32::try_from(left).unwrap_or(u32::MAX));
                while pass.accepted < most && rng.chance(acceptance.accept_rate) {
                    pass.accepted += 1;
                }
            }
            accepted = pass.accepted;
            token.pass = Some(pass);
        }
        first = false;
    }
}

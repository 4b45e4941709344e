//! Why conversations of a [`Load`](super::load::Load) changed their backend.

use std::collections::HashMap;

use serde_json::Value;

use super::gateway::Gateway;
use super::load::Asked;

/// What may send a conversation away: its backend takes nothing more, has failed this request, or takes none.
const REASONS: [&str; 4] = ["full", "no_room", "tried", "unavailable"];

/// Every backend that a conversation was at is the one of its turn before, unless that could not take it: without
/// such a reason it would lose its cache, or be somewhere it does not belong.
pub(crate) async fn explained(fault: &str, gateway: &Gateway, all: &[Asked]) {
    let mut homes = HashMap::<&str, String>::new();
    let mut reasons = HashMap::<&str, usize>::new();
    for asked in all {
        let decisions = decisions(gateway, asked).await;
        for decision in &decisions {
            let chosen = chosen(decision).to_owned();
            let before = homes.insert(&asked.session, chosen.clone());
            if let Some(before) = before.filter(|before| *before != chosen) {
                let reason = reason(decision, &before);
                let reason = reason.unwrap_or_else(|standing| {
                    panic!(
                        "{fault}: {} left {before}, {standing}: {decision}",
                        asked.session
                    )
                });
                *reasons.entry(reason).or_default() += 1;
            }
        }
        told_rightly(asked, &decisions);
    }
    println!("{fault}: backends changed because the former one was {reasons:?}");
}

/// Why it was not `before`; an error: how that stood.
fn reason(decision: &Value, before: &str) -> Result<&'static str, String> {
    let candidates = decision["candidates"].as_array().unwrap();
    let Some(former) = candidates.iter().find(|c| c["backend"] == before) else {
        return Ok("gone");
    };
    let standing = former["standing"].as_str().unwrap();
    let reason = REASONS.into_iter().find(|reason| *reason == standing);
    reason.ok_or_else(|| standing.to_owned())
}

/// The header names who gave the answer; of a stream, who began it.
fn told_rightly(asked: &Asked, decisions: &[Value]) {
    let header = asked.response.headers.get("x-drover-backend").unwrap();
    let mut all = decisions.iter().map(chosen);
    let is_right = match asked.streams {
        true => all.any(|chosen| chosen == header),
        false => all.next_back() == Some(header),
    };
    assert!(is_right, "{header}: {decisions:?}");
}

fn chosen(decision: &Value) -> &str {
    decision["chosen"].as_str().unwrap()
}

async fn decisions(gateway: &Gateway, asked: &Asked) -> Vec<Value> {
    let id = asked.response.headers.get("x-request-id").unwrap();
    let told = gateway.admin_get(&format!("/api/explain/{id}")).await;
    assert_eq!(told.status, 200, "{}", told.text());
    told.json()["decisions"].as_array().unwrap().clone()
}

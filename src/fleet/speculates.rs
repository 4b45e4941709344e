//! Whether a backend really speculates, asserted by what its slots say and by a probe: `/props` cannot tell, and a server
//! whose draft model is missing starts all the same.

use serde_json::json;

use super::backend::Backend;
use super::facts::Slots;
use super::probe::{HttpProbe, Probe as _};
use super::scrape::question;
use super::spec_probe::tokens;

/// Whatever reads so many of these goes on with them, and an n-gram draft of it is right.
const AGAIN: &str = "one two three four five six seven eight nine ten. ";
const TIMES: usize = 12;
/// Tokens to generate: room for several drafts.
const TOKENS: u32 = 48;

/// Asks the backend whether it speculates, as `wanted`, on connections of its own. What its slots say is kept among its
/// facts: nobody else reads those of a drained one that does nothing.
///
/// # Errors
/// In words: it does not answer, or it is otherwise.
pub async fn assert_speculation(backend: &Backend, wanted: bool) -> Result<(), String> {
    let probe = HttpProbe::new();
    let reply = probe.get(backend, &question(backend, "/slots")).await?;
    if reply.status != 200 {
        return Err(format!("/slots answers {}", reply.status));
    }
    let said = Slots::parse(&reply.body).map_err(|error| format!("/slots: {error}"))?;
    backend.set_facts(backend.facts().with_slots(&said));
    if said.speculative() != Some(wanted) {
        let text = if wanted {
            "do not speculate"
        } else {
            "speculate"
        };
        return Err(format!("its slots {text}"));
    }
    let body = json!({
        "prompt": AGAIN.repeat(TIMES), "n_predict": TOKENS, "temperature": 0, "cache_prompt": false,
    });
    let asked = tokens(&probe, backend, "/completion", body).await;
    let (_, drafted) = asked.map_err(|error| format!("the probe: {error}"))?;
    match (wanted, drafted) {
        (true, 0) => Err("its slots speculate, and the probe drafted nothing".to_owned()),
        (false, n @ 1..) => Err(format!(
            "its slots do not speculate, and the probe drafted {n} tokens"
        )),
        _ => Ok(()),
    }
}

use rstest::rstest;
use serde_json::{Value, json};

use super::*;

fn router(status: Value) -> Told {
    let props = json!({"role": "router", "models_autoload": true, "build_info": "b11434-x"});
    let listing = json!({"data": [
        {"id": "other", "status": {"value": "loaded"}},
        {"id": "coder", "aliases": ["stable"], "status": status}]});
    let props = serde_json::from_value(props).unwrap();
    told(&props, serde_json::from_value(listing).unwrap(), "stable")
}

#[rstest]
#[case(json!({"value": "loaded"}), Preset::Loaded)]
#[case(json!({"value": "sleeping"}), Preset::Sleeping)]
#[case(json!({"value": "loading"}), Preset::Loading)]
#[case(json!({"value": "downloading"}), Preset::Loading)]
#[case(json!({"value": "unloaded"}), Preset::Unloaded)]
#[case(json!({"value": "unloaded", "failed": true, "exit_code": 1}), Preset::Failed)]
fn a_model_stands_as_its_router_says(#[case] status: Value, #[case] expected: Preset) {
    assert_eq!(router(status).preset, Some(expected));
}

#[test]
fn slots_and_context_are_known_before_the_model_is_loaded() {
    let args = |more: &[&str]| {
        let mut args = vec!["llama-server", "--parallel", "2", "--ctx-size", "8192"];
        args.extend(more);
        router(json!({"value": "unloaded", "args": args}))
    };
    let facts = Facts::default().with_told(&args(&[]));
    assert_eq!((facts.total_slots, facts.n_ctx), (Some(2), Some(4096)));
    assert_eq!(facts.build.as_deref(), Some("b11434-x"));
    let facts = Facts::default().with_told(&args(&["--kv-unified"]));
    assert_eq!((facts.total_slots, facts.n_ctx), (Some(2), None));
    let unsaid = router(json!({"value": "unloaded", "args": ["--parallel", "-1"]}));
    assert_eq!(Facts::default().with_told(&unsaid).total_slots, None);
}

#[test]
fn what_a_model_said_stays_while_it_is_away_and_its_cache_does_not() {
    let before = Facts {
        total_slots: Some(4),
        idle_slots: Some(1),
        kv_tokens: Some(900),
        speculative: Some(true),
        ..Facts::default()
    };
    let args = json!(["--parallel", "2"]);
    let facts = before.with_told(&router(json!({"value": "unloaded", "args": args})));
    assert_eq!(
        (facts.total_slots, facts.speculative),
        (Some(4), Some(true))
    );
    assert_eq!((facts.idle_slots, facts.kv_tokens), (None, None));
    assert_eq!(facts.preset, Some(Preset::Unloaded));
}

#[tokio::test(start_paused = true)]
async fn a_failed_model_is_tried_once_in_a_while() {
    let every = Duration::from_secs(60);
    let mut retry = Retry::default();
    let mut tried = Vec::new();
    for at in (0..200).step_by(2) {
        if retry.is_due(every) {
            tried.push(at);
        }
        tokio::time::advance(Duration::from_secs(2)).await;
    }
    assert_eq!(tried, [60, 120, 180]);
}

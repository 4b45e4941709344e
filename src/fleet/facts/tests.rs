use super::*;

const PROPS: &[u8] = br#"{"default_generation_settings":{"params":{"seed":1},"n_ctx":2048},
    "total_slots":2,"model_alias":"coder","modalities":{"vision":true,"video":false,"audio":false},
    "endpoint_slots":true,"endpoint_metrics":false,"chat_template":"{% if %}",
    "chat_template_caps":{"supports_tool_calls":true,"supports_system_role":false},
    "build_info":"b11434-abc","is_sleeping":false}"#;
const SLOTS: &[u8] = br#"[{"id":0,"n_ctx":2048,"speculative":true,"is_processing":false},
    {"id":1,"n_ctx":2048,"speculative":true,"is_processing":true,"params":{"seed":1}}]"#;

#[test]
fn props_and_slots_complete_each_other() {
    let facts = Facts::default().with_props(PROPS).unwrap();
    assert_eq!(facts.build.as_deref(), Some("b11434-abc"));
    assert_eq!((facts.n_ctx, facts.total_slots), (Some(2048), Some(2)));
    assert_eq!(facts.chat_template_caps.supports_tool_calls, Some(true));
    assert_eq!(facts.chat_template_caps.supports_system_role, Some(false));
    assert_eq!(facts.chat_template_caps.supports_tools, None);
    assert!(facts.modalities.vision && !facts.modalities.audio);
    assert_eq!(facts.speculative, None);

    let facts = facts.with_slots(&Slots::parse(SLOTS).unwrap());
    assert_eq!((facts.idle_slots, facts.speculative), (Some(1), Some(true)));
    assert_eq!(facts.with_props(PROPS).unwrap(), facts);
}

/// Regression: a fleet that is full went on to a backend without a slot, and sums of what it told overflowed.
#[test]
fn hostile_numbers_of_slots_are_nothing_known() {
    let none = Facts::default().with_slots(&Slots::parse(b"[]").unwrap());
    assert_eq!(none.total_slots, None);
    let props = br#"{"default_generation_settings":{"n_ctx":2048},"total_slots":0}"#;
    assert_eq!(
        Facts::default().with_props(props).unwrap().total_slots,
        None
    );
    let huge = br#"[{"id":0,"is_processing":true,"n_prompt_tokens":18446744073709551615,"n_prompt_tokens_processed":18446744073709551615,
        "next_token":[{"n_decoded":7}]},{"id":1,"is_processing":true,"n_prompt_tokens":9}]"#;
    let slots = Slots::parse(huge).unwrap();
    assert_eq!(
        Facts::default().with_slots(&slots).kv_tokens,
        Some(u64::MAX)
    );
    assert_eq!(slots.busy()[0].done, u64::MAX);
}

#[test]
fn what_the_slots_hold_is_counted() {
    let slots = br#"[{"id":0,"n_ctx":2048,"is_processing":true,"n_prompt_tokens":76},
        {"id":1,"n_ctx":2048,"is_processing":false}]"#;
    let facts = Facts::default().with_slots(&Slots::parse(slots).unwrap());
    assert_eq!(
        facts.kv_tokens,
        Some(76),
        "one has had a task, the other has not"
    );
    let facts = Facts::default().with_slots(&Slots::parse(SLOTS).unwrap());
    assert_eq!(facts.kv_tokens, None, "an older build does not say");
}

#[test]
fn another_build_forgets_what_the_slots_of_the_last_one_said() {
    let facts = Facts::default().with_props(PROPS).unwrap();
    let facts = facts.with_slots(&Slots::parse(SLOTS).unwrap());
    let other = String::from_utf8_lossy(PROPS).replace("abc", "def");
    let facts = facts.with_props(other.as_bytes()).unwrap();
    assert_eq!((facts.idle_slots, facts.speculative), (None, None));
}

#[test]
fn what_is_shown_of_the_flags_has_a_digest_of_its_own() {
    let facts = |text: &str| Facts::default().with_props(text.as_bytes()).unwrap();
    let props = String::from_utf8_lossy(PROPS).replace(
        "\"seed\":1",
        "\"temperature\":0.800000011920929,\"top_k\":40,\"new_in_some_build\":1",
    );
    let props = props.replace("{\"default", "{\"model_path\":\"/m/a.gguf\",\"default");
    let first = facts(&props);
    assert_eq!(first.model_file.as_deref(), Some("a.gguf"));
    assert_eq!(first.flags.shown["temperature"], "0.8");
    assert_eq!(first.flags.shown["n_ctx"], "2048");
    assert!(!first.flags.shown.contains_key("new_in_some_build"));
    assert_eq!(first.flags, facts(&props).flags);
    assert_ne!(
        first.flags.id,
        facts(&props.replace("2048", "4096")).flags.id
    );
    assert_eq!(&*Facts::default().flags.id, "unknown");
}

#[test]
fn a_router_answers_for_nobody() {
    let router = br#"{"role":"router","max_instances":2,"model_alias":"llama-server",
        "default_generation_settings":{"params":null,"n_ctx":0},"build_info":"b0-unknown"}"#;
    let facts = Facts::default().with_props(router).unwrap();
    assert_eq!((facts.n_ctx, facts.total_slots), (None, None));
}

#[test]
fn other_bodies_are_errors() {
    for body in [&b"[]"[..], b"<html>", b"", b"{\"total_slots\":\"many\"}"] {
        assert!(Facts::default().with_props(body).is_err());
    }
    assert!(Slots::parse(b"{\"error\":{}}").is_err());
}

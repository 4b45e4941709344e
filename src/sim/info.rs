//! The endpoints that describe the server: `/props`, `/v1/models`, `/slots`.

use serde_json::json;

use super::{
    cache::{Slot, Task},
    config::SimConfig,
    template::CHAT_TEMPLATE,
};

/// The `params` (sampling settings) of a task. `whole` adds the keys that only
/// `generation_settings` of the native endpoint shows.
pub(crate) fn params(task: &Task, types: &str, whole: bool) -> String {
    // The server keeps these as 32-bit floats and prints them as 64-bit ones.
    let temperature = json!(f64::from(task.temperature as f32));
    let limit = task.limit.map_or(-1, |limit| limit as i64);
    let (format, prompt) = if task.chat {
        ("peg-native", "<|im_start|>assistant\\n")
    } else {
        ("Content-only", "")
    };
    let extra = |text: &'static str| if whole { text } else { "" };
    format!(
        "{{\"seed\":{seed},\"temperature\":{temperature},\"dynatemp_range\":0.0,\"dynatemp_exponent\":1.0,\"top_k\":40,\
         \"top_p\":0.949999988079071,\"min_p\":0.05000000074505806,\"top_n_sigma\":-1.0,\"xtc_probability\":0.0,\
         \"xtc_threshold\":0.10000000149011612,\"typical_p\":1.0,\"repeat_last_n\":64,\"repeat_penalty\":1.0,\
         \"presence_penalty\":0.0,\"frequency_penalty\":0.0,\"dry_multiplier\":0.0,\"dry_base\":1.75,\
         \"dry_allowed_length\":2,\"dry_penalty_last_n\":64,{breakers}\"mirostat\":0,\"mirostat_tau\":5.0,\
         \"mirostat_eta\":0.10000000149011612,\"adaptive_target\":-1.0,\"adaptive_decay\":0.8999999761581421,{stop}\
         \"max_tokens\":{limit},\"n_predict\":{limit},\"n_keep\":0,\"n_discard\":0,\"ignore_eos\":{ignore},\
         \"stream\":{stream},{bias}\"n_probs\":0,\"min_keep\":0,{grammar}\"chat_format\":\"{format}\",\
         \"reasoning_format\":\"deepseek\",\"reasoning_in_content\":false,\"generation_prompt\":\"{prompt}\",\
         \"samplers\":[\"penalties\",\"dry\",\"top_n_sigma\",\"top_k\",\"typ_p\",\"top_p\",\"min_p\",\"xtc\",\"temperature\"],\
         \"speculative.types\":{types},\"timings_per_token\":false,\"post_sampling_probs\":false,\
         \"backend_sampling\":false,\"lora\":[]}}",
        seed = task.seed,
        breakers = extra("\"dry_sequence_breakers\":[\"\\n\",\":\",\"\\\"\",\"*\"],"),
        stop = extra("\"stop\":[],"),
        ignore = task.ignore_eos,
        stream = task.stream,
        bias = extra("\"logit_bias\":[],"),
        grammar = extra(
            "\"grammar\":\"\",\"grammar_lazy\":false,\"grammar_triggers\":[],\"preserved_tokens\":[],"
        ),
        types = json!(types),
    )
}

/// The value of `speculative.types`: the flag appends to the default `none`.
pub(crate) fn shown_types(types: &str) -> String {
    if types == "none" {
        types.to_owned()
    } else {
        format!("none,{types}")
    }
}

/// The body of `/slots`.
pub(crate) fn slots(slots: &[Slot], n_ctx: usize, types: &str, speculative: bool) -> String {
    let shown = shown_types(types);
    let one = |(id, slot): (usize, &Slot)| {
        let head = format!(
            "{{\"id\":{id},\"n_ctx\":{n_ctx},\"speculative\":{speculative},\"is_processing\":{}",
            slot.busy
        );
        let Some(task) = &slot.task else {
            return head + "}";
        };
        let remaining = match task.limit {
            Some(limit) if slot.busy => limit.saturating_sub(task.decoded) as i64,
            _ => -1,
        };
        format!(
            "{head},\"id_task\":{},\"n_prompt_tokens\":{},\"n_prompt_tokens_processed\":{},\"n_prompt_tokens_cache\":{},\
             \"params\":{},\"next_token\":[{{\"has_next_token\":{},\"has_new_line\":false,\"n_remain\":{remaining},\"n_decoded\":{}}}]}}",
            task.id,
            if slot.busy {
                task.prompt + task.decoded
            } else {
                slot.len()
            },
            task.processed,
            task.cached,
            params(task, &shown, false),
            slot.busy,
            task.decoded,
        )
    };
    let all: Vec<String> = slots.iter().enumerate().map(one).collect();
    format!("[{}]", all.join(","))
}

/// The body of `/props`. As on the real server it never tells the speculation types.
pub(crate) fn props(config: &SimConfig, build: &str, is_sleeping: bool) -> String {
    let defaults = Task {
        id: 0,
        prompt: 0,
        processed: 0,
        cached: 0,
        decoded: 0,
        limit: None,
        stream: false,
        chat: false,
        temperature: 0.8,
        seed: 4_294_967_295,
        ignore_eos: false,
    };
    let settings = params(&defaults, "none", false).replace("\"deepseek\"", "\"none\"");
    let path = json!(format!("/models/{}.gguf", config.alias));
    let tools = config.tools;
    format!(
        "{{\"default_generation_settings\":{{\"params\":{settings},\"n_ctx\":{}}},\"total_slots\":{},\"model_alias\":{},\
         \"model_ftype\":\"Q4_K - Medium\",\"model_path\":{path},\
         \"modalities\":{{\"vision\":false,\"video\":false,\"audio\":false}},\"media_marker\":\"<__media_sim__>\",\
         \"endpoint_slots\":{},\"endpoint_props\":false,\"endpoint_metrics\":{},\"ui\":false,\"ui_settings\":{{}},\
         \"chat_template\":{},\"chat_template_caps\":{{\"supports_object_arguments\":{tools},\
         \"supports_parallel_tool_calls\":{tools},\"supports_preserve_reasoning\":false,\
         \"supports_reasoning_effort\":false,\"supports_string_content\":true,\"supports_system_role\":true,\
         \"supports_tool_calls\":{tools},\"supports_tools\":{tools},\"supports_typed_content\":false}},\
         \"bos_token\":\"<|im_start|>\",\"eos_token\":\"<|im_end|>\",\"build_info\":{},\"is_sleeping\":{is_sleeping},\
         \"cors_proxy_enabled\":false}}",
        config.n_ctx,
        config.total_slots,
        json!(config.alias),
        config.slots_endpoint,
        config.metrics,
        json!(CHAT_TEMPLATE),
        json!(build),
    )
}

/// The body of `/v1/models`.
pub(crate) fn models(config: &SimConfig, created: u64) -> String {
    let alias = json!(config.alias);
    format!(
        "{{\"models\":[{{\"name\":{alias},\"model\":{alias},\"modified_at\":\"\",\"size\":\"\",\"digest\":\"\",\
         \"type\":\"model\",\"description\":\"\",\"tags\":[\"\"],\"capabilities\":[\"completion\"],\"parameters\":\"\",\
         \"details\":{{\"parent_model\":\"\",\"format\":\"gguf\",\"family\":\"\",\"families\":[\"\"],\
         \"parameter_size\":\"\",\"quantization_level\":\"\"}}}}],\"object\":\"list\",\"data\":[{{\"id\":{alias},\
         \"aliases\":[{alias}],\"tags\":[],\"object\":\"model\",\"architecture\":{{\"input_modalities\":[\"text\"],\
         \"output_modalities\":[\"text\"]}},\"created\":{created},\"owned_by\":\"llamacpp\",\"meta\":{{\"vocab_type\":2,\
         \"n_vocab\":49152,\"n_ctx\":{n_ctx},\"n_ctx_train\":131072,\"n_embd\":576,\"n_params\":134515008,\
         \"size\":96576768,\"ftype\":\"Q4_K - Medium\"}}}}]}}",
        n_ctx = config.n_ctx
    )
}

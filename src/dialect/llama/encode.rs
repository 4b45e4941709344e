//! A [`Turn`] as the body of llama-server's `POST /v1/chat/completions`.
//!
//! The same turn always gives the same bytes.

use bytes::BytesMut;
use serde_json::value::RawValue;

use super::items::{Item, TemplateRules, items};
use crate::dialect::json::{self, ObjectWriter, write_array};
use crate::turn::{Message, ToolChoice, Turn};

/// Most tokens of a draft, as a request says it.
pub const SPEC_N_MAX: &str = "speculative.n_max";

/// What the encoding depends on besides the turn.
#[derive(Clone, Copy, Debug, Default)]
pub struct Target<'a> {
    /// Name of the model on the backend, where it differs from the client's.
    pub model: Option<&'a str>,
    /// Context window of one slot in tokens, once known.
    pub n_ctx: Option<u64>,
    /// Whether the model sees images; unknown counts as yes.
    pub vision: Option<bool>,
    /// What the model's template accepts.
    pub rules: TemplateRules,
    /// Ask for timings in every chunk: a cancelled stream still has its usage then.
    pub timings_per_token: bool,
    /// Ask for no speculation. llama-server up to 2025 and some forks honour it, others read past it
    /// (`tools/server/server-task.cpp`, `params_from_json_cmpl`).
    pub spec_off: bool,
}

/// How a turn is asked again: what is added to its end, and what the answer is held to.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    /// Messages after the client's.
    pub append: Vec<Message>,
    /// `response_format` the answer must follow; then no tool call is asked for.
    pub constrain: Option<Box<RawValue>>,
    /// Token limit instead of the client's.
    pub max_tokens: Option<u64>,
    /// Sampling temperature instead of the client's.
    pub temperature: Option<f64>,
    /// Keep the model from reasoning, where its template has a switch.
    pub thinking_off: bool,
    /// No tool may be called.
    pub no_calls: bool,
    /// The last message is the beginning of the answer, which goes on where that ends and does not repeat it
    /// (`continue_final_message`, llama.cpp `tools/server/server-schema.cpp`).
    pub continues: bool,
}

/// The request body. Always a stream: silence, garbage and disconnects are seen at once.
pub fn chat_body(turn: &Turn, ask: Option<&Ask>, target: Target<'_>) -> BytesMut {
    let mut out = BytesMut::with_capacity(estimate(turn));
    let mut body = ObjectWriter::new(&mut out);
    write_prompt(turn, ask, target, &mut body);
    if turn.choices > 1 {
        body.member("n", &turn.choices);
    }
    let limit = ask.and_then(|ask| ask.max_tokens).or(turn.max_tokens);
    if let Some(max) = max_tokens(limit, target) {
        body.member("max_tokens", &max);
    }
    body.member("stream", &true);
    body.key("stream_options")
        .extend_from_slice(br#"{"include_usage":true}"#);
    // Tells the size of the prompt, and that it is being worked on, before the first token.
    body.member("return_progress", &true);
    if target.timings_per_token {
        body.member("timings_per_token", &true);
    }
    if target.spec_off {
        body.member(SPEC_N_MAX, &0);
    }
    body.end();
    out
}

/// The body of `POST /v1/chat/completions/input_tokens`: everything that makes up the prompt.
pub fn count_body(turn: &Turn, target: Target<'_>) -> BytesMut {
    let mut out = BytesMut::with_capacity(estimate(turn));
    let mut body = ObjectWriter::new(&mut out);
    write_prompt(turn, None, target, &mut body);
    body.end();
    out
}

fn write_prompt(turn: &Turn, ask: Option<&Ask>, target: Target<'_>, body: &mut ObjectWriter<'_>) {
    body.member("model", target.model.unwrap_or(&turn.model));
    let messages = turn
        .messages
        .iter()
        .chain(ask.into_iter().flat_map(|ask| &ask.append));
    let items = items(messages, target.rules, target.vision.unwrap_or(true));
    write_array(body.key("messages"), &items, write_item);
    let constrain = ask.and_then(|ask| ask.constrain.as_deref());
    let no_calls = ask.is_some_and(|ask| ask.no_calls);
    write_tools(turn, constrain.is_some(), no_calls, body);
    for (name, value) in &turn.extra {
        let is_ours = target.spec_off && name == SPEC_N_MAX;
        if !is_ours && !ask.is_some_and(|ask| ask.replaces(name)) {
            body.raw(name, value);
        }
    }
    if let Some(ask) = ask {
        ask.write(body);
    }
}

fn estimate(turn: &Turn) -> usize {
    let messages: usize = turn
        .messages
        .iter()
        .map(|m| m.verbatim().map_or(1024, |raw| raw.get().len()))
        .sum();
    let tools: usize = turn
        .tools
        .iter()
        .map(|tool| tool.upstream.get().len())
        .sum();
    messages + tools + 1024
}

/// More than the window holds is asked for by real agents (128,000); the window is what they get.
/// llama-server keeps the number as an `int32_t`, where a larger one would turn into any other.
fn max_tokens(limit: Option<u64>, target: Target<'_>) -> Option<u64> {
    const LARGEST: u64 = i32::MAX as u64;
    let most = target.n_ctx.unwrap_or(LARGEST).min(LARGEST);
    limit.map(|max| max.min(most))
}

/// A named choice is not enforced by llama-server (an object falls back to `auto`): offer that tool
/// alone and require a call.
fn write_tools(turn: &Turn, constrained: bool, no_calls: bool, body: &mut ObjectWriter<'_>) {
    if turn.tools.is_empty() {
        return;
    }
    let named = match &turn.tool_choice {
        ToolChoice::Named(name) => Some(name),
        _ => None,
    };
    let offered = turn
        .tools
        .iter()
        .filter(|tool| named.is_none_or(|name| *name == tool.name));
    write_array(body.key("tools"), offered, |out, tool| {
        out.extend_from_slice(tool.upstream.get().as_bytes());
    });
    match turn.tool_choice {
        // The schema decides; a grammar for calls beside it would contradict it.
        _ if constrained => {}
        _ if no_calls => body.member("tool_choice", "none"),
        ToolChoice::Auto => {}
        ToolChoice::None => body.member("tool_choice", "none"),
        ToolChoice::Required | ToolChoice::Named(_) => body.member("tool_choice", "required"),
    }
}

impl Ask {
    fn replaces(&self, name: &str) -> bool {
        match name {
            "response_format" | "json_schema" | "grammar" => self.constrain.is_some(),
            "temperature" => self.temperature.is_some(),
            "chat_template_kwargs" | "reasoning_effort" => self.thinking_off,
            "add_generation_prompt" | "continue_final_message" => self.continues,
            _ => false,
        }
    }

    fn write(&self, body: &mut ObjectWriter<'_>) {
        if let Some(format) = &self.constrain {
            body.raw("response_format", format);
        }
        if let Some(temperature) = self.temperature {
            body.member("temperature", &temperature);
        }
        if self.continues {
            body.member("add_generation_prompt", &false);
            body.member("continue_final_message", &true);
        }
        if self.thinking_off {
            body.key("chat_template_kwargs")
                .extend_from_slice(br#"{"enable_thinking":false}"#);
        }
    }
}

fn write_item(out: &mut BytesMut, item: &Item<'_>) {
    if let Some(verbatim) = item.verbatim {
        out.extend_from_slice(verbatim.as_bytes());
        return;
    }
    let mut message = ObjectWriter::new(out);
    message.member("role", item.role.as_str());
    if let Some(call_id) = &item.call_id {
        message.member("tool_call_id", call_id);
    }
    match item.plain() {
        Some(text) => message.member("content", &*text),
        None => message.member("content", &item.pieces),
    }
    if !item.thinking.is_empty() {
        message.member("reasoning_content", &item.thinking);
    }
    if !item.calls.is_empty() {
        write_array(message.key("tool_calls"), &item.calls, |out, call| {
            json::write(out, call)
        });
    }
    message.end();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::openai;

    const STRICT: TemplateRules = TemplateRules::NONE;

    fn messages(request: &str, target: Target<'_>) -> String {
        let turn = openai::decode(request.as_bytes()).unwrap();
        let body = chat_body(&turn, None, target);
        let members: json::Members<'_> = serde_json::from_slice(&body).unwrap();
        members.get("messages").unwrap().get().to_owned()
    }

    fn strict(messages_json: &str) -> String {
        let target = Target {
            rules: STRICT,
            ..Target::default()
        };
        messages(
            &format!(r#"{{"model":"m","messages":{messages_json}}}"#),
            target,
        )
    }

    #[test]
    fn a_plain_conversation_keeps_its_bytes() {
        let plain = r#"[{"role":"system", "content":"s"},{"role":"user","content":[{"type":"text","text":"a"}],"name":"n"},{"role":"assistant","content":"b"}]"#;
        assert_eq!(strict(plain), plain);
    }

    #[test]
    fn system_messages_later_on_become_reminders_where_they_stand() {
        let text = strict(
            r#"[{"role":"system","content":"s"},{"role":"user","content":"a"},{"role":"system","content":"r"},{"role":"assistant","content":"b"},{"role":"developer","content":"q"},{"role":"user","content":"c"}]"#,
        );
        assert_eq!(
            text,
            r#"[{"role":"system","content":"s"},{"role":"user","content":"a\n\n<system-reminder>\nr\n</system-reminder>"},{"role":"assistant","content":"b"},{"role":"user","content":"<system-reminder>\nq\n</system-reminder>\n\nc"}]"#
        );
    }

    #[test]
    fn a_template_that_takes_everything_gets_everything_as_it_is() {
        let wild = r#"[{"role":"user","content":"a"},{"role":"system","content":"r"},{"role":"user","content":"b"},{"role":"user","content":"c"}]"#;
        let rules = TemplateRules::ALL;
        let request = format!(r#"{{"model":"m","messages":{wild}}}"#);
        assert_eq!(
            messages(
                &request,
                Target {
                    rules,
                    ..Target::default()
                }
            ),
            wild
        );
    }

    #[test]
    fn text_after_a_tool_result_joins_it() {
        let text = strict(
            r#"[{"role":"user","content":"a"},{"role":"assistant","content":"","tool_calls":[{"id":"call00001","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"call00001","content":"r"},{"role":"user","content":"stop"}]"#,
        );
        assert!(
            text.ends_with(r#"{"role":"tool","tool_call_id":"call00001","content":"r\n\nstop"}]"#),
            "{text}"
        );
    }

    #[test]
    fn ids_of_any_form_become_short_ones_where_a_template_insists() {
        let text = strict(
            r#"[{"role":"user","content":"a"},{"role":"assistant","content":"","tool_calls":[{"id":"toolu_01","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"toolu_01","content":"r"}]"#,
        );
        assert!(!text.contains("toolu_01"), "{text}");
        let id = |name: &str| text.split_once(name).unwrap().1.get(..9).unwrap();
        assert_eq!(id(r#""id":""#), id(r#""tool_call_id":""#), "{text}");
    }

    #[test]
    fn a_conversation_that_begins_with_the_assistant_gets_an_opening() {
        let text = strict(
            r#"[{"role":"system","content":"s"},{"role":"assistant","content":"b"},{"role":"user","content":"c"}]"#,
        );
        let opened = r#"{"role":"system","content":"s"},{"role":"user","content":"(The conversation goes on.)"},{"role":"assistant","content":"b"}"#;
        assert!(text.contains(opened), "{text}");
    }

    #[test]
    fn malformed_arguments_in_the_history_are_healed() {
        let history = |arguments: &str| {
            let arguments = serde_json::to_string(arguments).unwrap();
            strict(&format!(
                r#"[{{"role":"user","content":"a"}},{{"role":"assistant","content":null,"tool_calls":[{{"id":"call00001","type":"function","function":{{"name":"f","arguments":{arguments}}}}}]}}]"#
            ))
        };
        assert!(
            history(r#"{"a":1}"#).contains(r#""content":null"#),
            "well-formed: kept as it is"
        );
        assert!(
            history(r#"{"a":"#)
                .contains(r#""arguments":"{\"malformed_arguments\":\"{\\\"a\\\":\"}"#)
        );
        assert!(history("").contains(r#""arguments":"{}""#));
        for (unreadable, why) in [
            ("[1]".to_owned(), "no object"),
            (
                r#"{"a":1e999}"#.to_owned(),
                "a number llama-server cannot hold",
            ),
            (r#"{"a":"\ud800"}"#.to_owned(), "half a character"),
            (
                format!("{}1{}", r#"{"a":"#.repeat(20_000), "}".repeat(20_000)),
                "deep enough to exhaust its stack",
            ),
        ] {
            assert!(
                history(&unreadable).contains("malformed_arguments"),
                "{why}"
            );
        }
    }

    #[test]
    fn images_become_a_note_for_a_model_that_cannot_see() {
        let request = r#"{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"look"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AA=="}}]}]}"#;
        let blind = messages(
            request,
            Target {
                vision: Some(false),
                ..Target::default()
            },
        );
        assert!(
            blind.contains("cannot see images") && !blind.contains("base64"),
            "{blind}"
        );
        assert!(messages(request, Target::default()).contains("base64"));
    }

    #[test]
    fn limits_are_capped_by_the_window_and_named_choices_narrow() {
        let request = r#"{"model":"m","messages":[{"role":"user","content":"a"}],"max_tokens":128000,"tools":[{"type":"function","function":{"name":"f"}},{"type":"function","function":{"name":"g"}}],"tool_choice":{"type":"function","function":{"name":"g"}}}"#;
        let turn = openai::decode(request.as_bytes()).unwrap();
        let body = chat_body(
            &turn,
            None,
            Target {
                n_ctx: Some(4096),
                ..Target::default()
            },
        );
        let text = std::str::from_utf8(&body).unwrap();
        assert!(text.contains(r#""max_tokens":4096"#));
        assert!(text.contains(
            r#""tools":[{"type":"function","function":{"name":"g"}}],"tool_choice":"required""#
        ));
    }
}

use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::dialect::Dialect;

/// The transcript of an OpenAI request.
fn openai(messages: Value) -> Transcript {
    decoded(
        Dialect::OpenAi,
        json!({"model": "m", "messages": messages, "tools": [tool()]}),
        None,
    )
}

fn tool() -> Value {
    json!({"type": "function", "function": {"name": "ls", "parameters": {"type": "object"}}})
}

fn decoded(dialect: Dialect, body: Value, agent: Option<&str>) -> Transcript {
    let turn = dialect.decode(body.to_string().as_bytes()).unwrap();
    Transcript::read(&turn, agent, &opener(&turn))
}

fn first_text(dialect: Dialect, messages: Value) -> String {
    let body = json!({"model": "m", "max_tokens": 1, "messages": messages});
    opener(&dialect.decode(body.to_string().as_bytes()).unwrap())
}

fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

fn model(text: &str) -> Value {
    json!({"role": "assistant", "content": text})
}

fn call(id: &str, arguments: &str) -> Value {
    let function = json!({"name": "ls", "arguments": arguments});
    json!({"role": "assistant", "content": null,
           "tool_calls": [{"id": id, "type": "function", "function": function}]})
}

fn result(id: &str, text: &str) -> Value {
    json!({"role": "tool", "tool_call_id": id, "content": text})
}

/// Conversations of one session, as its monitor would keep them.
#[derive(Default)]
struct Known {
    trails: Vec<Trail>,
    messages: Vec<(LineageId, Vec<u64>)>,
}

impl Known {
    fn place(&self, transcript: &Transcript) -> Place {
        let messages = |id| {
            Some(
                &self
                    .messages
                    .iter()
                    .rev()
                    .find(|(known, _)| *known == id)?
                    .1,
            )
        };
        place(transcript, self.trails.iter(), messages)
    }

    /// Take a turn in; the sibling it belongs to, and whether it was new.
    fn turn(&mut self, transcript: &Transcript) -> (LineageId, bool) {
        let (id, is_new) = match self.place(transcript) {
            Place::Known(index) => (self.trails.remove(index).id, false),
            Place::New(id) => (id, true),
        };
        self.trails.insert(0, Trail::new(id, transcript));
        self.messages.push((id, transcript.messages().to_vec()));
        (id, is_new)
    }

    fn sibling(&mut self, messages: Value) -> u32 {
        self.turn(&openai(messages)).0.sibling
    }
}

#[test]
fn the_opener_is_what_the_human_said_first() {
    let reminder = "<system-reminder>\nSame for all.\n</system-reminder>";
    let blocks = json!([
        {"role": "system", "content": "env"},
        {"role": "user", "content": [{"type": "text", "text": reminder}]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t", "content": "r"},
            {"type": "text", "text": format!("{reminder}\nfix")},
            {"type": "text", "text": "it"},
        ]},
    ]);
    assert_eq!(first_text(Dialect::Anthropic, blocks), "fix\nit");
    assert_eq!(
        first_text(Dialect::OpenAi, json!([user(reminder)])),
        reminder
    );
    assert_eq!(first_text(Dialect::OpenAi, json!([model("a")])), "");
    let long = "é".repeat(600);
    assert_eq!(
        first_text(Dialect::OpenAi, json!([user(&long)]))
            .chars()
            .count(),
        512
    );
}

#[test]
fn ids_of_calls_reasoning_and_system_messages_do_not_count() {
    let one = openai(json!([
        {"role": "system", "content": "12:00"}, user("go"), call("call_1", "{}"), result("call_1", "a"),
    ]));
    let mut thinking = call("call_2", "{}");
    thinking["reasoning_content"] = json!("hm");
    let two = openai(json!([
        {"role": "system", "content": "12:01"}, user("go"), {"role": "system", "content": "reminder"},
        thinking, result("call_2", "a"),
    ]));
    assert_eq!(
        (one.key(), one.base, one.messages.len()),
        (two.key(), two.base, 3)
    );
}

#[rstest]
#[case::text(json!([user("go"), model("x"), user("on")]), json!([user("go"), model("x"), user("off")]))]
#[case::role(json!([user("go"), model("x")]), json!([user("go"), user("x")]))]
#[case::arguments(json!([user("go"), call("1", "{}")]), json!([user("go"), call("1", "{\"a\":1}")]))]
#[case::result(json!([user("go"), call("1", "{}"), result("1", "a")]), json!([user("go"), call("1", "{}"), result("1", "b")]))]
#[case::order(json!([user("a"), user("b")]), json!([user("b"), user("a")]))]
#[case::borders(json!([user("ab"), user("c")]), json!([user("a"), user("bc")]))]
fn what_is_said_counts(#[case] one: Value, #[case] two: Value) {
    assert_ne!(openai(one).key(), openai(two).key());
}

#[test]
fn every_dialect_hashes_alike() {
    let anthropic = json!({"model": "m", "max_tokens": 1, "messages": [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "hm", "signature": ""},
            {"type": "tool_use", "id": "t", "name": "ls", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "a"}]},
    ]});
    let anthropic = decoded(Dialect::Anthropic, anthropic, None);
    let openai = openai(json!([user("go"), call("c", "{}"), result("c", "a")]));
    assert_eq!(anthropic.messages, openai.messages);
    let responses = json!({"model": "m", "input": [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "go"}]},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
        {"type": "function_call", "call_id": "r", "name": "ls", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "r", "output": "a"},
    ]});
    let responses = decoded(Dialect::Responses, responses, None);
    assert_eq!(responses.messages, openai.messages);
}

#[test]
fn subagents_titles_and_the_main_conversation_are_lineages_of_their_own() {
    let ask = |body: Value, agent| decoded(Dialect::Anthropic, body, agent);
    let body = |tools: Value, text: &str| json!({"model": "m", "max_tokens": 1, "tools": tools, "messages": [user(text)]});
    let tools = json!([{"name": "ls", "input_schema": {"type": "object"}}]);
    let all = [
        ask(body(tools.clone(), "go"), None),
        ask(body(json!([]), "go"), None),
        ask(body(json!([]), "Generate a title"), None),
        ask(body(tools.clone(), "go"), Some("agent-1")),
        ask(body(tools.clone(), "go"), Some("agent-2")),
    ];
    let mut known = Known::default();
    for transcript in &all {
        let (id, is_new) = known.turn(transcript);
        assert!(is_new && id.sibling == 1, "{transcript:?}");
    }
    // The agent's id decides alone.
    assert_eq!(all[3].base, ask(body(tools, "other"), Some("agent-1")).base);
}

#[test]
fn chats_that_begin_alike_become_siblings_when_they_part() {
    let mut known = Known::default();
    assert_eq!(known.sibling(json!([user("hi")])), 1);
    assert_eq!(
        known.sibling(json!([user("hi"), model("one"), user("x")])),
        1
    );
    // Another chat with the same opener.
    assert_eq!(known.sibling(json!([user("hi")])), 2);
    assert_eq!(
        known.sibling(json!([user("hi"), model("two"), user("x")])),
        2
    );
    // Both go on.
    assert_eq!(
        known.sibling(json!([
            user("hi"),
            model("one"),
            user("x"),
            model("y"),
            user("z")
        ])),
        1
    );
    assert_eq!(
        known.sibling(json!([
            user("hi"),
            model("two"),
            user("x"),
            model("y"),
            user("z")
        ])),
        2
    );
    assert_eq!(
        known.sibling(json!([user("hi"), model("three"), user("x")])),
        3
    );
}

#[test]
fn two_chats_at_their_first_message_part_with_their_second() {
    let mut known = Known::default();
    assert_eq!(known.sibling(json!([user("hi")])), 1);
    assert_eq!(
        known.sibling(json!([user("hi")])),
        1,
        "a retry, for all that can be told"
    );
    assert_eq!(known.sibling(json!([user("hi"), model("a"), user("x")])), 1);
    assert_eq!(known.sibling(json!([user("hi"), model("b"), user("x")])), 2);
}

fn long(turns: usize) -> Vec<Value> {
    let mut messages = vec![user("go")];
    for turn in 0..turns {
        let id = format!("c{turn}");
        messages.push(call(&id, &format!("{{\"n\":{turn}}}")));
        messages.push(result(&id, &format!("result {turn}")));
    }
    messages
}

#[test]
fn pruned_and_compacted_forms_stay() {
    let mut known = Known::default();
    assert_eq!(known.sibling(json!(long(10))), 1);

    // The middle cut out, the end kept, one more turn.
    let mut pruned = long(11);
    pruned.drain(1..15);
    assert_eq!(known.sibling(json!(pruned)), 1, "pruned");

    // Old results cleared in place.
    let mut cleared = pruned.clone();
    cleared[2] = result("c7", "[Old tool result content cleared]");
    cleared.extend([call("x", "{}"), result("x", "new")]);
    assert_eq!(known.sibling(json!(cleared)), 1, "cleared");

    // The oldest dropped, the opener with them.
    let mut slid = cleared.clone();
    slid.drain(..3);
    slid.extend([call("y", "{}"), result("y", "newer")]);
    let (id, is_new) = known.turn(&openai(json!(slid)));
    assert!(!is_new && id.sibling == 1, "slid");

    // The client's own summary, and the turns after it.
    let summary = user(
        "This session is being continued from a previous conversation that ran out of context.",
    );
    let (compacted, is_new) = known.turn(&openai(json!([summary])));
    assert!(!is_new && compacted == id, "compacted");
    let after = json!([summary, model("ok"), user("go on")]);
    assert_eq!(known.turn(&openai(after)), (id, false));
    assert_eq!(known.trails.len(), 1);
}

#[test]
fn agents_with_other_tasks_that_begin_with_the_same_calls_are_apart() {
    let mut known = Known::default();
    assert!(known.turn(&openai(json!(long(3)))).1);
    let mut other = long(3);
    other[0] = user("another task");
    let (id, is_new) = known.turn(&openai(json!(other)));
    assert!(is_new && id.sibling == 1);
}

#[test]
fn a_conversation_that_went_back_is_a_sibling() {
    let mut known = Known::default();
    assert_eq!(known.sibling(json!(long(6))), 1);
    let mut back = long(3);
    back.push(user("rather not"));
    assert_eq!(known.sibling(json!(back)), 2);
    assert_eq!(known.sibling(json!(long(7))), 1);
}

#[test]
fn without_the_hashes_an_extension_is_still_known() {
    let trail = Trail::new(
        LineageId {
            base: openai(json!(long(1))).base,
            sibling: 3,
        },
        &openai(json!(long(4))),
    );
    let place = |transcript: &Transcript| place(transcript, [trail].iter(), |_| None::<&[u64]>);
    assert_eq!(place(&openai(json!(long(4)))), Place::Known(0));
    assert_eq!(place(&openai(json!(long(9)))), Place::Known(0));
    assert!(trail.is_retried_by(&openai(json!(long(4)))));
    assert!(!trail.is_retried_by(&openai(json!(long(5)))));
    assert!(matches!(
        place(&openai(json!(long(2)))),
        Place::New(LineageId { sibling: 4, .. })
    ));
}

#[test]
fn ids_are_short_and_name_the_sibling() {
    let id = |sibling| {
        LineageId {
            base: 0xab,
            sibling,
        }
        .to_string()
    };
    assert_eq!(
        (id(1).as_str(), id(2).as_str()),
        ("00000000000000ab", "00000000000000ab#2")
    );
}

#[test]
fn the_pure_files_import_neither_pingora_nor_tokio_nor_the_fleet() {
    for (name, source) in [
        ("key.rs", include_str!("../key.rs")),
        ("lineage.rs", include_str!("../lineage.rs")),
    ] {
        let code = source.split("#[cfg(test)]").next().unwrap();
        for word in [
            "pingora",
            "tokio",
            "fleet",
            "std::time",
            "std::net",
            "parking_lot",
        ] {
            assert!(!code.contains(word), "{name} mentions {word}");
        }
    }
}

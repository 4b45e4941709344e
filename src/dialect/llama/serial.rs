//! Calls made at once, told one after the other: for templates that render one call a message
//! (Llama 3: "This model only supports single tool-calls at once!").
//!
//! A message with several calls and the results that follow it become a message and a result for
//! each. Clients send the results with the calls, so that the prompt of a turn stays a prefix of the
//! next turn's.

use std::collections::VecDeque;

use super::items::{Call, Item};
use crate::turn::Role;

/// The same conversation with one call a message.
pub(super) fn one_call_each(items: Vec<Item<'_>>) -> Vec<Item<'_>> {
    let several = |item: &Item<'_>| item.role == Role::Assistant && item.calls.len() > 1;
    if !items.iter().any(several) {
        return items;
    }
    let mut told = Vec::with_capacity(2 * items.len());
    let mut items = VecDeque::from(items);
    while let Some(mut item) = items.pop_front() {
        if !several(&item) {
            told.push(item);
            continue;
        }
        item.verbatim = None;
        let calls = std::mem::take(&mut item.calls);
        let results = items.iter().take_while(|item| item.role == Role::Tool);
        let results = results.count();
        let mut results: Vec<_> = items.drain(..results).collect();
        // What the model said stands before its first call.
        let mut message = item;
        let last = calls.len() - 1;
        let answer_follows = items
            .front()
            .is_some_and(|next| next.role == Role::Assistant);
        for (number, call) in calls.into_iter().enumerate() {
            let missing =
                || (number < last || answer_follows).then(|| Item::missing_result(call.id.clone()));
            let result = result_of(&call, &mut results).or_else(missing);
            message.calls.push(call);
            told.push(message);
            told.extend(result);
            message = Item::empty(Role::Assistant);
        }
        told.append(&mut results);
    }
    told
}

/// The result of `call`; none if the transcript has none.
fn result_of<'a>(call: &Call<'_>, results: &mut Vec<Item<'a>>) -> Option<Item<'a>> {
    let of_call = |item: &Item<'_>| item.call_id.as_deref() == Some(&*call.id);
    let position = results.iter().position(of_call)?;
    Some(results.remove(position))
}

#[cfg(test)]
mod tests {
    use crate::dialect::Dialect;
    use crate::dialect::llama::{Target, TemplateRules, chat_body};

    fn messages(messages: &str) -> serde_json::Value {
        let body = format!(r#"{{"model":"m","messages":{messages}}}"#);
        let turn = Dialect::OpenAi.decode(body.as_bytes()).unwrap();
        let rules = TemplateRules {
            parallel_calls: false,
            ..TemplateRules::ALL
        };
        let target = Target {
            rules,
            ..Target::default()
        };
        let body: serde_json::Value =
            serde_json::from_slice(&chat_body(&turn, None, target)).unwrap();
        body["messages"].clone()
    }

    const CALLS: &str = r#"{"role":"user","content":"a"},{"role":"assistant","content":"both","tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{}"}},{"id":"2","type":"function","function":{"name":"g","arguments":"{}"}}]}"#;

    #[test]
    fn each_call_stands_before_its_own_result() {
        for results in [["1", "2"], ["2", "1"]] {
            let result =
                |id| format!(r#"{{"role":"tool","tool_call_id":"{id}","content":"r{id}"}}"#);
            let told = messages(&format!(
                "[{CALLS},{},{},{{\"role\":\"user\",\"content\":\"go on\"}}]",
                result(results[0]),
                result(results[1])
            ));
            let shown: Vec<_> = told
                .as_array()
                .unwrap()
                .iter()
                .map(|m| {
                    let call = &m["tool_calls"][0]["id"];
                    assert!(
                        m["tool_calls"]
                            .as_array()
                            .is_none_or(|calls| calls.len() == 1)
                    );
                    (m["content"].as_str().unwrap(), call.as_str())
                })
                .collect();
            let expected = [
                ("a", None),
                ("both", Some("1")),
                ("r1", None),
                ("", Some("2")),
                ("r2", None),
                ("go on", None),
            ];
            assert_eq!(shown, expected);
        }
    }

    #[test]
    fn results_without_a_call_stay_and_a_missing_one_is_told() {
        let told = messages(&format!(
            r#"[{CALLS},{{"role":"tool","tool_call_id":"9","content":"r9"}}]"#
        ));
        let told = told.as_array().unwrap();
        let texts: Vec<_> = told
            .iter()
            .map(|m| m["content"].as_str().unwrap())
            .collect();
        assert_eq!(texts, ["a", "both", "(no result)", "", "r9"]);
    }
}

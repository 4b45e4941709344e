//! What the last calls were, for people to see.

use super::*;

fn called(messages: &[Message]) -> Vec<(&str, Option<u64>, bool)> {
    let calls = last_calls(messages).into_iter();
    calls
        .map(|call| (call.tool, call.result, call.failed))
        .collect()
}

#[test]
fn a_turn_that_brings_results_tells_of_its_calls() {
    let mut messages = vec![Message::text(Role::User, "fix it")];
    assert_eq!(last_calls(&messages), []);
    messages.extend([
        call("Bash", r#"{"a":1,"b":2}"#, 1),
        result("took 3 ms", 1),
        call("Bash", r#"{"b":2,"a":1}"#, 2),
        call("Read", r#"{"file_path":"x"}"#, 3),
        result("error: no such file", 3),
        result("took 4 ms", 2),
    ]);
    let told = called(&messages);
    let [("Bash", Some(_), false), ("Read", Some(_), true)] = told[..] else {
        panic!("{told:?}")
    };
    let (now, before) = (last_calls(&messages), last_calls(&messages[..3]));
    assert_eq!(before.len(), 1);
    assert_eq!(
        now[0].call, before[0].call,
        "the order of members is no difference"
    );
    assert_eq!(now[0].id, "c2");
    messages.push(Message::text(Role::Assistant, "Done."));
    messages.push(Message::text(Role::User, "Thanks."));
    assert_eq!(last_calls(&messages), [], "told in the turn before");
}

#[test]
fn a_call_without_a_result_has_none() {
    let messages = [
        call("Bash", "{}", 1),
        call("Bash", "{}", 2),
        result("x", 2),
        result("of nothing", 9),
    ];
    let told = called(&messages);
    assert_eq!(told.len(), 2);
    assert_eq!(told[0], ("Bash", None, false));
    assert!(told[1].1.is_some());
}

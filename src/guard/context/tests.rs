//! One conversation after another, made to fit.

use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_64;

use super::*;
use crate::config::Context;
use crate::dialect::Dialect;
use crate::turn::{Part, Role, Turn, TurnError};

const WINDOW: Option<u64> = Some(10_000);

/// As in `session::lineage`, but for its length.
pub(super) fn hash(message: &Message) -> Option<u64> {
    if message.role() == Role::System {
        return None;
    }
    let said: Vec<String> = message
        .parts()
        .iter()
        .map(|part| match part {
            Part::ToolCall(call) => format!("{}{}", call.name, call.arguments),
            Part::ToolResult(result) => result.text(),
            other => format!("{other:?}"),
        })
        .collect();
    Some(xxh3_64(said.join("|").as_bytes()))
}

/// A conversation of `rounds` tool calls with results of `size` bytes.
fn agent(rounds: usize, size: usize) -> Turn {
    let mut messages = vec![
        json!({"role": "system", "content": "You are an agent."}),
        json!({"role": "user", "content": "the task"}),
    ];
    for n in 0..rounds {
        messages.push(json!({"role": "assistant", "content": null, "tool_calls": [
            {"id": format!("c{n}"), "type": "function", "function": {"name": "read", "arguments": format!("{{\"n\":{n}}}")}}]}));
        messages.push(json!({"role": "tool", "tool_call_id": format!("c{n}"), "content": format!("{n} {}", "x".repeat(size))}));
    }
    decode(messages)
}

fn decode(messages: Vec<Value>) -> Turn {
    let body = json!({"model": "m", "messages": messages});
    Dialect::OpenAi.decode(body.to_string().as_bytes()).unwrap()
}

fn fit(remembered: Remembered) -> Fit {
    Fit::new(&Context::default(), true, remembered, hash)
}

fn known(own: ContextState) -> Remembered {
    Remembered {
        own,
        others: Vec::new(),
    }
}

/// Run to the end, every question answered by `count`. The questions.
fn run(
    fit: &mut Fit,
    turn: &mut Turn,
    count: impl Fn(&Question, &Turn) -> Option<u64>,
) -> Vec<Question> {
    let mut asked = Vec::new();
    loop {
        match fit.step(turn, WINDOW) {
            Step::Ready => return asked,
            Step::Count(question) => {
                fit.counted(count(&question, turn));
                asked.push(question);
            }
            Step::Refuse(error) => panic!("{error}"),
        }
    }
}

fn texts(turn: &Turn) -> Vec<String> {
    turn.messages
        .iter()
        .map(|m| format!("{:?}", m.parts()))
        .collect()
}

/// Tokens of a prompt as a backend would count them here: a quarter of the bytes.
fn tokens(turn: &Turn) -> u64 {
    turn.messages.iter().map(super::weight::of).sum::<u64>() / 4
}

/// A backend that answers.
fn counts(question: &Question, turn: &Turn) -> Option<u64> {
    Some(match question {
        Question::Text(text) => text.len() as u64 / 4,
        Question::Whole => tokens(turn),
    })
}

#[test]
fn far_from_the_window_nobody_is_asked() {
    let mut turn = agent(10, 1_000);
    let before = texts(&turn);
    let mut fit = self::fit(Remembered::default());
    assert_eq!(run(&mut fit, &mut turn, |_, _| panic!("asked")), []);
    assert_eq!(texts(&turn), before);
    assert!(fit.take_notes().is_empty() && fit.breaks().is_empty());
}

#[test]
fn an_unknown_window_changes_nothing() {
    let mut turn = agent(100, 1_000);
    let mut fit = self::fit(Remembered::default());
    assert_eq!(fit.step(&mut turn, None), Step::Ready);
    assert_eq!(fit.step(&mut turn, Some(0)), Step::Ready);
    assert_eq!(turn.messages.len(), 202);
}

/// Case 104 of the earlier proxy.
#[test]
fn a_conversation_near_the_window_loses_its_middle() {
    let mut turn = agent(32, 1_000);
    let last: Vec<String> = texts(&turn).split_off(66 - 8);
    let mut fit = self::fit(Remembered::default());
    assert_eq!(run(&mut fit, &mut turn, counts), [Question::Whole]);
    let after = texts(&turn);
    assert_eq!(
        after[0],
        format!("{:?}", [Part::Text("You are an agent.".into())])
    );
    assert!(
        after[1].contains("the task") && after[1].contains(MARKER),
        "{}",
        after[1]
    );
    assert_eq!(after.concat().matches(MARKER).count(), 1);
    assert!(after.ends_with(&last), "the latest 8 messages are whole");
    assert_eq!(turn.messages[2].role(), Role::Assistant);
    let size = tokens(&turn);
    assert!((4_000..=5_100).contains(&size), "{size} of 5000");
    assert_eq!(fit.take_notes(), ["prune"]);
    assert_eq!(fit.breaks(), [PrefixBreak::Prune]);
}

#[test]
fn where_it_is_critical_more_goes() {
    let mut turn = agent(38, 1_000);
    let mut fit = self::fit(Remembered::default());
    run(&mut fit, &mut turn, counts);
    let size = tokens(&turn);
    assert!((3_000..=4_100).contains(&size), "{size} of 4000");
}

#[test]
fn the_cut_is_repeated_until_a_new_one_is_due() {
    let mut state = ContextState::default();
    let mut sent: Option<(Vec<String>, u64)> = None;
    let (mut cuts, mut asked) = (0, 0);
    for rounds in 20..200 {
        let mut turn = agent(rounds, 1_000);
        let mut fit = self::fit(known(state.clone()));
        asked += run(&mut fit, &mut turn, counts).len();
        let now = texts(&turn);
        assert_eq!(
            now.concat().matches(MARKER).count(),
            usize::from(fit.removed().is_some())
        );
        if fit.breaks().is_empty() {
            if let Some((before, _)) = &sent {
                assert!(now.starts_with(before), "turn {rounds}");
            }
        } else {
            cuts += 1;
        }
        let prompt = tokens(&turn);
        assert!(prompt < 8_700, "turn {rounds}: {prompt}");
        state = fit.remember(prompt);
        sent = Some((now, prompt));
    }
    // 46,000 tokens of history after the first time, 3,500 a cut.
    assert!((11..=15).contains(&cuts), "{cuts} cuts");
    assert!(asked <= 4 * cuts, "{asked} questions for {cuts} cuts");
}

#[test]
fn what_is_new_is_counted_alone() {
    let mut first = agent(29, 1_000);
    let mut one = fit(Remembered::default());
    run(&mut one, &mut first, counts);
    let state = one.remember(tokens(&first));
    let mut next = agent(30, 1_000);
    let last = next.messages.len() - 1;
    *next.messages[last].parts_mut() = vec![Part::Text("y".repeat(6_000))];
    let mut two = fit(known(state));
    let asked = run(&mut two, &mut next, |_, _| Some(800));
    let [Question::Text(text)] = asked.as_slice() else {
        panic!("{asked:?}")
    };
    assert!(text.contains(&"y".repeat(6_000)) && text.contains("{\"n\":29}"));
    assert!(!text.contains("xxx"), "only what is new");
}

#[test]
fn a_retry_gets_the_same_prompt() {
    let mut turn = agent(34, 1_000);
    let mut one = fit(Remembered::default());
    run(&mut one, &mut turn, counts);
    let state = one.remember(tokens(&turn));
    // Its answer got lost: nothing was remembered. Or it was, and the client asks again.
    for remembered in [Remembered::default(), known(state)] {
        let mut again = agent(34, 1_000);
        let mut two = fit(remembered);
        run(&mut two, &mut again, counts);
        assert_eq!(texts(&again), texts(&turn));
    }
}

#[test]
fn a_conversation_that_forked_off_repeats_the_cut() {
    let mut turn = agent(34, 1_000);
    let mut one = fit(Remembered::default());
    run(&mut one, &mut turn, counts);
    let cut = one.remember(5_000).cut().unwrap();
    let mut fork = agent(32, 1_000);
    fork.messages.push(Message::text(Role::User, "go back"));
    let remembered = Remembered {
        own: ContextState::default(),
        others: vec![cut],
    };
    let mut two = fit(remembered.clone());
    run(&mut two, &mut fork, counts);
    assert!(two.breaks().is_empty());
    assert_eq!(two.take_notes(), ["pruned"]);
    let common = texts(&fork);
    let common = &common[..common.len() - 1];
    assert!(texts(&turn).starts_with(common));

    let mut other = agent(5, 1_000);
    let mut three = fit(remembered);
    run(&mut three, &mut other, counts);
    assert_eq!(
        (three.removed(), other.messages.len()),
        (None, 12),
        "not come so far"
    );
}

#[test]
fn observed_only() {
    let mut turn = agent(34, 1_000);
    let before = texts(&turn);
    let mut fit = Fit::new(&Context::default(), false, Remembered::default(), hash);
    run(&mut fit, &mut turn, counts);
    assert_eq!(texts(&turn), before);
    assert_eq!(fit.take_notes(), ["prune"]);
    assert!(fit.breaks().is_empty());
    assert!(!fit.overflowed(&mut turn, 11_000, 10_000));
    let mut huge = agent(60, 1_000);
    assert_eq!(
        fit_all(&mut huge, false),
        Step::Ready,
        "the backend may refuse"
    );
}

fn fit_all(turn: &mut Turn, acts: bool) -> Step {
    let mut fit = Fit::new(&Context::default(), acts, Remembered::default(), hash);
    loop {
        match fit.step(turn, WINDOW) {
            Step::Count(question) => fit.counted(counts(&question, turn)),
            step => return step,
        }
    }
}

#[test]
fn what_cannot_be_helped_is_refused_with_its_numbers() {
    let mut turn = decode(vec![json!({"role": "user", "content": "x".repeat(50_000)})]);
    let size = tokens(&turn);
    let expected = TurnError::ContextOverflow {
        prompt: size,
        limit: 10_000,
    };
    assert_eq!(fit_all(&mut turn, true), Step::Refuse(expected));

    // A last result that alone is too long: the client is told the size of everything.
    let mut turn = agent(30, 300);
    let last = turn.messages.len() - 1;
    if let Part::ToolResult(result) = &mut turn.messages[last].parts_mut()[0] {
        result.content = vec![crate::turn::Content::Text("z".repeat(45_000))];
    }
    let all = tokens(&turn);
    match fit_all(&mut turn, true) {
        Step::Refuse(TurnError::ContextOverflow { prompt, limit }) => {
            assert_eq!((prompt, limit), (all, 10_000));
        }
        step => panic!("{step:?}"),
    }
}

#[test]
fn without_an_answer_the_estimate_has_to_do() {
    let mut turn = agent(60, 1_000);
    let mut fit = self::fit(Remembered::default());
    assert_eq!(run(&mut fit, &mut turn, |_, _| None), [Question::Whole]);
    assert_eq!(fit.take_notes(), ["prune"]);
    let mut huge = decode(vec![json!({"role": "user", "content": "x".repeat(50_000)})]);
    let mut alone = self::fit(Remembered::default());
    run(&mut alone, &mut huge, |_, _| None);
    assert!(alone.take_notes().is_empty(), "an estimate refuses nobody");
}

/// Case 106 of the earlier proxy: what the backend has said weighs more than any estimate.
#[test]
fn a_backend_that_refuses_is_believed() {
    let mut turn = agent(10, 1_000);
    let mut fit = self::fit(Remembered::default());
    assert_eq!(run(&mut fit, &mut turn, |_, _| panic!("asked")), []);
    assert!(fit.overflowed(&mut turn, 11_000, 10_000));
    assert!(turn.messages.len() < 22);
    assert_eq!(fit.take_notes(), ["prune"]);
    assert!(!fit.overflowed(
        &mut decode(vec![json!({"role": "user", "content": "x"})]),
        11_000,
        0
    ));
}

#[test]
fn another_window_means_another_cut_of_the_whole_conversation() {
    let mut turn = agent(32, 1_000);
    let mut fit = self::fit(Remembered::default());
    run(&mut fit, &mut turn, counts);
    let first = fit.removed().unwrap();
    // A backend with half the window takes over.
    let step = fit.step(&mut turn, Some(5_000));
    assert!(matches!(step, Step::Ready | Step::Count(_)), "{step:?}");
    if step != Step::Ready {
        fit.counted(Some(tokens(&turn)));
        assert_eq!(fit.step(&mut turn, Some(5_000)), Step::Ready);
    }
    assert!(fit.removed().unwrap() > first);
    assert_eq!(texts(&turn).concat().matches(MARKER).count(), 1);
    assert!(tokens(&turn) < 4_250);
}

#[test]
fn the_room_for_an_answer_is_what_the_prompt_leaves() {
    let mut turn = agent(29, 1_000);
    let mut fit = self::fit(Remembered::default());
    assert_eq!(fit.room(WINDOW), WINDOW, "nothing is known yet");
    run(&mut fit, &mut turn, counts);
    assert_eq!(fit.room(WINDOW), Some(10_000 - tokens(&turn)));
    assert_eq!(fit.room(None), None);
    let mut small = agent(1, 10);
    let mut near = self::fit(Remembered::default());
    run(&mut near, &mut small, counts);
    assert!(
        near.room(WINDOW).unwrap() > 9_900,
        "an estimate never takes more than is certain"
    );
}

#[test]
fn a_switch_turns_it_off() {
    let settings = Context {
        prune: false,
        ..Context::default()
    };
    let mut turn = agent(34, 1_000);
    let mut fit = Fit::new(&settings, true, Remembered::default(), hash);
    run(&mut fit, &mut turn, counts);
    assert_eq!((fit.removed(), turn.messages.len()), (None, 70));
    assert!(!fit.overflowed(&mut turn, 11_000, 10_000));
}

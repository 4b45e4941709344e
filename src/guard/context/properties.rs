//! What holds for every conversation that is cut.

use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use super::tests::hash;
use super::*;
use crate::config::Context;
use crate::turn::{Content, Part, Role, ToolCall, ToolResult, Turn};

/// One thing that happens in a conversation.
#[derive(Clone, Debug)]
enum Event {
    /// The human speaks.
    Human(usize),
    /// The model speaks.
    Says(usize),
    /// The model makes calls, and their results come: together in one message, or one by one.
    Calls {
        count: usize,
        size: usize,
        together: bool,
    },
    /// The application reminds the model of something.
    Reminder,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        1 => (0usize..400).prop_map(Event::Human),
        2 => (0usize..400).prop_map(Event::Says),
        5 => (1usize..4, 0usize..1500, any::<bool>())
            .prop_map(|(count, size, together)| Event::Calls { count, size, together }),
        1 => Just(Event::Reminder),
    ]
}

fn text(role: Role, what: &str, number: usize, size: usize) -> Message {
    Message::text(role, format!("{what} {number} {}", "w".repeat(size)))
}

/// The conversation so far. Ids come again, as some clients number their calls in every turn.
fn transcript(events: &[Event]) -> Vec<Message> {
    let mut messages = vec![
        text(Role::System, "system", 0, 50),
        text(Role::User, "task", 0, 50),
    ];
    for (number, event) in events.iter().enumerate() {
        match event {
            Event::Human(size) => messages.push(text(Role::User, "human", number, *size)),
            Event::Says(size) => messages.push(text(Role::Assistant, "model", number, *size)),
            Event::Reminder => messages.push(text(Role::System, "reminder", number, 10)),
            Event::Calls {
                count,
                size,
                together,
            } => {
                let calls = (0..*count).map(|at| {
                    Part::ToolCall(ToolCall {
                        id: format!("call_{at}"),
                        name: "f".into(),
                        arguments: format!("{{\"n\":{number}}}"),
                    })
                });
                messages.push(Message::new(Role::Assistant, calls.collect()));
                let results = (0..*count).map(|at| {
                    Part::ToolResult(ToolResult {
                        call_id: format!("call_{at}"),
                        content: vec![Content::Text(format!("{number} {}", "r".repeat(*size)))],
                        is_error: false,
                    })
                });
                match together {
                    true => messages.push(Message::new(Role::User, results.collect())),
                    false => messages.extend(results.map(|r| Message::new(Role::Tool, vec![r]))),
                }
            }
        }
    }
    messages
}

fn turn(messages: Vec<Message>) -> Turn {
    let mut turn = crate::dialect::Dialect::OpenAi
        .decode(br#"{"model":"m","messages":[{"role":"user","content":"a"}]}"#)
        .unwrap();
    turn.messages = messages;
    turn
}

fn tokens(messages: &[Message]) -> u64 {
    messages.iter().map(super::weight::of).sum::<u64>() / 3
}

/// Fitted to `window`, its state and whether it was cut anew; none if it was refused.
fn fitted(turn: &mut Turn, state: ContextState, window: u64) -> Option<(ContextState, bool)> {
    let remembered = Remembered {
        own: state,
        others: Vec::new(),
    };
    let mut fit = Fit::new(&Context::default(), true, remembered, hash);
    loop {
        match fit.step(turn, Some(window)) {
            Step::Ready => break,
            Step::Count(Question::Whole) => fit.counted(Some(tokens(&turn.messages))),
            Step::Count(Question::Text(text)) => fit.counted(Some(text.len() as u64 / 3)),
            Step::Refuse(_) => return None,
        }
    }
    let state = fit.remember(tokens(&turn.messages));
    Some((state, !fit.breaks().is_empty()))
}

fn said(messages: &[Message]) -> Vec<String> {
    messages
        .iter()
        .map(|m| format!("{:?} {:?}", m.role(), m.parts()))
        .collect()
}

/// The numbers of calls and of results in a view, in order.
fn calls_and_results(messages: &[Message]) -> (Vec<String>, Vec<String>) {
    let (mut calls, mut results) = (Vec::new(), Vec::new());
    for part in messages.iter().flat_map(Message::parts) {
        match part {
            Part::ToolCall(call) => calls.push(call.arguments.clone()),
            Part::ToolResult(result) => {
                let text = result.text();
                let number = text.split(' ').next().unwrap_or_default();
                results.push(format!("{{\"n\":{number}}}"));
            }
            _ => {}
        }
    }
    (calls, results)
}

/// Places where the same role speaks twice, reminders aside.
fn doubles(messages: &[Message]) -> usize {
    let roles: Vec<Role> = messages
        .iter()
        .map(Message::role)
        .filter(|r| *r != Role::System)
        .collect();
    let twice = |pair: &&[Role]| pair[0] == pair[1] && pair[0] != Role::Tool;
    roles.windows(2).filter(twice).count()
}

proptest! {
    // Each is dozens of turns.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_conversation_grows_and_is_cut(
        events in prop::collection::vec(event(), 1..120),
        step in 1usize..6,
        window in 1_500u64..6_000,
    ) {
        let mut state = ContextState::default();
        let mut before: Option<Vec<String>> = None;
        for end in (0..=events.len()).step_by(step) {
            let whole = transcript(&events[..end]);
            let mut turn = turn(whole.clone());
            let Some((next, anew)) = fitted(&mut turn, state.clone(), window) else {
                before = None;
                state = ContextState::default();
                continue;
            };
            let view = said(&turn.messages);
            let (calls, results) = calls_and_results(&turn.messages);
            prop_assert_eq!(calls, results, "every call with its results, and none without");
            prop_assert!(doubles(&turn.messages) <= doubles(&whole), "{:#?}", view);
            let markers = view.concat().matches(MARKER).count();
            prop_assert_eq!(markers, usize::from(next.cut().is_some()));
            prop_assert!(view[1].contains("task 0"));
            let all = view.concat();
            for part in whole.last().map_or(&[][..], Message::parts) {
                prop_assert!(all.contains(&format!("{part:?}")), "the latest message stays");
            }
            if let Some(before) = before.filter(|_| !anew) {
                prop_assert!(view.starts_with(&before), "{:#?}\n{:#?}", before, view);
            }
            // The same turn again gives the same bytes, unless it is near the threshold still.
            if tokens(&turn.messages) * 10 < window * 8 {
                let mut again = self::turn(whole);
                let (_, anew_again) = fitted(&mut again, next.clone(), window).unwrap();
                prop_assert!(!anew_again);
                prop_assert_eq!(said(&again.messages), view.clone());
            }
            before = Some(view);
            state = next;
        }
    }
}

/// 100 and 1,000 messages of 1 KB: ten times the work, not a hundred times.
#[test]
fn the_cost_is_linear() {
    let time = |rounds: usize| {
        let events: Vec<Event> = (0..rounds)
            .map(|_| Event::Calls {
                count: 1,
                size: 2_000,
                together: false,
            })
            .collect();
        let whole = transcript(&events);
        let window = tokens(&whole) + 1;
        let best = (0..10).map(|_| {
            let mut turn = turn(whole.clone());
            let start = Instant::now();
            let (_, anew) = fitted(&mut turn, ContextState::default(), window).unwrap();
            assert!(anew);
            start.elapsed()
        });
        best.min().unwrap()
    };
    let (small, large) = (time(50), time(500));
    println!("100 messages: {small:?}; 1,000 messages: {large:?}");
    assert!(
        large < small.max(Duration::from_micros(200)) * 40,
        "{small:?} {large:?}"
    );
}

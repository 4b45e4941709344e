//! A backend fails in the middle of its answer, and another one goes on with it.

use rstest::rstest;
use serde_json::{Value, json};

use crate::support::script::{delta, role, text, tool_call};
use crate::support::turns::plain;
use crate::support::*;

/// Two backends that play the same part.
async fn fleet(begin: Reply, rest: Reply) -> ([Backend; 2], Gateway) {
    let backends = [Backend::start().await, Backend::start().await];
    for backend in &backends {
        let (begin, rest) = (begin.clone(), rest.clone());
        backend.plays(true, move |body| {
            let body: Value = serde_json::from_slice(body).unwrap();
            match body["continue_final_message"] == true {
                true => rest.clone(),
                false => begin.clone(),
            }
        });
    }
    let gateway = Setup::to(&backends.each_ref())
        .set("fleet.resume", json!(true))
        .set("guard.preset", json!("standard"))
        .start()
        .await;
    (backends, gateway)
}

/// Half an answer, then a dead backend.
fn half() -> Reply {
    let words = ["Once", " upon", " a"].map(text);
    let begun = Reply::stream().event(&role());
    words.iter().fold(begun, Reply::event).reset()
}

fn rest() -> Reply {
    Reply::says(&[" time", "."])
}

/// What the backend that goes on was asked.
fn asked_to_go_on(backends: &[Backend; 2]) -> Value {
    let all = backends.iter().flat_map(Backend::requests);
    let mut bodies = all.map(|request| serde_json::from_slice::<Value>(&request.body).unwrap());
    bodies
        .find(|body| body["continue_final_message"] == true)
        .unwrap()
}

/// How many requests both have got.
fn asked(backends: &[Backend; 2]) -> usize {
    let counts = backends.iter().map(|backend| backend.requests().len());
    counts.sum()
}

#[rstest]
#[case("/v1/chat/completions", "[DONE]")]
#[case("/v1/messages", "message_stop")]
#[case("/v1/responses", "response.completed")]
#[tokio::test]
async fn a_stream_goes_on_where_it_was_cut(#[case] path: &str, #[case] end: &str) {
    let (backends, gateway) = fleet(half(), rest()).await;
    let response = Client::connect(gateway.addr)
        .await
        .ask(&plain(path, true, "tell me a story"))
        .await;
    assert_eq!(response.status, 200);
    let body = response.text();
    let pieces = ["\"Once\"", "\" upon\"", "\" a\"", "\" time\"", "\".\"", end];
    let mut at = 0;
    for piece in pieces {
        let found = body[at..].find(piece);
        at += found.unwrap_or_else(|| panic!("{piece} after byte {at} of {body}"));
    }
    // Regression: guards put a gap before the text of a further attempt.
    assert!(!body.contains(r"\n\n"), "{body}");
    for failure in ["\"type\":\"error\"", "\"error\":{", "response.failed"] {
        assert!(!body.contains(failure), "{body}");
    }
    let sent = asked_to_go_on(&backends);
    let last = sent["messages"].as_array().unwrap().last().unwrap();
    assert_eq!(
        last,
        &json!({"role": "assistant", "content": "Once upon a"})
    );
    assert_eq!(sent["add_generation_prompt"], false);
    let metric = r#"why="resume""#;
    eventually("it is counted", || async {
        (gateway.metric("drover_attempts_total", metric).await == 1.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn reasoning_and_the_token_limit_go_along() {
    let thinks = Reply::stream()
        .event(&role())
        .event(&delta(json!({"reasoning_content": "hm"})))
        .event(&text("So"))
        .reset();
    let (backends, gateway) = fleet(thinks, rest()).await;
    let request = chat(json!({"stream": true, "max_tokens": 10}));
    let response = Client::connect(gateway.addr).await.ask(&request).await;
    response.assert_complete_stream();
    assert_eq!(response.said(), "So time.");
    let sent = asked_to_go_on(&backends);
    let last = sent["messages"].as_array().unwrap().last().unwrap();
    assert_eq!(last["reasoning_content"], "hm");
    assert_eq!(sent["max_tokens"], 8);
}

/// What cannot be continued ends with an error, as without `fleet.resume`.
#[rstest]
#[case::a_call_was_sent(
    Reply::stream()
        .event(&role())
        .event(&tool_call(0, "c1", "ls", "{}"))
        .event(&tool_call(1, "c2", "ls", "{"))
        .reset(),
    json!({"tools": [{"type": "function", "function": {"name": "ls", "parameters": {"type": "object"}}}]})
)]
#[case::of_several_answers(half(), json!({"n": 2}))]
#[case::a_grammar_began(half(), json!({"response_format": {"type": "json_object"}}))]
#[tokio::test]
async fn what_cannot_be_continued_is_cut(#[case] begin: Reply, #[case] more: Value) {
    let (backends, gateway) = fleet(begin, rest()).await;
    let mut body = json!({"stream": true});
    body.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    let response = Client::connect(gateway.addr).await.ask(&chat(body)).await;
    response.assert_failed_stream();
    assert_eq!(asked(&backends), 1);
}

/// Nobody is left to go on with it.
#[tokio::test]
async fn a_second_death_is_told_as_the_first() {
    let (backends, gateway) = fleet(half(), Reply::stream().event(&role()).reset()).await;
    let response = Client::connect(gateway.addr).await.ask(&stream()).await;
    response.assert_failed_stream();
    assert_eq!(response.said(), "Once upon a");
    assert_eq!(asked(&backends), 2);
}

/// Regression: the rest of an answer that was all said is empty, and was taken for an empty answer.
#[tokio::test]
async fn an_answer_of_which_only_the_end_is_missing_ends() {
    let nothing = Reply::stream().event(&role()).ends("stop");
    let (backends, gateway) = fleet(half(), nothing).await;
    let response = Client::connect(gateway.addr).await.ask(&stream()).await;
    response.assert_complete_stream();
    assert_eq!(response.said(), "Once upon a");
    assert_eq!(asked(&backends), 2);
}

/// Regression: whoever was next was asked, and the answer was cut where that was of an older build.
#[tokio::test]
async fn of_mixed_builds_one_is_asked_that_can_go_on() {
    let backends = [
        Backend::start().await,
        Backend::start().await,
        Backend::start().await,
    ];
    // Whichever is asked first; of the others one is too old.
    for backend in &backends {
        backend.plays(true, |body| {
            let body: Value = serde_json::from_slice(body).unwrap();
            match body["continue_final_message"] == true {
                true => rest(),
                false => half(),
            }
        });
    }
    backends[1].set_health(Health::Old);
    // The older one has the most room: it is next whenever it may be.
    let mut setup = Setup::to(&backends.each_ref()).set("fleet.resume", json!(true));
    for (n, weight) in [(0, 1000), (1, 100), (2, 1)] {
        setup.config["fleet"]["pools"][0]["backends"][n]["weight"] = json!(weight);
    }
    let gateway = setup.start().await;
    let response = gateway.ask(&stream()).await;
    response.assert_complete_stream();
    assert_eq!(response.said(), "Once upon a time.");
    assert!(backends[1].requests().is_empty());
}

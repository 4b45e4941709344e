//! A backend that fails before it has said anything is replaced, and the client never notices.

use rstest::rstest;
use serde_json::{Value, json};

use crate::support::script::{delta, finish, role, text};
use crate::support::*;

/// Ask until the failing backend was asked: it is the first or the second.
async fn replaced(bad: &Backend, good: &Backend, more: Value) -> Response {
    let gateway = Setup::to(&[bad, good]).start().await;
    for _ in 0..2 {
        let response = gateway.ask(&chat(more.clone())).await;
        assert_eq!(response.status, 200, "{}", response.text());
        if !bad.requests().is_empty() {
            return response;
        }
    }
    panic!("the failing backend was never asked");
}

fn said(response: &Response) -> String {
    if response.headers.get("content-type") == Some("application/json") {
        response.json()["choices"][0]["message"]["content"]
            .as_str()
            .unwrap()
            .to_owned()
    } else {
        response.assert_complete_stream();
        response.said()
    }
}

#[rstest]
#[case::closed_before_the_head(Reply::new().close())]
#[case::reset_before_the_head(Reply::new().reset())]
#[case::half_a_head(Reply::stream().cut(40))]
#[case::garbage_for_a_head(Reply::new().raw("?? this is no HTTP\r\n\r\n").close())]
#[case::status_500(Reply::error(500, "server_error", "Compute error."))]
#[case::status_500_no_json(Reply::whole(500, "text/html", "<html>oops"))]
#[case::status_502(Reply::whole(502, "text/plain", "proxy error"))]
#[case::status_404(Reply::error(404, "not_found_error", "File Not Found"))]
#[case::status_401(Reply::error(401, "authentication_error", "Invalid API Key"))]
#[case::loading(Reply::loading())]
#[case::head_only(Reply::stream().close())]
#[case::head_and_proper_end(Reply::stream().end())]
#[case::role_only(Reply::stream().event(&role()).close())]
#[case::role_and_proper_end(Reply::stream().event(&role()).end())]
#[case::role_and_terminator(Reply::stream().event(&role()).piece(script::DONE).end())]
#[case::comments_only(Reply::stream().comment().comment().reset())]
#[case::empty_deltas(Reply::stream().event(&role()).event(&delta(json!({"content": ""}))).close())]
#[case::half_an_event(Reply::stream().event(&role()).piece("data: {\"choices\":[{\"ind").close())]
#[case::garbage_event(Reply::stream().event(&role()).piece("data: {nonsense\n\n").hang())]
#[case::error_event(Reply::stream().event(&role()).event(&json!({"error": {"code": 500, "message": "Compute error.", "type": "server_error"}})).end())]
#[case::router_child_died(Reply::stream().piece("proxy error: Failed to read connection").end())]
#[case::no_stream(Reply::whole(200, "text/html", "<html>It works!</html>"))]
#[case::an_answer_in_one_piece(Reply::json(200, &json!({"choices": [], "object": "chat.completion"})))]
#[case::no_content(Reply::new().raw("HTTP/1.1 204 No Content\r\n\r\n"))]
#[case::elsewhere(Reply::new().raw("HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"))]
#[case::endless_header(Reply::new().raw(format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(2 << 20))).hang())]
#[case::broken_chunk(Reply::stream().event(&role()).raw("zz\r\n").close())]
#[tokio::test]
async fn another_backend_answers(#[case] failure: Reply, #[values(true, false)] streams: bool) {
    let bad = Backend::replying(failure).await;
    let good = Backend::replying(Reply::says(&["saved"])).await;
    let response = replaced(&bad, &good, json!({"stream": streams})).await;
    assert_eq!(said(&response), "saved");
    let (sent, again) = (&bad.requests()[0], &good.requests()[0]);
    assert_eq!(sent.body, again.body, "the same request");
    if !streams {
        assert_eq!(response.headers.get("x-drover-attempts"), Some("2"));
        assert_eq!(response.headers.get("x-drover-backend"), Some("b1"));
    }
}

#[tokio::test]
async fn an_endless_event_is_not_held_in_memory() {
    let line = Reply::stream()
        .event(&role())
        .piece("data: {\"choices\":\"");
    let piece = "e".repeat(256 << 10);
    let endless = (0..80).fold(line, |reply, _| reply.piece(&piece)).hang();
    let bad = Backend::replying(endless).await;
    let good = Backend::replying(Reply::says(&["saved"])).await;
    let response = replaced(&bad, &good, json!({"stream": true})).await;
    assert_eq!(said(&response), "saved");
    bad.cancelled(0).await;
}

#[tokio::test]
async fn interim_answers_are_skipped() {
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n";
    let backend = Backend::replying(Reply::new().raw(interim).and(Reply::says(&["a"]))).await;
    let gateway = Setup::to(&[&backend]).start().await;
    let response = gateway.ask(&stream()).await;
    assert_eq!(said(&response), "a");
}

#[tokio::test]
async fn a_backend_that_is_not_there_is_skipped() {
    let good = Backend::replying(Reply::says(&["saved"])).await;
    // Both answer their first check; then one dies.
    let bad = Backend::start().await;
    let health = json!("1m");
    let gateway = Setup::to(&[&bad, &good])
        .set("fleet.health.interval", health)
        .start()
        .await;
    bad.kill().await;
    for _ in 0..4 {
        let response = gateway.ask(&stream()).await;
        response.assert_complete_stream();
        assert_eq!(response.said(), "saved");
    }
    assert_eq!(
        gateway
            .metric("drover_attempts_total", r#"why="failover""#)
            .await,
        1.0
    );
    gateway.backend_is("b0", "down").await;
}

#[rstest]
#[case::text(text("a"))]
#[case::reasoning(delta(json!({"reasoning_content": "hm"})))]
#[case::call(delta(json!({"tool_calls": [{"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{"}}]})))]
#[tokio::test]
async fn after_content_a_stream_ends_with_an_error(
    #[case] content: Value,
    #[values("close", "reset", "end", "garbage", "error")] how: &str,
) {
    let begun = Reply::stream().event(&role()).event(&content);
    let failure = match how {
        "close" => begun.close(),
        "reset" => begun.reset(),
        "end" => begun.end(),
        "garbage" => begun.piece("data: {nonsense\n\n").hang(),
        _ => begun
            .event(&json!({"error": {"code": 500, "message": "x", "type": "server_error"}}))
            .end(),
    };
    let bad = Backend::replying(failure.clone()).await;
    let also_bad = Backend::replying(failure).await;
    let gateway = Setup::to(&[&bad, &also_bad]).start().await;
    let response = gateway.ask(&stream()).await;
    response.assert_failed_stream();
    assert_eq!(response.finishes(), Vec::<String>::new());
    assert_eq!(
        bad.requests().len() + also_bad.requests().len(),
        1,
        "what was said stands"
    );
    gateway.idle().await;
    assert_eq!(
        gateway
            .metric("drover_requests_total", r#"outcome="cut""#)
            .await,
        1.0
    );
}

/// Wherever the backend's answer is cut, the client never takes a part of it for the whole.
#[tokio::test]
async fn a_stream_cut_anywhere_is_never_a_success() {
    let whole = Reply::says(&["Hello", " there"]);
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend])
        .set("fleet.health.unhealthy_after", json!(1000))
        .start()
        .await;
    let mut complete = 0;
    for length in (0..whole.sent_len()).step_by(23) {
        backend.then(whole.clone().cut(length));
        let response = gateway.ask(&stream()).await;
        if response.status != 200 {
            assert!((500..600).contains(&response.status));
            response.assert_error(response.status);
        } else if response.dones() == 1 {
            response.assert_complete_stream();
            assert_eq!(
                (response.said().as_str(), response.finishes().len()),
                ("Hello there", 1)
            );
            complete += 1;
        } else {
            response.assert_failed_stream();
            assert!("Hello there".starts_with(&response.said()));
        }
    }
    assert!(complete < 30, "only what was cut behind the finish");
    gateway.idle().await;
}

#[tokio::test]
async fn a_whole_answer_fails_over_even_in_the_middle() {
    let bad = Backend::replying(Reply::stream().event(&role()).event(&text("half")).close()).await;
    let good = Backend::replying(Reply::says(&["saved"])).await;
    let response = replaced(&bad, &good, json!({})).await;
    assert_eq!(
        said(&response),
        "saved",
        "nothing of the first attempt is left"
    );
}

#[tokio::test]
async fn a_stream_cut_after_the_finish_is_complete() {
    let reply = Reply::stream()
        .event(&role())
        .event(&text("a"))
        .event(&finish("stop"))
        .close();
    let backend = Backend::replying(reply).await;
    let gateway = Setup::to(&[&backend]).start().await;
    let response = gateway.ask(&stream()).await;
    // Everything was said, only the usage report is missing: an error would make clients ask again.
    assert_eq!(response.said(), "a");
    assert_eq!(
        response.dones() + response.text().matches("\"error\"").count(),
        1
    );
}

#[rstest]
#[tokio::test]
async fn when_all_backends_are_gone_clients_are_told_when_to_come_back(
    #[values(true, false)] streams: bool,
) {
    let urls = [dead_url().await, dead_url().await];
    let gateway = Setup::urls(&urls).start_unready().await;
    gateway.backend_is("b1", "down").await;
    let response = gateway.ask(&chat(json!({"stream": streams}))).await;
    response.assert_error(503);
    let seconds: u64 = response
        .headers
        .get("retry-after")
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..60).contains(&seconds));
}

#[rstest]
#[tokio::test]
async fn backends_that_die_under_a_request_give_the_same_error(
    #[values(true, false)] streams: bool,
) {
    let (one, two) = (Backend::start().await, Backend::start().await);
    let gateway = Setup::to(&[&one, &two])
        .set("fleet.health.interval", json!("1m"))
        .start()
        .await;
    one.kill().await;
    two.kill().await;
    for _ in 0..2 {
        let response = gateway.ask(&chat(json!({"stream": streams}))).await;
        response.assert_error(503);
        assert!(response.headers.get("retry-after").is_some());
    }
}

#[tokio::test]
async fn attempts_are_bounded_by_the_turn() {
    let mut backends = Vec::new();
    for _ in 0..5 {
        backends.push(Backend::replying(Reply::new().close()).await);
    }
    let gateway = Setup::to(&backends.iter().collect::<Vec<_>>())
        .set("turn.max_attempts", json!(3))
        .set("fleet.health.unhealthy_after", json!(100))
        .start()
        .await;
    let response = gateway.ask(&stream()).await;
    assert!((500..600).contains(&response.status));
    response.assert_error(response.status);
    let asked: usize = backends.iter().map(|b| b.requests().len()).sum();
    assert_eq!(asked, 3);
}

#[tokio::test]
async fn a_request_that_no_backend_can_serve_is_not_sent_around() {
    let template = Reply::error(500, "server_error", "Jinja Exception: roles must alternate");
    let (one, two) = (
        Backend::replying(template.clone()).await,
        Backend::replying(template).await,
    );
    let gateway = Setup::to(&[&one, &two]).start().await;
    gateway.ask(&stream()).await.assert_error(400);
    assert_eq!(one.requests().len() + two.requests().len(), 1);
    gateway.backend_is("b0", "ready").await;
    gateway.backend_is("b1", "ready").await;
}

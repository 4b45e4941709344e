//! The console's files, and the stream of events behind it. What a browser makes of them: tests/console.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::*;

/// A reader of `/api/events`.
struct Reader {
    socket: TcpStream,
    read: String,
}

impl Reader {
    async fn of(gateway: &Gateway) -> Self {
        let mut socket = TcpStream::connect(gateway.admin).await.unwrap();
        let head = format!(
            "GET /api/events HTTP/1.1\r\nHost: {}\r\n\r\n",
            gateway.admin
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        let read = String::new();
        Self { socket, read }
    }

    /// Read on until `text` has come.
    async fn until(&mut self, text: &str) {
        let reading = async {
            while !self.read.contains(text) {
                let mut piece = [0; 4096];
                let length = self.socket.read(&mut piece).await.unwrap();
                assert!(length > 0, "the stream ended: {}", self.read);
                self.read
                    .push_str(&String::from_utf8_lossy(&piece[..length]));
            }
        };
        let done = timeout(Duration::from_secs(30), reading).await;
        assert!(done.is_ok(), "{text} has not come: {}", self.read);
    }
}

#[tokio::test]
async fn browsers_get_the_page_and_tools_the_index() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    let index = gateway.admin_get("/").await;
    assert_eq!(
        (index.status, &index.json()["name"]),
        (200, &json!("drover"))
    );
    let page = get("/").header("Accept", "text/html,*/*");
    let page = page.host(&gateway.admin.to_string());
    let sent = Client::connect(gateway.admin).await.ask(&page).await;
    assert_eq!(
        (sent.status, sent.headers.get("location")),
        (302, Some("/console/"))
    );
    for file in [
        "",
        "app.js",
        "api.js",
        "dom.js",
        "preact.js",
        "rollouts.js",
        "views.js",
        "style.css",
    ] {
        let answer = gateway.admin_get(&format!("/console/{file}")).await;
        assert_eq!(answer.status, 200, "{file}");
        let policy = answer.headers.get("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe"));
        let text = answer.text().to_lowercase();
        // The library has a name for markup, which nothing of the console's own may use.
        let is_own = file != "preact.js";
        assert!(
            !text.contains("import(") && !text.contains("fetch(\"http"),
            "{file}"
        );
        assert!(
            !is_own || !text.contains("https://") && !text.contains("innerhtml"),
            "{file}"
        );
    }
    assert_eq!(gateway.admin_get("/console/nope.js").await.status, 404);
    assert_eq!(gateway.admin_get("/docs/alerts.md").await.status, 200);
}

#[tokio::test]
async fn events_tell_turns_while_they_last_and_when_they_end() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    let mut reader = Reader::of(&gateway).await;
    reader.until("event: fleet").await;
    assert!(reader.read.contains("text/event-stream") && reader.read.contains(r#""id":"b0""#));
    let gate = Gate::new();
    backend.then(Reply::held(&gate));
    let asked = stream().header("x-request-id", "watched-request");
    let asking = gateway.ask(&asked);
    let watching = async {
        reader.until(r#""request_id":"watched-request""#).await;
        assert!(
            reader
                .read
                .contains(r#"{"turns":[{"attempts":1,"backend":"b0""#),
            "{}",
            reader.read
        );
        gate.open();
    };
    tokio::join!(asking, watching);
    reader.until("event: request").await;
    reader.until(r#""outcome":"ok""#).await;
    reader.read.clear();
    reader.until(r#"event: live"#).await;
    reader.until(r#"{"turns":[]}"#).await;
}

#[tokio::test]
async fn the_page_needs_no_token_and_what_it_shows_does() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend])
        .set("admin.token_env", json!("TOKEN"))
        .env("TOKEN", "s3cret")
        .start()
        .await;
    assert_eq!(gateway.admin_get("/console/").await.status, 200);
    for path in ["/api/events", "/api/backends", "/docs/alerts.md", "/"] {
        assert_eq!(gateway.admin_get(path).await.status, 401, "{path}");
    }
}

//! One test for each defect that was found in the gateway.

use serde_json::json;

use crate::support::*;

/// llama-server's JSON parser skips a byte order mark and ends at a NUL byte, ours does neither: such a
/// body was taken for something else than JSON on the native lane and passed with all its fields.
#[tokio::test]
async fn dangerous_fields_cannot_be_disguised_on_the_native_lane() {
    let backend = Backend::replying(Reply::json(200, &json!({"content": "a"}))).await;
    let passthrough = json!([{"path": "/completion", "pool": "default"}]);
    let gateway = Setup::to(&[&backend])
        .set("fleet.passthrough", passthrough)
        .start()
        .await;
    let hidden = r#"{"prompt":"a","id_slot":3}"#;
    let disguised = [
        format!("\u{feff}{hidden}"),
        format!(" \u{feff}{hidden}"),
        format!("{hidden}\0 and more"),
        format!("\n{hidden}]"),
    ];
    for body in disguised {
        let response = gateway.ask(&post("/completion", body.clone())).await;
        let reached = backend.requests().iter().any(|r| r.body == body.as_bytes());
        assert!(!reached, "{body:?} passed");
        response.assert_error(400);
    }
    // An upload says that it is one, and passes as it is.
    let form =
        "--x\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\n{\"id_slot\":1}\r\n--x--";
    let mut upload = post("/completion", form);
    upload.headers.clear();
    let upload = upload.header("Content-Type", "multipart/form-data; boundary=x");
    assert_eq!(gateway.ask(&upload).await.status, 200);
}

/// Two content types: the one this gateway decides by is the only one a backend hears of.
#[tokio::test]
async fn a_second_content_type_does_not_reach_a_backend() {
    let backend = Backend::replying(Reply::json(200, &json!({"content": "a"}))).await;
    let gateway = Setup::to(&[&backend])
        .set(
            "fleet.passthrough",
            json!([{"path": "/completion", "pool": "default"}]),
        )
        .start()
        .await;
    let body = r#"{"prompt":"a","id_slot":3}"#;
    let mut twice = post("/completion", body);
    twice.headers.clear();
    let twice = twice
        .header("Content-Type", "multipart/form-data; boundary=x")
        .header("Content-Type", "application/json");
    gateway.ask(&twice).await;
    for request in backend.requests() {
        let head = format!("{:?}", request.headers).to_ascii_lowercase();
        assert_eq!(head.matches("content-type").count(), 1, "{head}");
        assert!(head.contains("multipart/form-data"), "{head}");
    }
    assert_eq!(backend.requests().len(), 1);
}

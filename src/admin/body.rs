//! The body of a request to the admin address.

use std::time::Duration;

use http::StatusCode;
use pingora_core::protocols::http::ServerSession;
use tokio::time::timeout;

use super::reply::{self, Reply};

/// Longest body read.
const MOST: usize = 1 << 20;
/// Longest time it may take to come.
const PATIENCE: Duration = Duration::from_secs(30);

/// The whole body, or the refusal of one that is too long or comes too slowly.
pub(super) async fn read(http: &mut ServerSession) -> pingora_core::Result<Result<Vec<u8>, Reply>> {
    let reading = async {
        let mut body = Vec::new();
        while let Some(piece) = http.read_request_body().await? {
            if body.len() + piece.len() > MOST {
                return Ok(None);
            }
            body.extend_from_slice(&piece);
        }
        pingora_core::Result::Ok(Some(body))
    };
    let (status, message) = match timeout(PATIENCE, reading).await {
        Ok(Ok(Some(body))) => return Ok(Ok(body)),
        Ok(Ok(None)) => (StatusCode::PAYLOAD_TOO_LARGE, "at most 1 MiB at once"),
        Ok(Err(error)) => return Err(error),
        Err(_) => (StatusCode::REQUEST_TIMEOUT, "the body has not come"),
    };
    // What is left of it would be taken for the next request.
    http.set_keepalive(None);
    Ok(Err(reply::error(status, "body_refused", message)))
}

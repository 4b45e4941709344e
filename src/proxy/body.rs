//! Reading a client's body, bounded in size and time.

use bytes::{Bytes, BytesMut};
use http::Version;
use http::header::{CONTENT_LENGTH, EXPECT};
use pingora_core::{Error, ErrorType};
use pingora_proxy::Session;
use tokio::time::timeout;

use super::context::Gone;
use crate::config::Config;
use crate::turn::TurnError;

/// Why there is no body.
pub(super) enum NoBody {
    /// It may not be, and the client should know.
    Refused(TurnError),
    /// The client left while sending it.
    Gone(Gone),
}

impl From<TurnError> for NoBody {
    fn from(error: TurnError) -> Self {
        Self::Refused(error)
    }
}

/// The whole body.
pub(super) async fn read(session: &mut Session, config: &Config) -> Result<Bytes, NoBody> {
    let limit = config.limits.max_body_bytes.as_u64();
    let announced = announced(session);
    if announced.is_some_and(|length| length > limit) {
        return Err(TurnError::BodyTooLarge { limit }.into());
    }
    answer_expectation(session).await.map_err(NoBody::Gone)?;
    session.set_read_timeout(Some(config.timeouts.request_body));
    // Pingora has no read timeout for bodies of HTTP/2, hence one around the whole.
    let reading = collect(session, limit, announced.unwrap_or(0) as usize);
    timeout(config.timeouts.request_body, reading)
        .await
        .unwrap_or(Err(TurnError::BodyTimeout.into()))
}

/// Nobody else answers the expectation when the body is read in this phase; curl would wait 1 s.
pub(super) async fn answer_expectation(session: &mut Session) -> Result<(), Gone> {
    let request = session.req_header();
    // An HTTP/1.0 client would take the 100 for its answer (RFC 9110 §10.1.1).
    if !request.headers.contains_key(EXPECT) || request.version == Version::HTTP_10 {
        return Ok(());
    }
    // Pingora takes any header before the end of the body for an early answer and would close.
    let keepalive = session.get_keepalive();
    let written = session.write_continue_response().await;
    session.set_keepalive(keepalive);
    written.map_err(|_| Gone)
}

async fn collect(session: &mut Session, limit: u64, expected: usize) -> Result<Bytes, NoBody> {
    // What is announced need not come.
    let mut body = BytesMut::with_capacity(expected.min(1 << 20));
    loop {
        match session.read_request_body().await {
            Ok(Some(piece)) if (body.len() + piece.len()) as u64 > limit => {
                return Err(TurnError::BodyTooLarge { limit }.into());
            }
            Ok(Some(piece)) => body.extend_from_slice(&piece),
            Ok(None) => return Ok(body.freeze()),
            Err(error) if is_malformed(&error) => {
                // Where the next request begins is anybody's guess: to go on would be smuggling.
                session.set_keepalive(None);
                return Err(
                    TurnError::bad_request("the request body is not framed properly").into(),
                );
            }
            // The timeout of one read may be found to have passed before that of the whole.
            Err(error) if *error.etype() == ErrorType::ReadTimedout => {
                return Err(TurnError::BodyTimeout.into());
            }
            Err(_) => return Err(NoBody::Gone(Gone)),
        }
    }
}

/// A body whose chunks cannot be read, from a client that is still there.
fn is_malformed(error: &Error) -> bool {
    matches!(error.etype().as_str(), "InvalidHTTPHeader" | "InvalidChunk")
}

fn announced(session: &Session) -> Option<u64> {
    session
        .req_header()
        .headers
        .get(CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

//! The exchange's view of a Pingora session.

use bytes::Bytes;
use http::Version;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, TRANSFER_ENCODING};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use crate::exchange::{Downstream, Gone, Head};
use crate::session::SessionId;
use crate::telemetry::labels::Stage;

/// A session whose request body has been read.
pub(super) struct PingoraDownstream<'a> {
    pub(super) session: &'a mut Session,
    pub(super) request_id: &'a str,
    pub(super) session_id: Option<SessionId>,
}

impl PingoraDownstream<'_> {
    fn header(&self, head: &Head) -> pingora_core::Result<ResponseHeader> {
        let mut header = ResponseHeader::build(head.status, Some(12))?;
        header.insert_header("x-request-id", self.request_id)?;
        if let Some(id) = self.session_id {
            header.insert_header("x-drover-session", id.to_string())?;
        }
        match head.length {
            Some(length) => {
                header.insert_header(CONTENT_TYPE, "application/json")?;
                header.insert_header(CONTENT_LENGTH, length)?;
            }
            None => {
                header.insert_header(CONTENT_TYPE, "text/event-stream; charset=utf-8")?;
                header.insert_header(CACHE_CONTROL, "no-cache")?;
                header.insert_header("X-Accel-Buffering", "no")?;
                // HTTP/1.0 has no chunks: there the end of the connection ends the stream.
                if self.session.req_header().version != Version::HTTP_10 {
                    header.insert_header(TRANSFER_ENCODING, "chunked")?;
                }
            }
        }
        if let Some(seconds) = head.retry_after {
            header.insert_header(RETRY_AFTER, seconds)?;
        }
        if let Some(backend) = &head.facts.backend {
            header.insert_header("x-drover-backend", backend)?;
            header.insert_header("x-drover-attempts", head.facts.attempts)?;
            if let Some(profile) = &head.facts.profile {
                header.insert_header("x-drover-spec", profile)?;
            }
        }
        if !head.facts.interventions.is_empty() {
            let kinds = head.facts.interventions.join(",");
            header.insert_header("x-drover-interventions", kinds)?;
        }
        let own = head.facts.overhead.get(Stage::Total);
        header.insert_header("x-drover-overhead-us", own.as_micros().to_string())?;
        Ok(header)
    }
}

impl Downstream for PingoraDownstream<'_> {
    async fn head(&mut self, head: Head) -> Result<(), Gone> {
        if head.length.is_none() && self.session.req_header().version == Version::HTTP_10 {
            self.session.set_keepalive(None);
        }
        let header = self.header(&head).map_err(|_| Gone)?;
        self.session
            .write_response_header(Box::new(header), false)
            .await
            .map_err(|_| Gone)
    }

    async fn body(&mut self, data: Bytes, end: bool) -> Result<(), Gone> {
        self.session
            .write_response_body(Some(data), end)
            .await
            .map_err(|_| Gone)
    }

    async fn gone(&mut self) -> Gone {
        // Bytes after the request (pipelining) end the wait with an error as well: such a client
        // is not waiting for this answer.
        let _ = self
            .session
            .downstream_session
            .read_body_or_idle(true)
            .await;
        Gone
    }
}

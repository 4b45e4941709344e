//! Asking a backend a question on its own connection, apart from the traffic.

use std::io;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use pingora_core::connectors::http::Connector;
use pingora_core::{Error, ErrorType, OkOrErr as _};
use pingora_http::RequestHeader;

use super::backend::Backend;

/// `/props` carries the chat template and `/slots` the parameters of every slot: tens of kilobytes.
const MAX_BODY: usize = 4 << 20;

/// An answer.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: Bytes,
}

/// There is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unanswered {
    /// Why, in words for people.
    pub(super) why: String,
    /// Nobody listens there: its process is gone.
    pub(super) is_refused: bool,
}

/// Something that asks backends; HTTP, except in tests.
#[async_trait]
pub(super) trait Probe: Send + Sync {
    /// `GET path_and_query`, below the backend's base path.
    ///
    /// # Errors
    /// Why there is no answer.
    async fn get(&self, backend: &Backend, path_and_query: &str) -> Result<Reply, Unanswered>;

    /// `POST` of a JSON body.
    ///
    /// # Errors
    /// Why there is no answer.
    async fn post(
        &self,
        backend: &Backend,
        path_and_query: &str,
        body: Bytes,
    ) -> Result<Reply, Unanswered>;
}

/// Asks over HTTP. Every question opens its own connection: that also shows whether the backend still
/// accepts any, and leaves nothing idle that it could close under the next question.
pub(super) struct HttpProbe {
    connector: Connector,
}

impl HttpProbe {
    pub(super) fn new() -> Self {
        Self {
            connector: Connector::new(None),
        }
    }

    async fn ask(
        &self,
        backend: &Backend,
        path: &str,
        body: Option<Bytes>,
    ) -> pingora_core::Result<Reply> {
        let peer = backend.peer().or_err(
            ErrorType::ConnectNoRoute,
            "its hostname is not resolved yet",
        )?;
        let (mut session, _) = self.connector.get_http_session(&peer).await?;
        let path = format!("{}{path}", backend.base_path());
        let method = if body.is_some() { "POST" } else { "GET" };
        let mut request = RequestHeader::build(method, path.as_bytes(), Some(7))?;
        request.insert_header("Host", backend.host_header())?;
        request.insert_header("User-Agent", concat!("drover/", env!("CARGO_PKG_VERSION")))?;
        request.insert_header("Accept", "application/json")?;
        request.insert_header("Connection", "close")?;
        if let Some(key) = backend.api_key() {
            request.insert_header("Authorization", format!("Bearer {key}"))?;
        }
        if let Some(body) = &body {
            request.insert_header("Content-Type", "application/json")?;
            request.insert_header("Content-Length", body.len().to_string())?;
        }
        session.write_request_header(Box::new(request)).await?;
        if let Some(body) = body {
            session.write_request_body(body, true).await?;
        }
        session.finish_request_body().await?;
        let status = loop {
            session.read_response_header().await?;
            match session.response_header().map(|header| header.status) {
                Some(status) if status.is_informational() => {}
                Some(status) => break status.as_u16(),
                None => return Err(Error::new(ErrorType::ReadError)),
            }
        };
        let mut body = BytesMut::new();
        while let Some(piece) = session.read_response_body().await? {
            if body.len() + piece.len() > MAX_BODY {
                return Err(Error::explain(
                    ErrorType::ReadError,
                    format!("its answer to {path} is longer than {MAX_BODY} bytes"),
                ));
            }
            body.extend_from_slice(&piece);
        }
        Ok(Reply {
            status,
            body: body.freeze(),
        })
    }
}

#[async_trait]
impl Probe for HttpProbe {
    async fn get(&self, backend: &Backend, path_and_query: &str) -> Result<Reply, Unanswered> {
        self.ask(backend, path_and_query, None)
            .await
            .map_err(|error| Unanswered::from(&*error))
    }

    async fn post(
        &self,
        backend: &Backend,
        path_and_query: &str,
        body: Bytes,
    ) -> Result<Reply, Unanswered> {
        self.ask(backend, path_and_query, Some(body))
            .await
            .map_err(|error| Unanswered::from(&*error))
    }
}

impl From<&Error> for Unanswered {
    fn from(error: &Error) -> Self {
        let cause = error.root_cause().downcast_ref::<io::Error>();
        let no_socket = cause.is_some_and(|cause| cause.kind() == io::ErrorKind::NotFound);
        Self {
            why: in_words(error),
            is_refused: *error.root_etype() == ErrorType::ConnectRefused || no_socket,
        }
    }
}

impl From<Unanswered> for String {
    fn from(unanswered: Unanswered) -> Self {
        unanswered.why
    }
}

/// Pingora's errors repeat address and phase on every level; the kind and the last cause say it all.
fn in_words(error: &Error) -> String {
    let kind = error.root_etype().as_str();
    let cause = error.root_cause();
    match cause.downcast_ref::<Error>() {
        None => format!("{kind}: {cause}"),
        Some(leaf) => match &leaf.context {
            Some(context) => format!("{kind}: {}", context.as_str()),
            None => kind.to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::config;
    use crate::fleet::{Backend, Fleet};
    use std::sync::Arc;

    fn backend(port: u16) -> Arc<Backend> {
        let text = format!(
            "fleet: {{pools: [{{name: p, models: [m], backends: [{{url: 'http://127.0.0.1:{port}/api', \
             api_key_env: KEY}}]}}]}}"
        );
        let env = std::iter::once(("KEY".to_owned(), "s3cret".to_owned()));
        let config = config::parse(&text, env).unwrap();
        Fleet::new(&config).unwrap().backends()[0].clone()
    }

    /// Answers one connection with `answer` and gives back what was asked.
    async fn serve(answer: Vec<u8>) -> (u16, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(socket.read_u8().await.unwrap());
            }
            // The client hangs up early when an answer is too long for it.
            let _ = socket.write_all(&answer).await;
            String::from_utf8(head).unwrap()
        });
        (port, asked)
    }

    #[tokio::test]
    async fn asks_with_key_host_and_base_path() {
        let answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
            4\r\n{\"a\"\r\n3\r\n:1}\r\n0\r\n\r\n";
        let (port, asked) = serve(answer.to_vec()).await;
        let reply = HttpProbe::new()
            .get(&backend(port), "/props?x=1")
            .await
            .unwrap();
        assert_eq!((reply.status, &*reply.body), (200, &b"{\"a\":1}"[..]));
        let asked = asked.await.unwrap();
        assert!(
            asked.starts_with("GET /api/props?x=1 HTTP/1.1\r\n"),
            "{asked}"
        );
        for line in [
            format!("Host: 127.0.0.1:{port}"),
            "Authorization: Bearer s3cret".to_owned(),
            "Connection: close".to_owned(),
        ] {
            assert!(asked.contains(&format!("{line}\r\n")), "{line} in {asked}");
        }
    }

    #[tokio::test]
    async fn an_error_status_is_an_answer_and_the_rest_is_not() {
        let loading = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\n{}".to_vec();
        let (port, _asked) = serve(loading).await;
        let reply = HttpProbe::new().get(&backend(port), "/health").await;
        assert_eq!(reply.unwrap().status, 503);

        for (answer, part) in [
            (b"not http at all\r\n\r\n".to_vec(), ""),
            (
                b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}".to_vec(),
                "",
            ),
            (
                [
                    format!(
                        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
                        MAX_BODY + 1
                    )
                    .into_bytes(),
                    vec![b' '; MAX_BODY + 1],
                ]
                .concat(),
                "longer than",
            ),
        ] {
            let (port, _asked) = serve(answer).await;
            let error = HttpProbe::new()
                .get(&backend(port), "/props")
                .await
                .unwrap_err();
            assert!(error.why.contains(part), "{error:?}");
            assert!(!error.is_refused);
        }

        let unused = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = unused.local_addr().unwrap().port();
        drop(unused);
        let error = HttpProbe::new()
            .get(&backend(port), "/health")
            .await
            .unwrap_err();
        assert_eq!(
            error.why,
            "ConnectRefused: Connection refused (os error 111)"
        );
        assert!(error.is_refused);
    }
}

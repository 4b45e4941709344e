//! A scripted Kubernetes API server that knows the EndpointSlices of one service.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::authority::Authority;
use super::backend::Backend;
use super::http::Reader;

/// What the server knows.
#[derive(Clone, Debug, Default)]
struct State {
    version: u64,
    slices: BTreeMap<String, Value>,
    events: Vec<(u64, Value)>,
    /// Watches from before this version are refused.
    compacted: u64,
    /// Open watches are cut when this changes.
    cuts: u64,
    failing: bool,
    /// The only token that is let in; none: whoever comes.
    token: Option<String>,
    /// Questions that were turned away because of their token.
    refused: usize,
    asked: Vec<String>,
}

/// See the module's documentation. Stops when dropped.
pub(crate) struct Kubernetes {
    url: String,
    state: Arc<watch::Sender<State>>,
    _task: JoinSet<()>,
}

impl Kubernetes {
    /// One whose service has no endpoints.
    pub(crate) async fn start() -> Self {
        Self::listening(None, State::default()).await
    }

    /// The same over TLS, for who brings the token.
    pub(crate) async fn start_tls(authority: &Authority, token: &str) -> Self {
        let state = State {
            token: Some(token.to_owned()),
            ..State::default()
        };
        Self::listening(Some(authority.acceptor()), state).await
    }

    async fn listening(tls: Option<TlsAcceptor>, state: State) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}", listener.local_addr().unwrap());
        let state = Arc::new(watch::Sender::new(state));
        let mut task = JoinSet::new();
        let shared = Arc::clone(&state);
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, shared) = (tls.clone(), Arc::clone(&shared));
                connections.spawn(async move {
                    match tls {
                        None => serve(stream, shared).await,
                        Some(tls) => serve(tls.accept(stream).await.ok()?, shared).await,
                    }
                });
            }
        });
        Self {
            url,
            state,
            _task: task,
        }
    }

    /// From now on only this token is let in; open watches go on.
    pub(crate) fn wants(&self, token: &str) {
        self.state
            .send_modify(|state| state.token = Some(token.to_owned()));
    }

    /// Questions that were turned away because of their token.
    pub(crate) fn refused(&self) -> usize {
        self.state.borrow().refused
    }

    /// Its address, for the configuration.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// A pod comes, or changes, in a slice of its own.
    pub(crate) fn pod(&self, name: &str, backend: &Backend, terminating: bool) {
        let url = backend.url();
        let (ip, port) = url["http://".len()..].split_once(':').unwrap();
        let port: u16 = port.parse().unwrap();
        self.state.send_modify(|state| {
            state.version += 1;
            let slice = json!({
                "metadata": {"name": name, "resourceVersion": state.version.to_string()},
                "addressType": "IPv4",
                "ports": [{"name": "http", "port": port}],
                "endpoints": [{
                    "addresses": [ip], "targetRef": {"kind": "Pod", "name": name},
                    "conditions": {"ready": !terminating, "terminating": terminating},
                }],
            });
            let known = state
                .slices
                .insert(name.to_owned(), slice.clone())
                .is_some();
            let kind = if known { "MODIFIED" } else { "ADDED" };
            let event = json!({"type": kind, "object": slice});
            state.events.push((state.version, event));
        });
    }

    /// The slice of a pod goes.
    pub(crate) fn gone(&self, name: &str) {
        self.state.send_modify(|state| {
            state.version += 1;
            let mut slice = state.slices.remove(name).unwrap();
            slice["metadata"]["resourceVersion"] = json!(state.version.to_string());
            let event = json!({"type": "DELETED", "object": slice});
            state.events.push((state.version, event));
        });
    }

    /// Open watches break off.
    pub(crate) fn cut(&self) {
        self.state.send_modify(|state| state.cuts += 1);
    }

    /// Open watches break off, and none can go on from before now.
    pub(crate) fn compact(&self) {
        self.state.send_modify(|state| {
            state.version += 1;
            state.compacted = state.version;
            state.events.clear();
            state.cuts += 1;
        });
    }

    /// Whether every question is answered 500; open watches break off.
    pub(crate) fn fails(&self, failing: bool) {
        self.state.send_modify(|state| {
            state.failing = failing;
            state.cuts += 1;
        });
    }

    /// The targets asked for so far: lists, and watches.
    pub(crate) fn asked(&self) -> (usize, usize) {
        let state = self.state.borrow();
        let watches = state.asked.iter().filter(|t| t.contains("watch=true"));
        let watches = watches.count();
        (state.asked.len() - watches, watches)
    }

    /// The first target asked for.
    pub(crate) fn first(&self) -> String {
        self.state.borrow().asked[0].clone()
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Send,
    state: Arc<watch::Sender<State>>,
) -> Option<()> {
    let (read, mut writer) = tokio::io::split(stream);
    let (line, headers) = Reader::new(read).head().await.ok()??;
    let target = line.split(' ').nth(1)?.to_owned();
    let wanted = state.borrow().token.clone();
    let bearer = |token: &String| headers.get("authorization") == Some(&format!("Bearer {token}"));
    if wanted.is_some_and(|token| !bearer(&token)) {
        state.send_modify(|state| state.refused += 1);
        let refused = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";
        writer.write_all(refused).await.ok()?;
        return writer.shutdown().await.ok();
    }
    state.send_modify(|state| state.asked.push(target.clone()));
    let now = state.borrow().clone();
    let query = target.split_once('?')?.1;
    let version = query
        .split('&')
        .find_map(|p| p.strip_prefix("resourceVersion="));
    if now.failing {
        let refused = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n";
        return writer.write_all(refused).await.ok();
    }
    match version {
        None => {
            let items: Vec<&Value> = now.slices.values().collect();
            let version = now.version.to_string();
            let list = json!({"metadata": {"resourceVersion": version}, "items": items});
            let list = list.to_string();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", list.len());
            writer.write_all((head + &list).as_bytes()).await.ok()?;
            writer.shutdown().await.ok()
        }
        Some(version) => stream_events(writer, &state, version.parse().ok()?).await,
    }
}

async fn stream_events(
    mut writer: impl AsyncWrite + Unpin,
    state: &watch::Sender<State>,
    mut version: u64,
) -> Option<()> {
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    writer.write_all(head).await.ok()?;
    let mut changes = state.subscribe();
    let cuts = changes.borrow().cuts;
    loop {
        let now = changes.borrow_and_update().clone();
        if now.cuts != cuts {
            return None;
        }
        if version < now.compacted {
            let status = json!({"type": "ERROR", "object": {"kind": "Status", "code": 410}});
            write(&mut writer, &status).await?;
            return writer.write_all(b"0\r\n\r\n").await.ok();
        }
        let since = version;
        for (at, event) in now.events.iter().filter(|(at, _)| *at > since) {
            write(&mut writer, event).await?;
            version = *at;
        }
        changes.changed().await.ok()?;
    }
}

/// One event in two chunks: the borders of chunks mean nothing.
async fn write(writer: &mut (impl AsyncWrite + Unpin), event: &Value) -> Option<()> {
    let line = format!("{event}\n");
    let (a, b) = line.split_at(line.len() / 2);
    for part in [a, b] {
        let chunk = format!("{:x}\r\n{part}\r\n", part.len());
        writer.write_all(chunk.as_bytes()).await.ok()?;
        writer.flush().await.ok()?;
        tokio::task::yield_now().await;
    }
    Some(())
}

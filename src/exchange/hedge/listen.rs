//! Listening to an answer until its first word.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::super::patience::Failed;
use super::super::{Connection, Connector, UpstreamHead, UpstreamRequest};
use crate::dialect::llama::{FirstWord, Word, stream_fault};
use crate::fleet::{Backend, Failure};

/// Bytes kept of an answer that has not said anything: progress for hours takes less.
const MOST_KEPT: usize = 8 << 20;

/// An answer that has begun: what was read of it so far.
pub(in crate::exchange) struct Begun<N> {
    pub(in crate::exchange) connection: N,
    pub(in crate::exchange) head: UpstreamHead,
    pub(in crate::exchange) read: Vec<Bytes>,
}

/// When a backend last gave a sign of life.
#[derive(Debug, Default)]
pub(super) struct Heard(Mutex<Option<Instant>>);

impl Heard {
    pub(super) fn last(&self) -> Option<Instant> {
        *self.0.lock()
    }
}

/// Sends the request and reads until the first word of the answer.
pub(super) async fn listen<C: Connector>(
    connector: &C,
    backend: Arc<Backend>,
    request: UpstreamRequest,
    heard: &Heard,
) -> Result<Begun<C::Connection>, Failed> {
    let unbegun = backend.begins();
    let opened = connector.open(&backend, &request).await;
    let mut connection = opened.map_err(|fault| (Some(Failure::Connect), fault))?;
    let broken = |fault| (Some(Failure::Broken), fault);
    let head = connection.head().await.map_err(broken)?;
    drop(unbegun);
    let mut begun = Begun {
        connection,
        head,
        read: Vec::new(),
    };
    if begun.head.status != 200 {
        return Ok(begun);
    }
    let (mut words, mut kept) = (FirstWord::default(), 0);
    while let Some(chunk) = begun.connection.chunk().await.map_err(broken)? {
        let word = words.push(&chunk).map_err(|fault| (None, fault))?;
        kept += chunk.len();
        begun.read.push(chunk);
        if kept > MOST_KEPT {
            return Err(broken(stream_fault(
                "the backend sends much and says nothing",
            )));
        }
        match word {
            Word::None => {}
            Word::Alive => *heard.0.lock() = Some(Instant::now()),
            Word::Said => break,
        }
    }
    Ok(begun)
}

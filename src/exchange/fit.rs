//! Before an attempt: what its backend must be asked first, in bounded time.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::client::{Client, Downstream, Waited};
use super::conversion::{Conversion, Prepared};
use super::{Connection, Connector, Exchange, Stopped, TurnBudget, UpstreamRequest, attempt};
use crate::dialect::llama::Fault;
use crate::fleet::Lease;
use crate::telemetry::labels::Stage;

/// Longest answer read: some bytes for each token of what is new.
const MAX_ANSWER: usize = 8 << 20;

/// Shape the request for the backend of `lease`.
pub(super) async fn run<C: Connector, D: Downstream>(
    exchange: &Exchange<'_, C>,
    lease: &Lease,
    client: &mut Client<D>,
    conversion: &mut dyn Conversion,
    budget: &TurnBudget,
) -> Result<(), Stopped> {
    loop {
        let preparing = Instant::now();
        let prepared = conversion.prepare(attempt::target(lease));
        client.add_overhead(Stage::Encode, preparing.elapsed());
        match prepared {
            Prepared::Ready => return Ok(()),
            Prepared::Refused(error) => return Err(Stopped::Fault(Fault::Permanent(error))),
            Prepared::Ask { request, patience } => {
                let answer = ask(
                    exchange, lease, client, conversion, budget, &request, patience,
                );
                let answer = answer.await?;
                conversion.answered(answer.as_deref());
            }
        }
    }
}

/// The backend's answer; none when it has none, or none in time. That is no fault of it: the turn goes
/// on without.
async fn ask<C: Connector, D: Downstream>(
    exchange: &Exchange<'_, C>,
    lease: &Lease,
    client: &mut Client<D>,
    conversion: &mut dyn Conversion,
    budget: &TurnBudget,
    request: &UpstreamRequest,
    patience: Duration,
) -> Result<Option<Bytes>, Stopped> {
    let until = (Instant::now() + patience).min(budget.deadline());
    let answer = answer(exchange.connector, lease, request);
    let ping = |out: &mut BytesMut| conversion.ping(out);
    match client.wait(until, answer, ping).await {
        Waited::Ready(answer) => Ok(answer),
        Waited::Gone => Err(Stopped::Gone),
        Waited::Deadline => Ok(None),
    }
}

async fn answer<C: Connector>(
    connector: &C,
    lease: &Lease,
    request: &UpstreamRequest,
) -> Option<Bytes> {
    let mut connection = connector.open(lease, request).await.ok()?;
    let head = connection.head().await.ok()?;
    let mut body = BytesMut::new();
    while let Some(chunk) = connection.chunk().await.ok()? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return None;
        }
        body.extend_from_slice(&chunk);
    }
    connection.release().await;
    (head.status == 200).then(|| body.freeze())
}

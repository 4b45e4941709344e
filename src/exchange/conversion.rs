//! The pure half of an exchange.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::policy_turn::PolicyReport;
use crate::dialect::Dialect;
use crate::dialect::llama::{Ask, Fault, Target};
use crate::fleet::Size;
use crate::guard::context::{ContextState, PrefixBreak};
use crate::guard::intervention::Intervention;
use crate::guard::loops::Effects;
use crate::policy::NeedsLease;
use crate::policy::lease::{Answer, Grant};
use crate::spec::AnswerClass;
use crate::telemetry::trace::TraceHeaders;
use crate::turn::{Stop, Timings, TurnError, Usage};

/// A request as a backend gets it.
#[derive(Clone, Debug)]
pub struct UpstreamRequest {
    /// Path on the backend.
    pub path: &'static str,
    /// JSON body.
    pub body: Bytes,
    /// Its place in a trace.
    pub trace: Option<TraceHeaders>,
}

/// Whether a turn can be sent to a backend.
#[derive(Debug)]
pub enum Prepared {
    /// It can.
    Ready,
    /// Something must be asked of the backend first; [`Conversion::answered`] takes the answer.
    Ask {
        /// The question.
        request: UpstreamRequest,
        /// Longest wait.
        patience: Duration,
    },
    /// It cannot.
    Refused(TurnError),
}

/// What a piece of the upstream's body meant for the attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Progress {
    /// Nothing new: comments, or half an event.
    Idle,
    /// The backend is at work, without an answer yet.
    Alive,
    /// Part of the answer arrived.
    Content,
    /// Part of it arrived, and a call in it needs a lease: [`Conversion::claim`] says which; the rest
    /// goes on, with an empty piece, after [`Conversion::leased`].
    Held,
    /// The answer is complete; the rest of the body is only its end.
    Complete,
    /// The answer is complete though the backend would go on: cancel it.
    Cancel,
    /// The answer is no good from here on: [`Conversion::ask`] says how to go on.
    Again,
}

/// What the backend of one attempt has measured, as far as it came.
#[derive(Clone, Copy, Debug, Default)]
pub struct Measured {
    /// Its timings.
    pub timings: Option<Timings>,
    /// Drafts that were verified, where they could be counted.
    pub verify_steps: Option<u64>,
    /// What came out.
    pub answer: Option<AnswerClass>,
    /// It was abandoned over a call that could not be used.
    pub bad_call: bool,
}

/// What an exchange amounted to.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Tokens, as the backend counted them.
    pub usage: Usage,
    /// Generated tokens the client never saw: those of abandoned attempts.
    pub hidden: u64,
    /// Tokens of every attempt by itself, where a turn can have several.
    pub attempts: Vec<Usage>,
    /// Tool calls the client has got.
    pub calls: u32,
    /// Why the (first) choice ended.
    pub stop: Option<Stop>,
    /// Timings of the last attempt.
    pub timings: Option<Timings>,
    /// What each attempt's backend has measured, the last one's last; empty where nobody looked.
    pub measured: Vec<Measured>,
    /// Something was answered that no guard has seen, though the preset wants it.
    pub unguarded: bool,
    /// What the conversation should remember of its size, and of what was left out.
    pub context: ContextState,
    /// Why the prompt began otherwise than the conversation's last one.
    pub breaks: Vec<PrefixBreak>,
    /// What came of the turn for loop protection.
    pub loops: Effects,
    /// What rules decided; none where no policy is in force.
    pub policy: Option<PolicyReport>,
}

/// Turns what a backend says into what the client gets. No clocks, no sockets.
pub trait Conversion: Send {
    /// The client's dialect.
    fn dialect(&self) -> Dialect;

    /// How large the turn is, as far as that is known without a backend; none where nobody can tell.
    fn size(&mut self) -> Option<Size> {
        None
    }

    /// What the running attempt takes of its backend's KV cache: the prompt's tokens, once told, and those of the
    /// answer so far.
    fn occupies(&self) -> (Option<u64>, u64) {
        (None, 0)
    }

    /// Shape the request for a backend before an attempt on it.
    fn prepare(&mut self, target: Target<'_>) -> Prepared {
        let _ = target;
        Prepared::Ready
    }

    /// The answer to what [`Prepared::Ask`] asks; none when there was none in time.
    fn answered(&mut self, answer: Option<&[u8]>) {
        let _ = answer;
    }

    /// The backend has refused the prompt of `prompt` tokens, since it holds `limit`. Whether it is
    /// shorter now.
    fn overflowed(&mut self, prompt: u64, limit: u64) -> bool {
        let _ = (prompt, limit);
        false
    }

    /// Append the whole answer if it is known without asking a backend.
    fn at_once(&mut self, out: &mut BytesMut) -> bool {
        let _ = out;
        false
    }

    /// Begin an attempt on a backend, asking as `ask` says where it goes on from an earlier one;
    /// whatever that one left half-said upstream is forgotten.
    fn begin(&mut self, target: Target<'_>, ask: Option<&Ask>) -> UpstreamRequest;

    /// The same request for another backend, while the running attempt goes on; none where only one may be asked.
    fn also(&self, target: Target<'_>) -> Option<UpstreamRequest> {
        let _ = target;
        None
    }

    /// That one was sent.
    fn hedged(&mut self) {}

    /// Take in bytes of the upstream's body; append what the client gets.
    ///
    /// # Errors
    /// [`Fault`] when the backend reports one or breaks the protocol.
    fn feed(&mut self, chunk: &[u8], out: &mut BytesMut) -> Result<Progress, Fault>;

    /// After [`Progress::Held`]: what the answer waits for.
    fn claim(&self) -> Option<&NeedsLease> {
        None
    }

    /// What came of it; none when nobody can tell. Append what the client gets now.
    fn leased(&mut self, answer: Option<Answer>, out: &mut BytesMut) {
        let _ = (answer, out);
    }

    /// Leases of calls that the client will not get, each told once.
    fn unused(&mut self) -> Vec<Grant> {
        Vec::new()
    }

    /// The upstream's body has ended properly; append what ends the client's stream.
    ///
    /// # Errors
    /// [`Fault`] when the answer was not complete.
    fn end(&mut self, out: &mut BytesMut) -> Result<(), Fault>;

    /// The backend could not read what its own model wrote. Whether to ask again.
    fn misparsed(&mut self, why: &str) -> bool {
        let _ = why;
        false
    }

    /// After [`Progress::Again`]: how to ask again, while that is worth trying.
    fn ask(&mut self) -> Option<Ask> {
        None
    }

    /// After a backend failed with part of the answer delivered: how another one goes on with it, if it can.
    fn resume(&mut self) -> Option<Ask> {
        None
    }

    /// Whether [`Self::resume`] would tell how.
    fn can_resume(&self) -> bool {
        false
    }

    /// After [`Progress::Again`] with no further attempt: append a proper end of the answer.
    fn give_up(&mut self, out: &mut BytesMut) {
        let _ = out;
    }

    /// What the guards have done so far.
    fn interventions(&self) -> &[Intervention] {
        &[]
    }

    /// Generated tokens the client would never see if the running attempt were abandoned.
    fn hidden_if_abandoned(&self) -> u64 {
        0
    }

    /// Append an event that says nothing but "still working".
    fn ping(&mut self, out: &mut BytesMut);

    /// Append the event that ends a begun stream with an error.
    fn fail(&mut self, error: &TurnError, out: &mut BytesMut);

    /// Whether the client acts on this error only inside a stream, even when none has begun.
    fn fails_in_stream(&self, error: &TurnError) -> bool {
        let _ = error;
        false
    }

    /// Whether the client has received part of the answer; pings and start events do not count.
    fn delivered(&self) -> bool;

    /// The whole answer, for a client that does not stream.
    fn whole(&mut self) -> Option<BytesMut>;

    /// What it amounted to, so far.
    fn report(&self) -> Report;
}

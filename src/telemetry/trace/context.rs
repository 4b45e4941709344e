//! Who a turn belongs to: W3C trace context, level 1 (<https://www.w3.org/TR/trace-context/>).

use http::{HeaderMap, HeaderName};
use uuid::Uuid;

/// Carries trace, parent span and whether it is recorded.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Carries what tracing systems add for themselves.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Longest `tracestate` that is handed on, in bytes: the least that everybody must take.
const MAX_STATE: usize = 512;

/// A turn's place in a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    trace: [u8; 16],
    /// The turn's own span; those of its attempts follow it.
    span: u64,
    parent: Option<u64>,
    sampled: bool,
    state: Option<Box<str>>,
}

/// The headers that tell a backend its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceHeaders {
    /// `traceparent`.
    pub parent: String,
    /// `tracestate`, as the client sent it.
    pub state: Option<Box<str>>,
}

impl TraceContext {
    /// Continues the client's trace where it sent a valid one, which also decides whether it is
    /// recorded; else begins one, recorded with probability `sample`.
    pub fn of(headers: &HeaderMap, sample: f64) -> Self {
        let id = Uuid::new_v4().into_bytes();
        let fresh = Self {
            trace: id,
            span: random(),
            parent: None,
            sampled: chance(id) < sample,
            state: None,
        };
        match only(headers, &TRACEPARENT).and_then(parse) {
            None => fresh,
            Some((trace, parent, sampled)) => Self {
                trace,
                parent: Some(parent),
                sampled,
                state: state(headers),
                ..fresh
            },
        }
    }

    /// Whether spans are recorded.
    pub fn is_sampled(&self) -> bool {
        self.sampled
    }

    /// The trace's id.
    pub fn trace_id(&self) -> [u8; 16] {
        self.trace
    }

    /// The trace's id, as `traceparent` has it.
    pub fn trace_hex(&self) -> String {
        hex::encode(self.trace)
    }

    /// The id of the client's span, if it has one.
    pub fn parent_id(&self) -> Option<[u8; 8]> {
        self.parent.map(u64::to_be_bytes)
    }

    /// The id of the turn's span (0), or of its attempt of this number, from 1.
    pub fn span_id(&self, attempt: usize) -> [u8; 8] {
        self.numbered(attempt).to_be_bytes()
    }

    /// What the backend of attempt `number`, from 1, is told.
    pub fn headers(&self, number: usize) -> TraceHeaders {
        let span = hex::encode(self.span_id(number));
        let flags = if self.sampled { "01" } else { "00" };
        TraceHeaders {
            parent: ["00", &self.trace_hex(), &span, flags].join("-"),
            state: self.state.clone(),
        }
    }

    /// The span never is so near the end that a turn's attempts would wrap to 0, which is no id.
    fn numbered(&self, number: usize) -> u64 {
        self.span + number as u64
    }
}

fn random() -> u64 {
    // The last 8 bytes of a version 4 UUID have two fixed bits at their beginning.
    (Uuid::new_v4().as_u64_pair().1 << 2 >> 1) | 1
}

/// A number from 0 to 1 that is the trace's own, so that all who see its id decide alike.
fn chance(trace: [u8; 16]) -> f64 {
    let bits = u128::from_be_bytes(trace) as u64 & ((1 << 56) - 1);
    bits as f64 / (1_u64 << 56) as f64
}

fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then(|| value.to_str().ok())?
}

/// Trace, span, and whether it is recorded. Later versions may be longer, and mean the same so far.
fn parse(header: &str) -> Option<([u8; 16], u64, bool)> {
    let mut parts = header.trim().split('-');
    let version = digits::<2>(parts.next()?)?;
    let (trace, span) = (digits::<32>(parts.next()?)?, digits::<16>(parts.next()?)?);
    let flags = digits::<2>(parts.next()?)?;
    let ends = version != 0 || parts.next().is_none();
    let valid = version != 0xff && trace != 0 && span != 0 && ends;
    valid.then_some((trace.to_be_bytes(), span as u64, flags & 1 == 1))
}

/// `N` digits of lower-case hexadecimal, nothing else.
fn digits<const N: usize>(text: &str) -> Option<u128> {
    let hex = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let fits = text.len() == N && hex;
    fits.then(|| u128::from_str_radix(text, 16).ok())?
}

fn state(headers: &HeaderMap) -> Option<Box<str>> {
    let values: Option<Vec<&str>> = headers
        .get_all(&TRACESTATE)
        .iter()
        .map(|value| value.to_str().ok())
        .collect();
    let state = values?.join(",");
    (1..=MAX_STATE)
        .contains(&state.len())
        .then(|| state.into_boxed_str())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_clients_trace_goes_on() {
        let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
        let sent = headers(&[
            (TRACEPARENT, &parent),
            (TRACESTATE, "a=1"),
            (TRACESTATE, "b=2"),
        ]);
        let context = TraceContext::of(&sent, 0.0);
        assert!(context.is_sampled());
        assert_eq!(context.trace_hex(), TRACE);
        let parent = 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes();
        assert_eq!(context.parent_id(), Some(parent));
        let told = context.headers(2);
        let span = u64::from_be_bytes(context.span_id(2));
        assert_eq!(told.parent, format!("00-{TRACE}-{span:016x}-01"));
        assert_eq!(told.state.as_deref(), Some("a=1,b=2"));
        assert_ne!(context.span_id(0), context.span_id(1));
    }

    #[test]
    fn one_that_is_not_recorded_stays_so() {
        let parent = format!("00-{TRACE}-00f067aa0ba902b7-00");
        let context = TraceContext::of(&headers(&[(TRACEPARENT, &parent)]), 1.0);
        assert!(!context.is_sampled());
        assert!(context.headers(1).parent.ends_with("-00"));
    }

    #[rstest]
    #[case::nothing("")]
    #[case::short("00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01")]
    #[case::upper("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01")]
    #[case::no_trace("00-00000000000000000000000000000000-00f067aa0ba902b7-01")]
    #[case::no_span("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01")]
    #[case::forbidden_version("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")]
    #[case::too_long("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x")]
    #[case::signed("00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")]
    #[case::no_flags("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7")]
    fn nonsense_begins_a_trace(#[case] parent: &str) {
        let sent = headers(&[(TRACEPARENT, parent), (TRACESTATE, "a=1")]);
        let context = TraceContext::of(&sent, 1.0);
        assert_ne!(context.trace_hex(), TRACE);
        assert_eq!(context.parent_id(), None);
        assert_eq!(context.headers(1).state, None);
    }

    #[test]
    fn a_later_version_is_understood() {
        assert!(parse(&format!("01-{TRACE}-00f067aa0ba902b7-03-more")).is_some());
    }

    #[test]
    fn two_parents_are_none() {
        let one = format!("00-{TRACE}-00f067aa0ba902b7-01");
        let sent = headers(&[(TRACEPARENT, &one), (TRACEPARENT, &one)]);
        assert_eq!(TraceContext::of(&sent, 1.0).parent_id(), None);
    }

    #[test]
    fn a_share_of_the_traces_is_recorded() {
        let none = HeaderMap::new();
        let sampled = |share| {
            let all = (0..4000).filter(|_| TraceContext::of(&none, share).is_sampled());
            all.count()
        };
        assert_eq!((sampled(0.0), sampled(1.0)), (0, 4000));
        assert!((800..1200).contains(&sampled(0.25)));
    }
}

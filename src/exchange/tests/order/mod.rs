//! Whatever a backend streams, and however its bytes are cut, the client gets an order of events that
//! the official SDKs' accumulators take, and never a false end.

mod anthropic;
mod openai;
mod responses;
pub(super) mod upstream;

use bytes::BytesMut;
use proptest::prelude::*;
use serde_json::{Value, json};

use self::upstream::{end, steps};
use super::accept;
use crate::dialect::llama::Target;
use crate::dialect::{Dialect, Meta};
use crate::exchange::{ChatConversion, Conversion, Guards, Progress};

/// A request in the dialect; with `stop`, `END` ends the answer.
fn request(dialect: Dialect, stop: bool) -> Value {
    let mut body = json!({"model": "m", "stream": true});
    let (prompt, limit, sequences) = match dialect {
        Dialect::OpenAi => ("messages", "max_tokens", "stop"),
        Dialect::Anthropic => ("messages", "max_tokens", "stop_sequences"),
        Dialect::Responses => ("input", "max_output_tokens", "stop"),
    };
    body[prompt] = json!([{"role": "user", "content": "x"}]);
    body[limit] = json!(9);
    if stop {
        body[sequences] = json!(["END"]);
    }
    body
}

/// Whether the answer was said to be complete, and what the client got.
fn converse(dialect: Dialect, body: &Value, pieces: &[Option<Vec<u8>>]) -> (bool, String) {
    let turn = dialect.decode(body.to_string().as_bytes()).unwrap();
    let meta = Meta {
        id: "1".into(),
        created: 1,
        model: "m".into(),
    };
    let mut conversion = ChatConversion::new(dialect, turn, meta, Guards::off());
    conversion.begin(Target::default(), None);
    let mut out = BytesMut::new();
    let fed = pieces.iter().try_fold(false, |done, piece| match piece {
        _ if done => Ok(true),
        None => {
            conversion.ping(&mut out);
            Ok(false)
        }
        Some(piece) => conversion
            .feed(piece, &mut out)
            .map(|progress| matches!(progress, Progress::Complete | Progress::Cancel)),
    });
    let ended = fed.and_then(|_| conversion.end(&mut out));
    let complete = ended.is_ok();
    if let Err(fault) = ended {
        conversion.fail(&fault.into_error(), &mut out);
    }
    (complete, String::from_utf8(out.to_vec()).unwrap())
}

/// The events of a stream: name and data.
fn events(stream: &str) -> Vec<(Option<&str>, &str)> {
    accept::events(stream).unwrap()
}

proptest! {
    #[test]
    fn any_answer_is_an_order_the_anthropic_sdks_take(
        steps in steps(), end in end(), stop in any::<bool>(), cut in 1usize..200
    ) {
        anthropic::check(&steps, end, stop, cut)?;
    }

    #[test]
    fn any_answer_is_an_order_the_openai_sdks_take(
        steps in steps(), end in end(), stop in any::<bool>(), cut in 1usize..200
    ) {
        openai::check(&steps, end, stop, cut)?;
    }

    #[test]
    fn any_answer_is_an_order_the_responses_sdks_take(
        steps in steps(), end in end(), how in responses::how(), cut in 1usize..200
    ) {
        responses::check(&steps, end, how, cut)?;
    }
}

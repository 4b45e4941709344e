//! What the extractor may cost: time linear in the text, memory bounded by a call.

use super::corpus_tests::source;
use super::extractor::{FREE_REREAD, REREAD_FACTOR};
use super::tests::offered;
use super::{Extractor, MAX_CALL, Piece};

#[test]
fn a_call_without_end_is_released_at_the_limit() {
    let mut extractor = Extractor::new(offered());
    let mut out = Vec::new();
    let opening = "<tool_call>{\"name\":\"read\",\"arguments\":{\"path\":\"";
    extractor.push(opening, &mut out);
    let block = "x".repeat(64 << 10);
    let mut sent = opening.len();
    while sent < 3 * MAX_CALL {
        extractor.push(&block, &mut out);
        sent += block.len();
        assert!(extractor.held() <= MAX_CALL + block.len());
    }
    extractor.finish(false, &mut out);
    assert!(out.iter().all(|piece| matches!(piece, Piece::Text(_))));
    assert_eq!(source(&out).len(), sent);
}

/// The longest answers made of openings that never close stay within the bound of what is read
/// again, and end in time even in an unoptimised build.
#[test]
fn hostile_answers_cost_linear_time() {
    for part in [
        "<tool_call>{\"a\":\"",
        "<tool_call>{\"name\":\"read\",\"arguments\":{\"path\":\"",
        "<function=read><parameter=path>",
        "<tool_call>[",
        "[TOOL_CALLS]read[ARGS]{\"a\":[",
        "<|tool_call>call:read{a:<|\"|>",
        "<|python_tag|>read.call('",
        "</tool_call>}",
        "<invoke name=\"read\"><parameter name=\"path\"></parameter>",
        "<",
        "`",
    ] {
        let text = part.repeat(400_000 / part.len());
        let mut extractor = Extractor::new(offered());
        let mut out = Vec::new();
        for piece in text.as_bytes().chunks(61) {
            extractor.push(std::str::from_utf8(piece).unwrap(), &mut out);
        }
        extractor.finish(false, &mut out);
        assert_eq!(source(&out), text, "{part}");
        let limit = text.len() as u64 * (REREAD_FACTOR + 2) + FREE_REREAD;
        assert!(extractor.reread <= limit, "{part}: {}", extractor.reread);
    }
}

/// Ordinary text takes the short way: nothing is buffered.
#[test]
fn plain_text_is_never_buffered() {
    let mut extractor = Extractor::new(offered());
    let mut out = Vec::new();
    extractor.push("The", &mut out);
    extractor.buffer = String::new();
    for _ in 0..1000 {
        for token in [" quick", " brown", " fox", ", and", " so", " on", "."] {
            out.clear();
            extractor.push(token, &mut out);
            assert_eq!(out, [Piece::Text(token.to_owned())]);
        }
    }
    assert_eq!(extractor.buffer.capacity(), 0);
}

/// The cost of a token: `cargo test --profile quick --no-run`, then the test binary under
/// `valgrind --tool=callgrind --toggle-collect='*Extractor*push*'` with `cost_of_tokens --ignored`.
#[test]
#[ignore = "a bench"]
fn cost_of_tokens() {
    let plain = [
        "The", " quick", " brown", " fox", ", and", " so", " on", ".",
    ];
    let marked = [
        " `code", "` and", " <b", ">", "\n", "- ", "item", " [x", "](y)", ".\n\n",
    ];
    for tokens in [&plain[..], &marked[..]] {
        let mut extractor = Extractor::new(offered());
        let mut out = Vec::new();
        for token in tokens.iter().cycle().take(100_000) {
            out.clear();
            extractor.push(token, &mut out);
        }
    }
}

//! Counting tokens: llama-server's `/tokenize` and `…/input_tokens` (b11434).

use bytes::BytesMut;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::dialect::json::ObjectWriter;

/// The body of `POST /tokenize`.
pub fn text_body(text: &str) -> BytesMut {
    let mut out = BytesMut::with_capacity(text.len() + 64);
    let mut body = ObjectWriter::new(&mut out);
    body.member("content", text);
    body.member("add_special", &false);
    body.end();
    out
}

/// The number in an answer to either question.
pub fn counted(answer: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Answer {
        input_tokens: Option<u64>,
        tokens: Option<Vec<IgnoredAny>>,
    }
    let answer: Answer = serde_json::from_slice(answer).ok()?;
    let listed = answer.tokens.map(|tokens| tokens.len() as u64);
    answer.input_tokens.or(listed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_answers_are_read() {
        let whole = br#"{"input_tokens":931,"object":"response.input_tokens"}"#;
        assert_eq!(counted(whole), Some(931));
        assert_eq!(counted(br#"{"tokens":[1,2,3]}"#), Some(3));
        assert_eq!(counted(br#"{"tokens":[{"id":1,"piece":"a"}]}"#), Some(1));
        for other in [b"{}".as_slice(), b"", b"[1]", b"{\"input_tokens\":-1}"] {
            assert_eq!(counted(other), None);
        }
    }

    #[test]
    fn the_text_is_quoted() {
        let body = text_body("a\n\"b\"");
        assert_eq!(&body[..], br#"{"content":"a\n\"b\"","add_special":false}"#);
    }
}

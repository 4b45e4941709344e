//! A cheap, deterministic, reversible tokenizer.
//!
//! It cuts text where byte-pair encodings usually do (a word with its leading space, up to three
//! digits, single punctuation) into pieces of at most six bytes, about four on English text. A
//! token's number *is* its piece: `length << 48 | bytes`, below 2^53 so that it survives JSON. The
//! chat template's markers are single tokens, as in real vocabularies; therefore a prompt that
//! extends another one also extends its tokens.

/// A token's number.
pub type Token = u64;

/// Opens a chat message in the rendered prompt.
pub(crate) const MESSAGE_START: &str = "<|im_start|>";
/// Ends a chat message in the rendered prompt; also the end-of-generation token.
pub(crate) const MESSAGE_END: &str = "<|im_end|>";

const MARKERS: [&str; 2] = [MESSAGE_START, MESSAGE_END];
const MAX_PIECE: usize = 6;

/// The tokens of `text`.
#[must_use]
pub fn encode(text: &str) -> Vec<Token> {
    let mut tokens = Vec::with_capacity(text.len() / 3 + 1);
    tokens.extend(Pieces(text).map(number));
    tokens
}

/// The number of tokens of `text`.
#[must_use]
pub fn count(text: &str) -> usize {
    Pieces(text).count()
}

/// The pieces of `text`, one a token, in order; together they are `text`.
pub(crate) fn pieces(text: &str) -> impl Iterator<Item = &str> {
    Pieces(text)
}

/// The bytes of one token; empty for a number that is no token.
#[must_use]
pub fn piece(token: Token) -> Vec<u8> {
    let len = (token >> 48) as usize;
    if len == 0 {
        let marker = MARKERS.get(token as usize);
        return marker.map(|m| m.as_bytes().to_vec()).unwrap_or_default();
    }
    if len > MAX_PIECE {
        return Vec::new();
    }
    token.to_be_bytes()[8 - len..].to_vec()
}

/// The text of `tokens`.
#[must_use]
pub fn decode(tokens: &[Token]) -> String {
    let bytes: Vec<u8> = tokens.iter().flat_map(|token| piece(*token)).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The number of one piece as cut by [`pieces`].
pub(crate) fn number(piece: &str) -> Token {
    if let Some(marker) = MARKERS.iter().position(|marker| *marker == piece) {
        return marker as Token;
    }
    let bytes = piece
        .bytes()
        .fold(0, |sum: u64, byte| sum << 8 | u64::from(byte));
    (piece.len() as u64) << 48 | bytes
}

struct Pieces<'a>(&'a str);

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.0.is_empty() {
            return None;
        }
        let (piece, rest) = self.0.split_at(first_piece(self.0));
        self.0 = rest;
        Some(piece)
    }
}

/// The length in bytes of the first piece of a text that is not empty.
fn first_piece(text: &str) -> usize {
    if text.starts_with("<|") {
        for marker in MARKERS {
            if text.starts_with(marker) {
                return marker.len();
            }
        }
    }
    let space = usize::from(text.starts_with(' '));
    let mut chars = text[space..].chars();
    let Some(first) = chars.next() else {
        return space;
    };
    let same = |class: fn(char) -> bool, most: usize| {
        let mut len = space;
        for c in text[space..].chars() {
            if !class(c) || len + c.len_utf8() > most {
                break;
            }
            len += c.len_utf8();
        }
        len
    };
    if first.is_alphabetic() {
        same(char::is_alphabetic, MAX_PIECE)
    } else if first.is_numeric() {
        same(char::is_numeric, space + 3).max(space + first.len_utf8())
    } else if first == '\n' || first == ' ' {
        if space == 1 {
            same(|c| c == ' ', 4).max(1)
        } else {
            same(|c| c == '\n', 2)
        }
    } else {
        space + first.len_utf8()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn cuts_english_like_a_byte_pair_encoding() {
        let cut: Vec<_> = pieces("Hello, world: 12345 internationalisation\n\n  x").collect();
        assert_eq!(
            cut,
            [
                "Hello", ",", " world", ":", " 123", "45", " inter", "nation", "alisat", "ion",
                "\n\n", "  ", "x"
            ]
        );
        let text = "The quick brown fox jumps over the lazy dog, and then some more happens.";
        let per_token = text.len() as f64 / count(text) as f64;
        assert!((3.0..5.5).contains(&per_token), "{per_token}");
    }

    #[test]
    fn markers_are_one_token_and_keep_prefixes_stable() {
        assert_eq!(count("<|im_start|><|im_end|>"), 2);
        let first = "<|im_start|>user\nhi there<|im_end|>\n<|im_start|>assistant\n";
        let longer = format!("{first}Hello<|im_end|>\n");
        assert!(encode(&longer).starts_with(&encode(first)));
    }

    #[test]
    fn numbers_survive_json_as_doubles() {
        for token in encode("a🦙 ~ÿ漢字 Zwölf\u{0}\u{7f}") {
            assert!(token < 1 << 53);
        }
        assert_eq!(piece(7 << 48), Vec::<u8>::new());
        assert_eq!(piece(99), Vec::<u8>::new());
    }

    proptest! {
        #[test]
        fn any_text_comes_back(text in ".{0,200}") {
            prop_assert_eq!(decode(&encode(&text)), text);
        }
    }
}

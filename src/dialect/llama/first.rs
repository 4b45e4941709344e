//! The first word of an answer, heard without taking part in it.

use super::decode::{ChunkDecoder, Upstream};
use super::fault::{Fault, stream_fault};
use crate::dialect::sse;

/// Longest event before the first word.
const MAX_EVENT: usize = 8 << 20;

/// What a piece of an answer's body brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Word {
    /// Comments, half an event, or who is going to speak.
    None,
    /// The prompt is being read.
    Alive,
    /// Part of the answer, or its end.
    Said,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct FirstWord {
    frames: sse::Decoder,
    chunks: ChunkDecoder,
    scratch: Vec<Upstream>,
}

impl Default for FirstWord {
    fn default() -> Self {
        Self {
            frames: sse::Decoder::new(MAX_EVENT),
            // Of whatever choice it is.
            chunks: ChunkDecoder::new(128, ""),
            scratch: Vec::new(),
        }
    }
}

impl FirstWord {
    /// Takes in bytes of the body.
    ///
    /// # Errors
    /// The backend reports an error, or breaks the protocol.
    pub fn push(&mut self, chunk: &[u8]) -> Result<Word, Fault> {
        self.frames.push(chunk);
        let mut word = Word::None;
        loop {
            let frame = self.frames.next_frame();
            let Some(frame) = frame.map_err(|e| stream_fault(&e.to_string()))? else {
                return Ok(word);
            };
            self.chunks.decode(&frame.data, &mut self.scratch)?;
            for told in self.scratch.drain(..) {
                word = word.max(match told {
                    Upstream::Progress => Word::Alive,
                    Upstream::Event(_) | Upstream::Done => Word::Said,
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_told_from_what_is_only_alive() {
        let mut first = FirstWord::default();
        let progress = "data: {\"choices\":[],\"prompt_progress\":{\"total\":9,\"cache\":0}}\n\n";
        let role = "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":null}}]}\n\n";
        let text = "data: {\"choices\":[{\"index\":1,\"delta\":{\"content\":\"hi\"}}]}\n\n";
        for (said, word) in [
            (":\n\n", Word::None),
            (progress, Word::Alive),
            (role, Word::None),
            (&text[..20], Word::None),
            (&text[20..], Word::Said),
        ] {
            assert_eq!(first.push(said.as_bytes()), Ok(word), "{said}");
        }
        let error = b"data: {\"error\":{\"code\":500,\"message\":\"Compute error.\"}}\n\n";
        assert!(first.push(error).is_err());
    }
}

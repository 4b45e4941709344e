//! What is remembered of a conversation.

use super::{Kind, LineageId, Transcript};

/// What is remembered of a lineage's last transcript, enough to know the next one by.
#[derive(Clone, Copy, Debug)]
pub struct Trail {
    /// Identity of the lineage.
    pub id: LineageId,
    pub(super) kind: Kind,
    /// The base of the last transcript; another than the id's after a compaction.
    pub(super) base: u64,
    pub(super) length: u32,
    key: u64,
    last: [u64; 2],
}

impl Trail {
    /// The trail of a lineage that has come to `transcript`.
    pub fn new(id: LineageId, transcript: &Transcript) -> Self {
        let last = match transcript.messages.as_slice() {
            [.., one, two] => [*one, *two],
            _ => [0, 0],
        };
        Self {
            id,
            kind: transcript.kind,
            base: transcript.base,
            length: transcript.messages.len() as u32,
            key: transcript.key(),
            last,
        }
    }

    /// What the conversation is for.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Messages of the last transcript.
    pub fn length(&self) -> usize {
        self.length as usize
    }

    /// How many messages of the request were there at the last transcript; none when `transcript`
    /// does not begin with it.
    pub fn covered(&self, transcript: &Transcript) -> Option<usize> {
        self.is_extended_by(transcript)
            .then(|| transcript.span(self.length()))
    }

    /// Whether `transcript` is the last one again.
    pub fn is_retried_by(&self, transcript: &Transcript) -> bool {
        self.length() == transcript.messages.len() && self.key == transcript.key()
    }

    pub(super) fn begins_like(&self, transcript: &Transcript) -> bool {
        self.kind == transcript.kind && self.base == transcript.base
    }

    pub(super) fn is_extended_by(&self, transcript: &Transcript) -> bool {
        self.length() <= transcript.messages.len() && self.key == transcript.prefix(self.length())
    }

    /// Messages were cut out or replaced in the middle: the end of what is known is still there.
    pub(super) fn is_pruned_to(&self, transcript: &Transcript) -> bool {
        self.length > 2 && transcript.has_in_a_row(self.last)
    }

    /// Messages were cut off at the front: it begins in the middle of what is known. A common end
    /// alone says little, since agents with different tasks begin with the same calls.
    pub(super) fn has_slid_to(&self, transcript: &Transcript, known: &[u64]) -> bool {
        let begins_inside = transcript
            .messages
            .first()
            .is_some_and(|first| known.iter().skip(1).any(|m| m == first));
        begins_inside && self.is_pruned_to(transcript)
    }
}

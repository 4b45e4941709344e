//! Leaving out the middle of a conversation.

use super::MessageHash;
use crate::turn::{Message, Part, Role};

/// How the note begins that stands where messages were left out.
pub const MARKER: &str = "[CONTEXT PRUNED:";

/// What the note weighs, about.
pub(super) const MARKER_WEIGHT: u64 = 200;

/// What is left out of a conversation: everything between its head and a place that is known by all
/// that was said before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Hash of what was said before the kept rest.
    key: u64,
    /// Messages left out.
    removed: u32,
}

impl Cut {
    /// The cut that lets the rest begin at message `at`.
    pub(super) fn new(messages: &[Message], head_end: usize, at: usize, hash: MessageHash) -> Self {
        let said = messages[..at].iter().filter_map(hash);
        Self {
            key: said.fold(SEED, join),
            removed: (at - head_end) as u32,
        }
    }

    /// Messages left out.
    pub fn removed(self) -> u32 {
        self.removed
    }
}

const SEED: u64 = 0x6375_7400_0000_0001;

fn join(all: u64, message: u64) -> u64 {
    // Multiplied by an odd number so that order counts (splitmix64's).
    (all ^ message)
        .rotate_left(23)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The first of `cuts` that this conversation has come past, and where its rest begins.
pub(super) fn find(
    messages: &[Message],
    cuts: impl Iterator<Item = Cut> + Clone,
    hash: MessageHash,
) -> Option<(Cut, usize)> {
    let mut found: Option<(usize, Cut, usize)> = None;
    let mut open: Option<(usize, Cut)> = None;
    let mut all = SEED;
    for (at, message) in messages.iter().enumerate() {
        let Some(said) = hash(message) else { continue };
        if let Some((rank, cut)) = open.take()
            && found.is_none_or(|(best, ..)| rank < best)
        {
            found = Some((rank, cut, at));
        }
        all = join(all, said);
        open = cuts.clone().enumerate().find(|(_, cut)| cut.key == all);
    }
    found.map(|(_, cut, at)| (cut, at))
}

/// A view of messages with their middle left out, which can be undone.
#[derive(Debug, Default)]
pub(super) struct View {
    undo: Option<Undo>,
}

#[derive(Debug)]
struct Undo {
    from: usize,
    put: usize,
    old: Vec<Message>,
}

impl View {
    /// Leave out what lies between the head and message `at`. The note goes into the head's last
    /// message of the human, and so does the rest's first if that is the human's too: roles alternate
    /// as before.
    pub(super) fn cut(
        &mut self,
        messages: &mut Vec<Message>,
        head_end: usize,
        at: usize,
        removed: u32,
    ) {
        self.undo(messages);
        let last_user = messages[..head_end]
            .iter()
            .rposition(|m| m.role() == Role::User);
        let Some(from) = last_user else { return };
        let mut new = messages[from..head_end].to_vec();
        let note = format!(
            "{MARKER} {removed} older messages were left out here because the conversation outgrew the \
             model's context window. The task above and the latest messages are complete.]"
        );
        let mut until = at;
        if let Some(task) = new.first_mut() {
            let parts = task.parts_mut();
            parts.push(Part::Text(note));
            if messages[at].role() == Role::User {
                parts.extend(messages[at].parts().iter().cloned());
                until = at + 1;
            }
        }
        let put = new.len();
        let old: Vec<Message> = messages.splice(from..until, new).collect();
        self.undo = Some(Undo { from, put, old });
    }

    /// All messages again.
    pub(super) fn undo(&mut self, messages: &mut Vec<Message>) {
        if let Some(Undo { from, put, old }) = self.undo.take() {
            messages.splice(from..from + put, old);
        }
    }
}

//! Hashes of what is said.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::turn::{Content, Image, Message, Part, Role, human_text};

/// Hashes may be stored, so that their seed is ours and never changes.
pub(super) const SEED: u64 = 0x6472_6f76_6572_0001;

/// Hash of what a message says; none when it says nothing that counts.
pub fn hash(message: &Message) -> Option<u64> {
    let by_model = match message.role() {
        Role::System => return None,
        Role::Assistant => true,
        // Dialects differ in whose message carries a result.
        Role::User | Role::Tool => false,
    };
    let begin = SEED ^ u64::from(by_model);
    let hash = message.parts().iter().fold(begin, |hash, part| match part {
        Part::Text(text) => match if by_model {
            text.trim()
        } else {
            human_text(text)
        } {
            "" => hash,
            text => add(hash, Said::Text, text.as_bytes()),
        },
        Part::Thinking(_) => hash,
        Part::Image(image) => add_image(hash, image),
        Part::ToolCall(call) => {
            let hash = add(hash, Said::Call, call.name.as_bytes());
            add(hash, Said::Arguments, call.arguments.as_bytes())
        }
        Part::ToolResult(result) => {
            let begin = add(hash, Said::Result, &[u8::from(result.is_error)]);
            result
                .content
                .iter()
                .fold(begin, |hash, content| match content {
                    Content::Text(text) => add(hash, Said::Text, text.as_bytes()),
                    Content::Image(image) => add_image(hash, image),
                })
        }
        Part::Other(json) => add(hash, Said::Other, json.as_bytes()),
    });
    (hash != begin).then_some(hash)
}

/// What kind of thing is said, so that a text never equals a call.
#[derive(Clone, Copy)]
enum Said {
    Text,
    Image,
    Call,
    Arguments,
    Result,
    Other,
}

fn add(hash: u64, said: Said, bytes: &[u8]) -> u64 {
    xxh3_64_with_seed(bytes, hash.wrapping_add(said as u64))
}

/// Pictures are large and told apart by their length and end.
fn add_image(hash: u64, image: &Image) -> u64 {
    let bytes = image.data_url.as_bytes();
    let end = &bytes[bytes.len().saturating_sub(4096)..];
    add(join(hash, bytes.len() as u64), Said::Image, end)
}

pub(super) fn join(hash: u64, next: u64) -> u64 {
    xxh3_64_with_seed(&next.to_le_bytes(), hash)
}

//! JSON that keeps what it does not understand.

mod read;
mod sound;
mod write;

pub use read::{Members, body, field, given, list, positive};
pub use sound::{MAX_DEPTH, deeper_than, is_sound_object};
pub use write::{ObjectWriter, one_line, raw, write, write_array};

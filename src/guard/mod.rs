//! Guards: pure code that judges or shapes a turn.

pub mod announcement;
pub mod context;
mod held;
pub mod intervention;
pub mod legacy;
pub mod loops;
pub mod preset;
pub mod reask;
pub mod reasoning;
pub mod repetition;
pub mod sampling;
pub mod stop_sequences;
pub mod stream;
pub mod tool_calls;
pub mod trouble;

/// The last character boundary of `text` at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

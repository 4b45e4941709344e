//! Guards: pure code that judges or shapes a turn.

mod held;
pub mod preset;
pub mod reask;
pub mod reasoning;
pub mod stop_sequences;
pub mod stream;
pub mod tool_calls;
pub mod trouble;

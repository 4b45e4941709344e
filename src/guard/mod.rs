//! Guards: pure code that judges or shapes a turn.

pub mod stop_sequences;
pub mod tool_calls;

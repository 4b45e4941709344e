//! Guards: pure code that judges or shapes a turn.

mod held;
pub mod reasoning;
pub mod stop_sequences;

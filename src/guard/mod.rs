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

use crate::turn::floor;

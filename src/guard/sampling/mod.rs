//! How an answer is sampled, and what the tools look like upstream. Nothing here changes what an
//! answer is checked against.

mod cleanup;
mod narrow;
mod options;
mod profile;
mod schema;

pub use cleanup::clean;
pub use narrow::{Narrowed, narrow};
pub use options::{ceiling, thinking_off};
pub use profile::{Sources, apply, resolve};

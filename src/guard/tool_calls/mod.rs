//! Tool calls a model made: read, repaired in their envelope, checked against the client's schema,
//! and, where that fails, asked for again.

pub mod extract;
pub mod offered;

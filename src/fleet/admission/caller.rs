//! For whom a place is wanted.

use crate::config::Priority;

/// For whom a place is wanted, as far as the order of those who wait depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// Hash of the principal: the API key, or the address of the client.
    pub principal: u64,
    /// Hash of its session; of requests without one a different one each.
    pub session: u64,
    /// Hash of the conversation inside the session, whose turns keep their order.
    pub conversation: Option<u64>,
    /// Who goes first.
    pub class: Priority,
    /// Length of the request's body.
    pub bytes: u64,
}

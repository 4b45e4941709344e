//! The integration tests: the real `drover` binary between raw clients and scripted backends.
//!
//! `support` holds the scripted llama-server, the gateway process and the clients; `cases` has one
//! file for each behaviour. Goldens in `fixtures` are rewritten with `UPDATE_GOLDEN=1`.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a failed expectation is a failed test"
)]

mod cases;
mod support;

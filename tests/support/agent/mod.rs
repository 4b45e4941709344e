//! Agents: programs that ask a model what to do, do it, and ask again.
//!
//! A scripted agent is deterministic: what its model says ([`Script::model`], played by the backend)
//! and what its tools answer ([`Script::world`]) depend on the number of its turn only, and on what
//! the gateway has made of the request. The number travels in the model's name.

mod protocol;
mod run;
mod scripts;
pub(crate) mod talk;

pub(crate) use protocol::{Heard, Item, Protocol};
pub(crate) use run::{Outcome, play, run};
pub(crate) use scripts::{HEALTHY_TURNS, Script, healthy, looping};

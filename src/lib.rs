//! Drover: the front door of a fleet of llama.cpp `llama-server` backends used by coding agents.

pub mod admin;
pub mod bench;
pub mod cli;
pub mod config;
pub mod dialect;
pub mod doctor;
pub mod exchange;
pub mod fleet;
pub mod guard;
pub mod policy;
pub mod proxy;
pub mod rollout;
pub mod server;
pub mod session;
pub mod sim;
pub mod spec;
pub mod store;
pub mod telemetry;
pub mod top;
pub mod turn;

#[cfg(test)]
mod rooms;

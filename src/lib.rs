//! Drover: the front door of a fleet of llama.cpp `llama-server` backends used by coding agents.

pub mod admin;
pub mod cli;
pub mod config;
pub mod fleet;
pub mod server;
pub mod sim;
pub mod telemetry;

//! Drover: the front door of a fleet of llama.cpp `llama-server` backends used by coding agents.

pub mod cli;
pub mod sim;

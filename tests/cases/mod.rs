//! One file for each behaviour.

mod admin;
mod auth;
mod body;
mod disconnect;
mod drain;
mod errors;
mod examples;
mod failover;
mod framing;
// mod goldens;
mod health;
mod hostile;
mod http2;
mod kill;
mod native;
mod nonstream;
mod observe;
mod older_paths;
mod pings;
mod regression;
mod relay;
mod reuse;
mod stop;
mod stream;
mod timeouts;

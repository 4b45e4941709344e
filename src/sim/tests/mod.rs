//! Tests over real sockets.

mod behaviour;
mod client;
mod shapes;

//! What the tests are made of.

pub(crate) mod agent;
pub(crate) mod authority;
pub(crate) mod backend;
pub(crate) mod checks;
pub(crate) mod client;
pub(crate) mod config;
pub(crate) mod dns;
pub(crate) mod gateway;
pub(crate) mod h2c;
pub(crate) mod http;
pub(crate) mod kubernetes;
pub(crate) mod load;
pub(crate) mod recorded;
pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod script;
pub(crate) mod sim;
pub(crate) mod socket;
pub(crate) mod turns;
pub(crate) mod wait;
pub(crate) mod window;

pub(crate) use authority::Authority;
pub(crate) use backend::{Backend, dead_url};
pub(crate) use checks::{Health, N_CTX};
pub(crate) use client::Client;
pub(crate) use config::{Setup, pool};
pub(crate) use dns::Dns;
pub(crate) use gateway::{DROVER, Gateway};
pub(crate) use kubernetes::Kubernetes;
pub(crate) use request::{Request, chat, get, post, responses, stream};
pub(crate) use response::{End, Response};
pub(crate) use script::{Gate, Reply};
pub(crate) use sim::Sim;
pub(crate) use socket::Socket;
pub(crate) use wait::{eventually, patiently};

//! Simulated servers in processes of their own.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::client::Client;
use super::gateway::DROVER;
use super::request::post;
use super::response::Response;
use super::wait::patiently;

/// A running `drover sim`; it ends with this.
pub(crate) struct Sim {
    child: Child,
    pub(crate) url: String,
}

impl Sim {
    /// Starts one on a free port.
    pub(crate) async fn start(args: &[&str]) -> Self {
        Self::start_at("127.0.0.1:0", args).await
    }

    /// Kills it; [`Self::again`] starts another one in its place.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// Another one at its address.
    pub(crate) async fn again(self, args: &[&str]) -> Self {
        let at = self.url.strip_prefix("http://").unwrap();
        Self::start_at(at, args).await
    }

    async fn start_at(address: &str, args: &[&str]) -> Self {
        let mut child = Command::new(DROVER)
            .args(["sim", "--listen", address])
            .args(args)
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        loop {
            let line = patiently("the address of the sim", lines.next_line()).await;
            let line = line.unwrap().expect("the sim runs");
            if let Some((_, url)) = line.split_once(" listens on ") {
                let url = url.to_owned();
                return Self { child, url };
            }
        }
    }

    /// Sends a signal, such as `-STOP`.
    pub(crate) async fn signal(&self, signal: &str) {
        let pid = self.child.id().unwrap().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status();
        assert!(sent.await.unwrap().success());
    }

    /// A connection to it, past the gateway.
    pub(crate) async fn connect(&self) -> Client {
        let addr = self.url.strip_prefix("http://").unwrap().parse().unwrap();
        Client::connect(addr).await
    }

    /// Has it do something: `wedge`, `resume`.
    pub(crate) async fn told(&self, what: &str) -> Response {
        let request = post(&format!("/sim/{what}"), "{}");
        let answer = self.connect().await.ask(&request).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer
    }
}

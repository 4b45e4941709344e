//! A conversation that a test holds step by step, in any dialect.

use serde_json::{Value, json};

use super::protocol::{Heard, Item, Protocol};
use crate::support::script::{role, tool_call};
use crate::support::{Backend, Gateway, Health, Reply, Response, Setup};

/// A test in every dialect, streamed and whole, at the same time.
macro_rules! everywhere {
    ($($(#[$meta:meta])* async fn $name:ident($protocol:ident: Protocol, $stream:ident: bool) $body:block)*) => {$(
        $(#[$meta])*
        #[tokio::test]
        async fn $name() {
            async fn case($protocol: Protocol, $stream: bool) $body
            let mut cases = tokio::task::JoinSet::new();
            for protocol in $crate::support::agent::Protocol::ALL {
                for stream in [true, false] {
                    cases.spawn(async move {
                        let case = tokio::spawn(case(protocol, stream)).await;
                        assert!(case.is_ok(), "{protocol:?}, stream: {stream}");
                    });
                }
            }
            while let Some(case) = cases.join_next().await {
                case.unwrap();
            }
        }
    )*};
}

pub(crate) use everywhere;

/// A conversation with one gateway.
pub(crate) struct Talk {
    pub(crate) backend: Backend,
    pub(crate) gateway: Gateway,
    pub(crate) protocol: Protocol,
    pub(crate) stream: bool,
    pub(crate) items: Vec<String>,
    pub(crate) calls: usize,
    /// What the client calls its session.
    pub(crate) session: &'static str,
}

impl Talk {
    pub(crate) async fn new(protocol: Protocol, stream: bool, settings: &[(&str, Value)]) -> Self {
        let set = |setup: Setup, (key, value): &(&str, Value)| setup.set(key, value.clone());
        let set = |setup| settings.iter().fold(setup, set);
        Self::with(protocol, stream, Health::Roomy, set).await
    }

    /// With a backend that says this about itself, and a gateway that is set up so.
    pub(crate) async fn with(
        protocol: Protocol,
        stream: bool,
        health: Health,
        set: impl FnOnce(Setup) -> Setup,
    ) -> Self {
        let backend = Backend::start().await;
        backend.set_health(health);
        let setup = Setup::to(&[&backend]).set("guard.preset", json!("standard"));
        let gateway = set(setup).start().await;
        let mut talk = Self {
            backend,
            gateway,
            protocol,
            stream,
            items: Vec::new(),
            calls: 0,
            session: "the session",
        };
        talk.user("do it");
        talk
    }

    pub(crate) fn push(&mut self, item: &Item) {
        self.items.push(self.protocol.item(item).to_string());
    }

    pub(crate) fn user(&mut self, text: &str) {
        self.push(&Item::User(text.into()));
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.push(&Item::Assistant(text.into()));
    }

    pub(crate) fn act(&mut self, name: &str, arguments: Value, result: &str) {
        self.calls += 1;
        let id = format!("call_{}", self.calls);
        self.push(&Item::Call {
            id: id.clone(),
            name: name.into(),
            arguments: arguments.to_string(),
        });
        self.push(&Item::Result {
            id,
            text: result.into(),
        });
    }

    /// Several calls in one answer.
    pub(crate) fn act_together(&mut self, calls: &[(&str, Value, &str)]) {
        let first = self.calls;
        self.calls += calls.len();
        let id = |n: usize| format!("call_{}", first + 1 + n);
        let asked = calls.iter().enumerate().map(|(n, (name, arguments, _))| {
            let (name, arguments) = ((*name).to_owned(), arguments.to_string());
            Item::Call {
                id: id(n),
                name,
                arguments,
            }
        });
        let done = calls.iter().enumerate().map(|(n, (_, _, result))| {
            let text = (*result).to_owned();
            Item::Result { id: id(n), text }
        });
        let mut items = self.protocol.together(asked);
        items.append(&mut self.protocol.together(done));
        self.items.extend(items.iter().map(ToString::to_string));
    }

    pub(crate) fn bash(&mut self, command: &str, result: &str) {
        self.act("Bash", json!({"command": command}), result);
    }

    pub(crate) fn read(&mut self, path: &str, result: &str) {
        self.act("Read", json!({"file_path": path}), result);
    }

    /// Distinct useful calls.
    pub(crate) fn work(&mut self, turns: usize) {
        for _ in 0..turns {
            let n = self.calls;
            self.bash(&format!("step {n}"), &format!("did {n}"));
        }
    }

    /// Ask; the answer, and what the backend was asked.
    pub(crate) async fn ask(&self) -> (Heard, Vec<Value>) {
        self.ask_with(&[]).await
    }

    pub(crate) async fn ask_with(&self, tools: &[&str]) -> (Heard, Vec<Value>) {
        let (response, asked) = self.send(tools).await;
        (self.protocol.read(&response, self.stream), asked)
    }

    /// Ask; the answer as it comes, be it an error.
    pub(crate) async fn send(&self, tools: &[&str]) -> (Response, Vec<Value>) {
        let before = self.backend.requests().len();
        let request = self
            .protocol
            .request("m", "You are an agent.", &self.items, tools, self.stream)
            .header("x-session-id", self.session);
        let response = self.gateway.ask(&request).await;
        self.gateway.idle().await;
        let asked = self.backend.requests();
        let asked = asked[before..].iter().map(|request| request.json());
        (response, asked.collect())
    }
}

pub(crate) fn call(name: &str, arguments: &Value) -> Reply {
    Reply::stream()
        .event(&role())
        .event(&tool_call(0, "c", name, &arguments.to_string()))
        .ends("tool_calls")
}

pub(crate) fn ls() -> Reply {
    call("Bash", &json!({"command": "ls"}))
}

/// The text of the last message upstream.
pub(crate) fn last(asked: &Value) -> String {
    let message = asked["messages"].as_array().unwrap().last().unwrap();
    match &message["content"] {
        Value::String(text) => text.clone(),
        parts => parts.to_string(),
    }
}

pub(crate) fn names(heard: &Heard) -> Vec<&str> {
    heard
        .calls
        .iter()
        .map(|(_, name, _)| name.as_str())
        .collect()
}

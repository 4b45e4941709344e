//! Running an agent.

use std::collections::HashMap;

use serde_json::json;

use super::protocol::{Heard, Item, Protocol};
use super::scripts::{Move, Script};
use crate::support::script::{delta, role, text};
use crate::support::{Backend, Client, Gateway, Reply, Request, Response};

/// What the model is asked, as the backend sees it.
pub(crate) struct Asked<'a>(pub(crate) &'a [u8]);

impl Asked<'_> {
    fn has(&self, text: &str) -> bool {
        memchr::memmem::find(self.0, text.as_bytes()).is_some()
    }

    /// Whether calls are allowed.
    pub(crate) fn may_call(&self) -> bool {
        !self.has(r#""tool_choice":"none""#)
    }
}

/// How an agent fared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Changes of the rung, and the turn of each.
    pub(crate) rungs: Vec<(usize, String)>,
    /// The turn in which it ended before its time.
    pub(crate) ended: Option<usize>,
    /// Requests that were intervened in.
    pub(crate) interventions: usize,
    /// The last text it got.
    pub(crate) last: String,
}

/// Let `backend` play the models of these agents. A model's name is `agent number/turn`.
pub(crate) fn play(backend: &Backend, scripts: &[Script]) {
    let models: HashMap<usize, Script> = scripts.iter().copied().enumerate().collect();
    backend.plays(false, move |body| {
        let (number, turn) = name(body);
        let asked = Asked(body);
        let next = match models.get(&number) {
            None => Move::Say("Fine.".into()),
            Some(script) => (script.model)(turn, &asked),
        };
        match next {
            Move::Call(name, arguments) if asked.may_call() => calls(name, &arguments),
            Move::Call(..) => Reply::says(&["Done: little. Remains: most of it."]),
            Move::Say(said) => Reply::says(&[&said]),
        }
    });
}

/// A reply with one call.
fn calls(name: &str, arguments: &str) -> Reply {
    let call = json!([{"index": 0, "id": "call_of_model", "type": "function",
        "function": {"name": name, "arguments": arguments}}]);
    let (first, last) = (text("I see. "), delta(json!({"tool_calls": call})));
    Reply::stream()
        .event(&role())
        .event(&first)
        .event(&last)
        .ends("tool_calls")
}

fn name(body: &[u8]) -> (usize, usize) {
    let key = br#""model":"agent "#;
    let start = memchr::memmem::find(body, key).expect("the model's name") + key.len();
    let rest = std::str::from_utf8(&body[start..(start + 20).min(body.len())]).unwrap();
    let name = rest.split('"').next().unwrap();
    let (number, turn) = name.split_once('/').unwrap();
    (number.parse().unwrap(), turn.parse().unwrap())
}

/// One request on `client`, which is opened anew where the gateway has closed it.
async fn ask(gateway: &Gateway, client: &mut Client, request: &Request) -> Response {
    let response = client.ask(request).await;
    if response
        .headers
        .get("connection")
        .is_some_and(|c| c.contains("close"))
    {
        *client = gateway.connect().await;
    }
    response
}

/// Run agent `number` with `script` to its end; requests stream in every second turn.
pub(crate) async fn run(
    gateway: &Gateway,
    protocol: Protocol,
    number: usize,
    script: &Script,
    subagent: Option<&str>,
) -> Outcome {
    let mut client = gateway.connect().await;
    let mut outcome = Outcome::default();
    let mut items = vec![
        protocol
            .item(&Item::User(format!("do task {number}")))
            .to_string(),
    ];
    let mut rung = "act".to_owned();
    let mut nags = script.nags;
    // Subagents of whatever number share one session.
    let session = subagent.map_or(format!("agent {number}"), |_| "the session".to_owned());
    for turn in 0..=script.turns {
        let stream = turn % 2 == 0;
        let system = format!("You are agent {number}. It is second {turn}.");
        let model = format!("agent {number}/{turn}");
        let mut request = protocol
            .request(&model, &system, &items, script.tools, stream)
            .header("x-session-id", &session);
        if let Some(agent) = subagent {
            request = request.header("x-claude-code-agent-id", agent);
        }
        if script.retries {
            ask(gateway, &mut client, &request).await;
        }
        let response = ask(gateway, &mut client, &request).await;
        let heard = protocol.read(&response, stream);
        outcome.saw(turn, &response, &mut rung);
        outcome.last.clone_from(&heard.text);
        if turn == script.turns {
            return outcome;
        }
        if heard.calls.is_empty() {
            assert_eq!(heard.stop, protocol.end_turn());
            if nags == 0 || rung == "stop" {
                outcome.ended = Some(turn);
                return outcome;
            }
            nags -= 1;
            items.push(protocol.item(&Item::Assistant(heard.text)).to_string());
            items.push(
                protocol
                    .item(&Item::User("Please go on.".into()))
                    .to_string(),
            );
            continue;
        }
        answer(protocol, script, turn, heard, &mut items);
    }
    outcome
}

/// Do what the model wants.
fn answer(protocol: Protocol, script: &Script, turn: usize, heard: Heard, items: &mut Vec<String>) {
    for (n, (_, name, arguments)) in heard.calls.into_iter().enumerate() {
        // Ids are as random as clients make them.
        let id = format!("toolu_{turn}_{n}");
        let call = Item::Call {
            id: id.clone(),
            name,
            arguments,
        };
        items.push(protocol.item(&call).to_string());
        let text = (script.world)(turn);
        items.push(protocol.item(&Item::Result { id, text }).to_string());
    }
    if script.compacts.is_some_and(|most| items.len() > most) {
        let summary = format!(
            "This session is being continued from a previous conversation that ran out of context. Turns so far: {turn}."
        );
        *items = vec![protocol.item(&Item::User(summary)).to_string()];
    }
}

impl Outcome {
    fn saw(&mut self, turn: usize, response: &Response, rung: &mut String) {
        let kinds = response
            .headers
            .get("x-drover-interventions")
            .unwrap_or_default();
        self.interventions += usize::from(!kinds.is_empty());
        let now = kinds
            .split(',')
            .find_map(|kind| kind.strip_prefix("loop_"))
            .unwrap_or("act");
        if now != rung {
            self.rungs.push((turn, now.to_owned()));
            now.clone_into(rung);
        }
        if kinds.contains("denied_call")
            && now == "narrow"
            && !self.rungs.iter().any(|(_, r)| r == "denied")
        {
            self.rungs.push((turn, "denied".to_owned()));
        }
    }
}

//! Clients at work: conversations that grow, and answers that show whose they are.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::backend::Backend;
use super::client::Client;
use super::gateway::Gateway;
use super::request::{Request, post};
use super::response::Response;
use super::script::{Reply, role, text};
use super::wait::eventually;

/// How many requests a load makes at least.
pub(crate) const REQUESTS: usize = 1000;
const AT_ONCE: usize = 8;
/// Machines that do other things besides are slow.
const PATIENCE: Duration = Duration::from_secs(300);
/// Turns of a conversation.
const TURNS: usize = 5;

/// Clients that ask one after the other until all requests are made.
pub(crate) struct Load {
    clients: JoinSet<Vec<Asked>>,
    done: Arc<AtomicUsize>,
    /// Goes on until told, however many requests that takes.
    enough: Arc<AtomicBool>,
}

/// A request with what came of it.
pub(crate) struct Asked {
    pub(crate) response: Response,
    /// The only right answer.
    pub(crate) expected: String,
    pub(crate) streams: bool,
    /// Its conversation.
    pub(crate) session: String,
}

impl Load {
    pub(crate) fn on(gateway: &Gateway) -> Self {
        let (done, enough) = (
            Arc::new(AtomicUsize::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let mut clients = JoinSet::new();
        for n in 0..AT_ONCE {
            let (addr, done, enough) = (gateway.addr, Arc::clone(&done), Arc::clone(&enough));
            clients.spawn(async move {
                let mut client = Client::connect(addr).await;
                let mut all = Vec::new();
                let mut agent = Agent::new(format!("client-{n}"));
                while done.load(Ordering::Relaxed) < REQUESTS || !enough.load(Ordering::Relaxed) {
                    let (request, expected) = agent.next(n % 2 == 0);
                    let session = agent.session();
                    let response = client.ask(&request).await;
                    all.push(Asked {
                        response,
                        expected,
                        streams: n % 2 == 0,
                        session,
                    });
                    done.fetch_add(1, Ordering::Relaxed);
                }
                all
            });
        }
        Self {
            clients,
            done,
            enough,
        }
    }

    /// Waits for the answer of this number.
    pub(crate) async fn reached(&self, count: usize) {
        let reached = async {
            while self.done.load(Ordering::Relaxed) < count {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = timeout(PATIENCE, reached).await;
        assert!(waited.is_ok(), "{count} requests: not within {PATIENCE:?}");
    }

    /// All answers, once everything has happened.
    pub(crate) async fn end(self) -> Vec<Asked> {
        self.enough.store(true, Ordering::Relaxed);
        let all: Vec<Asked> = self
            .clients
            .join_all()
            .await
            .into_iter()
            .flatten()
            .collect();
        assert!(all.len() >= REQUESTS, "{}", all.len());
        all
    }
}

impl Asked {
    /// It is whole, and the answer to its own question.
    pub(crate) fn assert_answered(&self) {
        let response = &self.response;
        assert_eq!(response.status, 200, "{}", response.text());
        if self.streams {
            response.assert_complete_stream();
            assert_eq!(response.said(), self.expected);
        } else {
            let message = &response.json()["choices"][0]["message"];
            assert_eq!(message["content"], self.expected.as_str());
        }
    }

    /// The same; or it had begun, and broke off with an error. Whether it did.
    pub(crate) fn assert_answered_or_cut(&self) -> bool {
        let response = &self.response;
        if !self.streams || response.status != 200 || response.dones() == 1 {
            self.assert_answered();
            return false;
        }
        response.assert_failed_stream();
        let said = response.said();
        assert!(!said.is_empty(), "only what had begun may be cut");
        assert!(
            self.expected.starts_with(&said),
            "{said:?} is not the beginning of {:?}",
            self.expected
        );
        true
    }
}

/// All of them were answered.
pub(crate) fn all_answered(all: &[Asked]) {
    all.iter().for_each(Asked::assert_answered);
}

/// A conversation that grows, and then another one.
struct Agent {
    name: String,
    asked: usize,
    messages: Vec<Value>,
}

impl Agent {
    fn new(name: String) -> Self {
        Self {
            name,
            asked: 0,
            messages: Vec::new(),
        }
    }

    /// The next question, and the only right answer to it.
    fn next(&mut self, streams: bool) -> (Request, String) {
        if self.asked.is_multiple_of(TURNS) {
            self.messages.clear();
        }
        let (conversation, turn) = (self.asked / TURNS, self.asked % TURNS);
        let answer = format!("This is turn {turn} of {} no {conversation}.", self.name);
        // An answer that is gone on with is the same.
        let script = json!({"steps": [{ "text": answer }], "repeat": true});
        let question = format!("[[sim {script}]]");
        self.messages
            .push(json!({"role": "user", "content": question}));
        let body = json!({"model": "m", "stream": streams, "messages": self.messages});
        // Word for word what was asked and answered: else it would be another conversation.
        self.messages
            .push(json!({"role": "assistant", "content": answer}));
        self.asked += 1;
        let request = post("/v1/chat/completions", body.to_string());
        (request.header("x-session-id", &self.session()), answer)
    }

    /// The conversation of the last question.
    fn session(&self) -> String {
        format!("{}-{}", self.name, (self.asked - 1) / TURNS)
    }
}

/// Makes an answer of the right one.
type Fault = Arc<dyn Fn(&str) -> Reply + Send + Sync>;

/// A scripted backend that answers a [`Load`] rightly, until told otherwise.
pub(crate) struct Answers {
    pub(crate) backend: Backend,
    fault: Arc<Mutex<Option<Fault>>>,
}

impl Answers {
    pub(crate) async fn start() -> Self {
        Self::of(Backend::start().await)
    }

    pub(crate) fn of(backend: Backend) -> Self {
        let fault = Arc::new(Mutex::new(None::<Fault>));
        let now = Arc::clone(&fault);
        backend.plays(false, move |body| {
            let right = right_answer(body);
            let fault = now.lock().clone();
            match fault {
                Some(fault) => fault(&right),
                None => {
                    let (a, b) = right.split_at(right.len() / 2);
                    Reply::says(&[a, b])
                }
            }
        });
        Self { backend, fault }
    }

    /// From now on it answers so.
    pub(crate) fn fails(&self, fault: impl Fn(&str) -> Reply + Send + Sync + 'static) {
        *self.fault.lock() = Some(Arc::new(fault));
    }

    /// From now on each answer takes so long.
    pub(crate) fn takes(&self, time: Duration) {
        self.fails(move |right| {
            let begun = Reply::stream().event(&role()).pause(time);
            begun.event(&text(right)).ends("stop")
        });
    }

    /// From now on it answers rightly.
    pub(crate) fn works(&self) {
        *self.fault.lock() = None;
    }

    /// Waits until it has been asked again, and prints how long that took: at most this long.
    pub(crate) async fn recovers(&self, fault: &str, most: Duration) {
        let (began, before) = (Instant::now(), self.backend.requests().len());
        eventually("a request to the backend that works again", || async {
            (self.backend.requests().len() > before).then_some(())
        })
        .await;
        recovered(fault, began.elapsed(), most);
    }
}

/// Prints how long it took until the gateway knew of the fault: at most this long.
pub(crate) fn known(fault: &str, after: Duration, most: Duration) {
    took(fault, "known", after, most);
}

/// Prints how long it took until the backend was used again: at most this long.
pub(crate) fn recovered(fault: &str, after: Duration, most: Duration) {
    took(fault, "in use again", after, most);
}

fn took(fault: &str, what: &str, after: Duration, most: Duration) {
    println!("{fault}: {what} after {:.2} s", after.as_secs_f64());
    assert!(
        after <= most,
        "{fault}: {what} after {after:?}, not {most:?}"
    );
}

/// What the last message asks to be answered.
fn right_answer(body: &[u8]) -> String {
    let body: Value = serde_json::from_slice(body).unwrap();
    let messages = body["messages"].as_array().unwrap();
    let asked = messages.last().unwrap()["content"].as_str().unwrap();
    let directive = asked.strip_prefix("[[sim ").unwrap();
    let script: Value = serde_json::from_str(directive.strip_suffix("]]").unwrap()).unwrap();
    script["steps"][0]["text"].as_str().unwrap().to_owned()
}

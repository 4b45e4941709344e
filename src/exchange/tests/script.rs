//! Scripted backends and a client that remembers what it got and when.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use crate::config::{self, Preset, Timeouts, TurnLimits};
use crate::dialect::llama::{Fault, stream_fault};
use crate::dialect::{Dialect, Meta};
use crate::exchange::{
    ChatConversion, Client, Connection, Connector, Conversion, Downstream, Exchange, Gone, Guards,
    Head, Outcome, Report, UpstreamHead, UpstreamRequest, run,
};
use crate::fleet::tests::{fleet_of, ready};
use crate::fleet::{Backend, Footprint, WhyClosed, Wish};
use crate::guard::intervention::Intervention;
use crate::telemetry::Metrics;
use crate::telemetry::labels::Configured;

/// One attempt's course.
#[derive(Clone, Default)]
pub(super) struct Play {
    refused: bool,
    head_delay: Duration,
    head_broken: bool,
    status: Option<u16>,
    steps: VecDeque<Step>,
}

#[derive(Clone)]
enum Step {
    Wait(Duration),
    Say(String),
    Cut,
}

impl Play {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn refused() -> Self {
        Self {
            refused: true,
            ..Self::default()
        }
    }

    pub(super) fn broken_head(mut self) -> Self {
        self.head_broken = true;
        self
    }

    pub(super) fn wait_head(mut self, delay: Duration) -> Self {
        self.head_delay = delay;
        self
    }

    pub(super) fn status(mut self, status: u16, body: &str) -> Self {
        self.status = Some(status);
        self.raw(body)
    }

    pub(super) fn raw(mut self, text: &str) -> Self {
        self.steps.push_back(Step::Say(text.to_owned()));
        self
    }

    pub(super) fn wait(mut self, time: Duration) -> Self {
        self.steps.push_back(Step::Wait(time));
        self
    }

    pub(super) fn cut(mut self) -> Self {
        self.steps.push_back(Step::Cut);
        self
    }

    /// The body ends properly, whatever was said.
    pub(super) fn clean_end(self) -> Self {
        self
    }

    pub(super) fn role(self) -> Self {
        self.raw("data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":null}}]}\n\n")
    }

    pub(super) fn text(self, text: &str) -> Self {
        let text = serde_json::to_string(text).unwrap();
        self.raw(&format!(
            "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":{text}}}}}]}}\n\n"
        ))
    }

    pub(super) fn thinking(self, text: &str) -> Self {
        let text = serde_json::to_string(text).unwrap();
        self.raw(&format!(
            "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"reasoning_content\":{text}}}}}]}}\n\n"
        ))
    }

    /// A structured call, its arguments in one piece.
    pub(super) fn call(self, name: &str, arguments: &str) -> Self {
        let arguments = serde_json::to_string(arguments).unwrap();
        self.raw(&format!(
            "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"tool_calls\":[{{\"index\":0,\"id\":\"c1\",\"function\":{{\"name\":\"{name}\",\"arguments\":{arguments}}}}}]}}}}]}}\n\n"
        ))
    }

    pub(super) fn comment(self) -> Self {
        self.raw(":\n\n")
    }

    /// What llama-server sends while it has nothing to say: a comment every 30 s.
    pub(super) fn comments_for(mut self, time: Duration) -> Self {
        for _ in 0..time.as_secs() / 30 {
            self = self.wait(Duration::from_secs(30)).comment();
        }
        self
    }

    pub(super) fn finish(self) -> Self {
        self.ends("stop")
    }

    pub(super) fn ends(self, reason: &str) -> Self {
        self.raw(&format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{}},\"finish_reason\":\"{reason}\"}}]}}\n\n"))
            .raw("data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}\n\n")
            .raw("data: [DONE]\n\n")
    }
}

type Shared<T> = Arc<Mutex<T>>;

/// Backends `a`, `b`, … by name, and when the client leaves.
pub(super) struct Script {
    plays: HashMap<String, Play>,
    names: Vec<String>,
    leaves: Option<Duration>,
    hedge: Option<config::Hedge>,
    stuck: Option<Duration>,
    preset: Preset,
    dialect: Dialect,
    start: Instant,
    asked: Shared<Vec<String>>,
    opened: Shared<Vec<Duration>>,
    released: Shared<usize>,
    dropped: Shared<Vec<Duration>>,
}

impl Script {
    pub(super) fn new() -> Self {
        Self {
            plays: HashMap::new(),
            names: Vec::new(),
            leaves: None,
            hedge: None,
            stuck: None,
            preset: Preset::Standard,
            dialect: Dialect::OpenAi,
            start: Instant::now(),
            asked: Arc::default(),
            opened: Arc::default(),
            released: Arc::default(),
            dropped: Arc::default(),
        }
    }

    pub(super) fn on(mut self, name: &str, play: Play) -> Self {
        self.names.push(name.to_owned());
        self.plays.insert(name.to_owned(), play);
        self
    }

    pub(super) fn client_leaves_after(mut self, time: Duration) -> Self {
        self.leaves = Some(time);
        self
    }

    /// A second backend is asked when the first is silent for two seconds: the prompt takes one.
    pub(super) fn hedged(mut self) -> Self {
        self.hedge = Some(config::Hedge {
            share: 1.0,
            factor: 2.0,
            after: Duration::from_secs(2),
        });
        self
    }

    /// The watchdog has everything closed that has been silent for a second then.
    pub(super) fn stuck_after(mut self, time: Duration) -> Self {
        self.stuck = Some(time);
        self
    }

    pub(super) fn preset(mut self, preset: Preset) -> Self {
        self.preset = preset;
        self
    }

    /// The client's dialect. Requests are written as OpenAI's in any case: what follows is neutral.
    pub(super) fn dialect(mut self, dialect: Dialect) -> Self {
        self.dialect = dialect;
        self
    }

    /// Bodies the backends were sent.
    pub(super) fn bodies(&self) -> Shared<Vec<String>> {
        Arc::clone(&self.asked)
    }

    /// When they were.
    pub(super) fn opened(&self) -> Shared<Vec<Duration>> {
        Arc::clone(&self.opened)
    }

    /// Connections given back.
    pub(super) fn released(&self) -> Shared<usize> {
        Arc::clone(&self.released)
    }

    /// When connections were dropped instead.
    pub(super) fn dropped(&self) -> Shared<Vec<Duration>> {
        Arc::clone(&self.dropped)
    }

    pub(super) async fn run(mut self, body: &str) -> (Outcome, Recorded) {
        let list: Vec<_> = self
            .names
            .iter()
            .zip(1..)
            .map(|(name, port)| format!("{{name: {name}, url: 'http://127.0.0.1:{port}'}}"))
            .collect();
        let fleet = fleet_of(&list.join(", "));
        ready(&fleet);
        if let Some(time) = self.stuck {
            let fleet = Arc::clone(&fleet);
            tokio::spawn(async move {
                sleep(time).await;
                let since = Instant::now() - Duration::from_secs(1);
                for backend in fleet.backends() {
                    backend.close_if_silent_since(since, WhyClosed::Stuck);
                }
            });
        }
        let (pool, _) = fleet.resolve("m").unwrap();
        pool.has_read(pool.backends()[0].id(), 1000, Duration::from_secs(1));
        let wish = Wish {
            footprint: Some(Footprint {
                prompt: 1000,
                output: 10,
            }),
            ..Wish::default()
        };
        // Whoever is asked first plays the first part.
        let order = std::mem::take(&mut self.names);
        let asked = Mutex::new(order.into_iter());
        let timeouts = Timeouts::default();
        let start = Instant::now();
        self.start = start;
        let turn = Dialect::OpenAi.decode(body.as_bytes()).unwrap();
        let stream = turn.stream;
        let meta = Meta {
            id: "1".into(),
            created: 1,
            model: "m".into(),
        };
        let guards = Guards::new(self.preset, &config::Guard::default());
        let mut conversion = ChatConversion::new(self.dialect, turn, meta, guards);
        let recorder = Recorder {
            recorded: Recorded::default(),
            start,
            leaves: self.leaves,
        };
        let shared = Arc::new(Mutex::new(recorder));
        let mut client = Client::new(Handle(Arc::clone(&shared)), stream, &timeouts);
        let exchange = Exchange {
            connector: &Stage {
                script: &self,
                asked,
            },
            pool: &pool,
            wish: &wish,
            explain: &|_| {},
            hedge: self.hedge.as_ref(),
            timeouts: &timeouts,
            limits: &TurnLimits::default(),
            gaps: &Metrics::new().unwrap().gaps(Configured::NONE, None),
            trace: None,
            leases: None,
        };
        let outcome = run(&exchange, &mut client, &mut conversion).await;
        let mut recorded = shared.lock().recorded.clone();
        recorded.interventions = conversion.interventions().to_vec();
        recorded.report = conversion.report();
        (outcome, recorded)
    }
}

struct Stage<'a> {
    script: &'a Script,
    asked: Mutex<std::vec::IntoIter<String>>,
}

impl Connector for Stage<'_> {
    type Connection = Playing;

    async fn open(&self, _: &Backend, request: &UpstreamRequest) -> Result<Playing, Fault> {
        let body = String::from_utf8(request.body.to_vec()).unwrap();
        self.script.asked.lock().push(body);
        self.script.opened.lock().push(self.script.start.elapsed());
        let name = self.asked.lock().next().unwrap();
        let play = self.script.plays[&name].clone();
        if play.refused {
            let error = crate::turn::TurnError::NoBackend {
                pool: "p".into(),
                detail: "refused".into(),
                retry_after: Duration::from_secs(2),
            };
            return Err(Fault::Transient(error));
        }
        Ok(Playing {
            play,
            start: self.script.start,
            resume: None,
            released: Some(Arc::clone(&self.script.released)),
            dropped: Arc::clone(&self.script.dropped),
        })
    }
}

struct Playing {
    play: Play,
    start: Instant,
    /// End of a wait that was begun: reading is cancel-safe.
    resume: Option<Instant>,
    released: Option<Shared<usize>>,
    dropped: Shared<Vec<Duration>>,
}

impl Drop for Playing {
    fn drop(&mut self) {
        if self.released.is_some() {
            self.dropped.lock().push(self.start.elapsed());
        }
    }
}

impl Connection for Playing {
    async fn head(&mut self) -> Result<UpstreamHead, Fault> {
        sleep(self.play.head_delay).await;
        if self.play.head_broken {
            return Err(stream_fault("closed before the head"));
        }
        Ok(UpstreamHead {
            status: self.play.status.unwrap_or(200),
            retry_after: None,
        })
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>, Fault> {
        loop {
            match self.play.steps.front() {
                None => return Ok(None),
                Some(Step::Cut) => return Err(stream_fault("cut")),
                Some(Step::Wait(time)) => {
                    let until = *self.resume.get_or_insert(Instant::now() + *time);
                    tokio::time::sleep_until(until).await;
                    self.resume = None;
                    self.play.steps.pop_front();
                }
                Some(Step::Say(text)) => {
                    let bytes = Bytes::from(text.clone());
                    self.play.steps.pop_front();
                    return Ok(Some(bytes));
                }
            }
        }
    }

    async fn release(mut self) {
        if let Some(released) = self.released.take() {
            *released.lock() += 1;
        }
    }
}

/// What a client got.
#[derive(Clone, Default)]
pub(super) struct Recorded {
    pub(super) head: Option<Head>,
    /// Body pieces and when they came, counted from the request.
    pub(super) pieces: Vec<(Duration, String)>,
    pub(super) ended: bool,
    pub(super) interventions: Vec<Intervention>,
    pub(super) report: Report,
}

impl Recorded {
    pub(super) fn text(&self) -> String {
        self.pieces.iter().map(|(_, text)| text.as_str()).collect()
    }

    /// When a piece with this text came.
    pub(super) fn when(&self, text: &str) -> Duration {
        self.pieces
            .iter()
            .find(|(_, piece)| piece.contains(text))
            .unwrap()
            .0
    }
}

struct Recorder {
    recorded: Recorded,
    start: Instant,
    leaves: Option<Duration>,
}

struct Handle(Shared<Recorder>);

impl Downstream for Handle {
    async fn head(&mut self, head: Head) -> Result<(), Gone> {
        let mut recorder = self.0.lock();
        assert!(recorder.recorded.head.is_none(), "committed twice");
        recorder.recorded.head = Some(head);
        Ok(())
    }

    async fn body(&mut self, data: Bytes, end: bool) -> Result<(), Gone> {
        let mut recorder = self.0.lock();
        assert!(recorder.recorded.head.is_some() && !recorder.recorded.ended);
        let at = recorder.start.elapsed();
        if !data.is_empty() {
            let text = String::from_utf8(data.to_vec()).unwrap();
            recorder.recorded.pieces.push((at, text));
        }
        recorder.recorded.ended = end;
        Ok(())
    }

    async fn gone(&mut self) -> Gone {
        let until = {
            let recorder = self.0.lock();
            recorder.leaves.map(|after| recorder.start + after)
        };
        match until {
            Some(until) => tokio::time::sleep_until(until).await,
            None => std::future::pending().await,
        }
        Gone
    }
}

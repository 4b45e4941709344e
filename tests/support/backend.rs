//! A scripted llama-server on raw TCP.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep};

use super::checks::{Check, Health};
use super::http::{Headers, Reader};
use super::recorded::{Record, Recorded};
use super::script::{Reply, Step};
use super::wait::eventually;

/// Backends answer health checks and notice cancellations while a test is busy with its own work.
static OWN_THREAD: LazyLock<Runtime> = LazyLock::new(|| {
    Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
});

/// Makes an answer of a request's body.
type Script = Arc<dyn Fn(&[u8]) -> Reply + Send + Sync>;

/// A model played by a script.
#[derive(Clone)]
struct Model {
    script: Script,
    /// Whether the bodies it has seen are kept.
    keeps: bool,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Model")
    }
}

/// See the module's documentation. Stops when dropped.
#[derive(Debug)]
pub(crate) struct Backend {
    addr: SocketAddr,
    shared: Arc<Shared>,
    listening: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    record: Record,
    once: Mutex<VecDeque<Reply>>,
    always: Mutex<Reply>,
    /// Answers by what is asked.
    model: Mutex<Option<Model>>,
    health: Mutex<Health>,
    connections: AtomicUsize,
}

impl Backend {
    /// One that answers every request with a short text.
    pub(crate) async fn start() -> Self {
        Self::replying(Reply::says(&["Hello", " there", "!"])).await
    }

    /// One that answers every request with `reply`.
    pub(crate) async fn replying(reply: Reply) -> Self {
        Self::listening(([127, 0, 0, 1], 0).into(), reply)
    }

    /// So many on one port, each at a loopback address of its own.
    pub(crate) async fn on_one_port(count: u8) -> Vec<Self> {
        let reply = || Reply::says(&["Hello", " there", "!"]);
        let first = Self::listening(([127, 0, 0, 2], 0).into(), reply());
        let port = first.addr.port();
        let others = (1..count).map(|n| ([127, 0, 0, 2 + n], port).into());
        let others: Vec<Self> = others.map(|addr| Self::listening(addr, reply())).collect();
        std::iter::once(first).chain(others).collect()
    }

    fn listening(addr: SocketAddr, reply: Reply) -> Self {
        let listener = std::net::TcpListener::bind(addr).unwrap();
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            record: Record::default(),
            once: Mutex::default(),
            always: Mutex::new(reply),
            model: Mutex::default(),
            health: Mutex::new(Health::Ok),
            connections: AtomicUsize::new(0),
        });
        let listening = OWN_THREAD
            .spawn(listen(listener, Arc::clone(&shared)))
            .abort_handle();
        Self {
            addr,
            shared,
            listening,
        }
    }

    /// A further POST is answered so, once; several queue up.
    pub(crate) fn then(&self, reply: Reply) -> &Self {
        self.shared.once.lock().push_back(reply);
        self
    }

    /// From now on every POST is answered so.
    pub(crate) fn always(&self, reply: Reply) {
        *self.shared.always.lock() = reply;
    }

    /// From now on POSTs are answered by what they ask; their bodies are kept if `keeps`.
    pub(crate) fn plays(
        &self,
        keeps: bool,
        script: impl Fn(&[u8]) -> Reply + Send + Sync + 'static,
    ) {
        let script = Arc::new(script);
        *self.shared.model.lock() = Some(Model { script, keeps });
    }

    /// From now on GETs are answered so.
    pub(crate) fn set_health(&self, health: Health) {
        *self.shared.health.lock() = health;
    }

    /// Die: no more connections, and the open ones are cut when this returns.
    pub(crate) async fn kill(&self) {
        self.listening.abort();
        let alone = || async { (Arc::strong_count(&self.shared) == 1).then_some(()) };
        eventually("the death of a backend", alone).await;
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://127.0.0.1:…`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The POSTs so far.
    pub(crate) fn requests(&self) -> Vec<Recorded> {
        self.shared.record.all()
    }

    /// Wait for the POST of this number, counted from 0.
    pub(crate) async fn request(&self, index: usize) -> Recorded {
        let what = format!("request {index} at the backend");
        self.shared
            .record
            .when(&what, |all| all.get(index).cloned())
            .await
    }

    /// Wait until the peer has closed the connection under request `index`.
    pub(crate) async fn cancelled(&self, index: usize) -> Instant {
        let what = format!("the end of request {index} at the backend");
        self.shared
            .record
            .when(&what, |all| all.get(index)?.cancelled)
            .await
    }

    /// Wait until `count` POSTs have been cancelled.
    pub(crate) async fn all_cancelled(&self, count: usize) {
        let cancelled = |all: &[Recorded]| all.iter().filter(|r| r.cancelled.is_some()).count();
        let enough = |all: &[Recorded]| (cancelled(all) >= count).then_some(());
        self.shared
            .record
            .when("the end of all requests at the backend", enough)
            .await;
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// A port nothing listens on.
pub(crate) async fn dead_url() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

async fn listen(listener: std::net::TcpListener, shared: Arc<Shared>) {
    let listener = TcpListener::from_std(listener).unwrap();
    // Dropped with this task, and the connections with it.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        connections.spawn(serve(stream, Arc::clone(&shared)));
        while connections.try_join_next().is_some() {}
    }
}

struct Connection {
    reader: Reader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

/// What is to happen with a connection after a request.
#[derive(PartialEq, Eq)]
enum After {
    Next,
    Close,
    Reset,
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let (read, writer) = stream.into_split();
    let mut connection = Connection {
        reader: Reader::new(read),
        writer,
    };
    let mut number = None;
    while let Ok(Some((line, headers))) = connection.reader.head().await {
        let target = line.split(' ').nth(1).unwrap_or_default();
        let after = match Check::find(target) {
            Some(check) => connection.check(&shared, check, &headers).await,
            None => {
                let count = || shared.connections.fetch_add(1, Ordering::Relaxed);
                let number = *number.get_or_insert_with(count);
                connection.scripted(&shared, number, line, headers).await
            }
        };
        match after.unwrap_or(After::Close) {
            After::Next => {}
            After::Close => return,
            After::Reset => {
                if let Ok(stream) = connection.reader.into_inner().reunite(connection.writer) {
                    let _ = stream.set_zero_linger();
                }
                return;
            }
        }
    }
}

impl Connection {
    async fn check(
        &mut self,
        shared: &Shared,
        check: Check,
        headers: &Headers,
    ) -> io::Result<After> {
        let body = self.reader.body(headers).await?;
        let health = *shared.health.lock();
        play(&mut self.writer, check.answer(health, &body)).await
    }

    async fn scripted(
        &mut self,
        shared: &Shared,
        connection: usize,
        line: String,
        headers: Headers,
    ) -> io::Result<After> {
        let reply = shared
            .once
            .lock()
            .pop_front()
            .unwrap_or_else(|| shared.always.lock().clone());
        if headers.get("expect").is_some() {
            self.writer
                .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")
                .await?;
        }
        let model = shared.model.lock().clone();
        let early = reply.early && model.is_none();
        let body = if early {
            Default::default()
        } else {
            self.reader.body(&headers).await?
        };
        let (reply, body) = match model {
            None => (reply, body),
            Some(model) if model.keeps => ((model.script)(&body), body),
            Some(model) => ((model.script)(&body), Default::default()),
        };
        let request = Recorded {
            connection,
            line,
            headers,
            body,
            cancelled: None,
            answered: false,
        };
        let index = shared.record.add(request);
        let Self { reader, writer } = self;
        let cancelled = async {
            // A client that speaks one request at a time sends nothing more; reading tells its end.
            // With an early answer the unread body comes first.
            while early || reader.is_empty() {
                match reader.fill().await {
                    Ok(true) if early => reader.discard(),
                    Ok(true) => {}
                    _ => return,
                }
            }
            std::future::pending().await
        };
        let after = tokio::select! {
            biased;
            after = play(writer, reply) => after.ok(),
            () = cancelled => None,
        };
        shared.record.update(index, |request| match after {
            Some(_) => request.answered = true,
            // The peer has closed, seen in reading or in writing.
            None => request.cancelled = Some(Instant::now()),
        });
        Ok(after.filter(|_| !early).unwrap_or(After::Close))
    }
}

async fn play(writer: &mut OwnedWriteHalf, reply: Reply) -> io::Result<After> {
    for step in reply.steps {
        match step {
            Step::Send(bytes) => writer.write_all(&bytes).await?,
            Step::Pause(length) => sleep(length).await,
            Step::Gate(gate) => gate.opened().await,
            Step::Hang => std::future::pending().await,
            Step::Close => return Ok(After::Close),
            Step::Reset => return Ok(After::Reset),
        }
    }
    Ok(After::Next)
}

//! The gateway as a process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};

use super::client::Client;
use super::config::Setup;
use super::h2c::H2;
use super::request::{Request, get, post};
use super::response::Response;
use super::wait::{eventually, patiently};

/// The binary under test.
pub(crate) const DROVER: &str = env!("CARGO_BIN_EXE_drover");

/// A running `drover serve`; killed when dropped.
#[derive(Debug)]
pub(crate) struct Gateway {
    /// Where clients connect.
    pub(crate) addr: SocketAddr,
    /// Metrics, readiness, admin API.
    pub(crate) admin: SocketAddr,
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    dir: TempDir,
}

impl Setup {
    /// Start, and wait until requests would be served.
    pub(crate) async fn start(self) -> Gateway {
        self.start_when("/readyz").await
    }

    /// Start, and wait until the process answers; its backends need not.
    pub(crate) async fn start_unready(self) -> Gateway {
        self.start_when("/livez").await
    }

    /// Start with `--upgrade`, and wait until it serves in place of the process before.
    pub(crate) async fn succeed(self) -> Gateway {
        let gateway = self.spawn(&["--upgrade"]).await;
        eventually("the successor serves", || async {
            let log = gateway.log().join("\n");
            log.contains("in place of the process before").then_some(())
        })
        .await;
        gateway
    }

    /// Start with further arguments, and wait until requests would be served.
    pub(crate) async fn start_with(self, args: &[&str]) -> Gateway {
        self.start_ready(args, "/readyz").await
    }

    async fn start_when(self, probe: &str) -> Gateway {
        self.start_ready(&[], probe).await
    }

    async fn start_ready(self, args: &[&str], probe: &str) -> Gateway {
        let gateway = self.spawn(args).await;
        eventually(&format!("{probe} of the gateway"), || async {
            let response = gateway.admin_get(probe).await;
            (response.status == 200).then_some(())
        })
        .await;
        gateway
    }

    async fn spawn(self, args: &[&str]) -> Gateway {
        let dir = tempfile::tempdir().unwrap();
        let file = write(dir.path(), &self);
        let mut child = Command::new(DROVER)
            .args(["serve", "--config"])
            .arg(&file)
            .args(args)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the binary starts");
        let log = Arc::new(Mutex::new(Vec::new()));
        collect(child.stdout.take().unwrap(), Arc::clone(&log));
        collect(child.stderr.take().unwrap(), Arc::clone(&log));
        let (addr, admin) = addresses(&mut child, &log).await;
        Gateway {
            addr,
            admin,
            child,
            log,
            dir,
        }
    }
}

/// Where the process says that it listens, for clients and for admins. It chooses the ports: one
/// chosen here could be another test's by the time it is used.
async fn addresses(child: &mut Child, log: &Mutex<Vec<String>>) -> (SocketAddr, SocketAddr) {
    let mut ended = || child.try_wait().unwrap();
    eventually("the addresses of the gateway", || {
        let end = ended();
        let lines = log.lock();
        if let Some(status) = end {
            panic!("the gateway ended with {status}:\n{}", lines.join("\n"));
        }
        let line = lines.iter().find(|line| line.contains("\"starting\""));
        let line = line.map(|line| serde_json::from_str::<Value>(line).unwrap());
        let addr = |field| line.as_ref()?[field].as_str()?.parse().ok();
        std::future::ready(addr("listen").zip(addr("admin")))
    })
    .await
}

/// Puts the configuration into the directory in one step, as careful editors do.
fn write(dir: &Path, setup: &Setup) -> PathBuf {
    let mut setup = setup.clone();
    // Only a process that takes over from another one names its addresses.
    if setup.config.get("listen").is_none() {
        setup = setup
            .set("listen", json!(["127.0.0.1:0"]))
            .set("admin.addr", json!("127.0.0.1:0"));
    }
    let config = setup.config;
    let (file, new) = (dir.join("drover.yaml"), dir.join("new.yaml"));
    std::fs::write(&new, config.to_string()).unwrap();
    std::fs::rename(new, &file).unwrap();
    file
}

fn collect(output: impl AsyncRead + Unpin + Send + 'static, log: Arc<Mutex<Vec<String>>>) {
    tokio::spawn(async move {
        let mut lines = BufReader::new(output).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            log.lock().push(line);
        }
    });
}

impl Gateway {
    /// A fresh connection.
    pub(crate) async fn connect(&self) -> Client {
        Client::connect(self.addr).await
    }

    /// A fresh HTTP/2 connection.
    pub(crate) async fn connect_h2(&self) -> H2 {
        H2::connect(self.addr).await
    }

    /// A request on a connection of its own.
    pub(crate) async fn ask(&self, request: &Request) -> Response {
        self.connect().await.ask(request).await
    }

    /// GET on the admin address.
    pub(crate) async fn admin_get(&self, path: &str) -> Response {
        Client::connect(self.admin)
            .await
            .ask(&admin(get(path), self.admin))
            .await
    }

    /// POST without a body on the admin address.
    pub(crate) async fn admin_post(&self, path: &str) -> Response {
        Client::connect(self.admin)
            .await
            .ask(&admin(post(path, ""), self.admin))
            .await
    }

    /// The sum of a metric's samples whose line contains `labels`.
    pub(crate) async fn metric(&self, name: &str, labels: &str) -> f64 {
        let text = self.admin_get("/metrics").await.text();
        let samples = text.lines().filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with([' ', '{'])) && line.contains(labels)
        });
        samples
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// Wait until no request is in flight, neither here nor at a backend.
    pub(crate) async fn idle(&self) {
        eventually("no request in flight", || async {
            let ready = self.admin_get("/readyz").await.json();
            let inflight = self.metric("drover_inflight", "").await;
            (ready["in_flight"] == 0 && inflight == 0.0).then_some(())
        })
        .await;
    }

    /// Wait until `/api/backends` says that backend `id` is in `state`.
    pub(crate) async fn backend_is(&self, id: &str, state: &str) {
        eventually(&format!("backend {id} is {state}"), || async {
            let backends = self.admin_get("/api/backends").await.json();
            let listed = backends["backends"].as_array()?;
            listed
                .iter()
                .any(|b| b["id"] == id && b["state"] == state)
                .then_some(())
        })
        .await;
    }

    /// Wait until backend `id` gets requests, busy or not.
    pub(crate) async fn backend_serves(&self, id: &str) {
        eventually(&format!("backend {id} serves"), || async {
            let backends = self.admin_get("/api/backends").await.json();
            let mut listed = backends["backends"].as_array()?.iter();
            listed
                .any(|b| b["id"] == id && b["available"] == true)
                .then_some(())
        })
        .await;
    }

    /// What the process has logged so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().clone()
    }

    /// Wait until a line of the log has all of this: lines are read a little after what they tell of can be seen.
    pub(crate) async fn logs(&self, parts: &[&str]) -> String {
        let what = format!("{parts:?} in the log");
        eventually(&what, || async {
            let mut lines = self.log().into_iter();
            lines.find(|line| parts.iter().all(|part| line.contains(part)))
        })
        .await
    }

    /// Wait for the access line of the request with this id.
    pub(crate) async fn access_line(&self, request_id: &str) -> Value {
        eventually(&format!("the access line of {request_id}"), || async {
            let log = self.log();
            let lines = log
                .iter()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok());
            lines
                .into_iter()
                .find(|line| line["request_id"] == request_id && line["outcome"].is_string())
        })
        .await
    }

    /// Replace the configuration file; the process does not know yet.
    pub(crate) fn write(&self, setup: &Setup) {
        write(self.dir.path(), setup);
    }

    /// Ask the process to load its configuration anew.
    pub(crate) async fn hangup(&self) {
        self.signal("-HUP").await;
    }

    /// Ask the process to end gracefully.
    pub(crate) async fn terminate(&self) {
        self.signal("-TERM").await;
    }

    /// End the process in the middle of whatever it does.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    async fn signal(&self, signal: &str) {
        let pid = self.child.id().expect("the gateway runs").to_string();
        let sent = Command::new("kill")
            .args([signal, &pid])
            .status()
            .await
            .unwrap();
        assert!(sent.success());
    }

    /// Wait until the process has ended.
    pub(crate) async fn exited(&mut self) -> ExitStatus {
        patiently("the end of the gateway", self.child.wait())
            .await
            .unwrap()
    }
}

/// The admin address answers loopback names only.
fn admin(request: Request, addr: SocketAddr) -> Request {
    request.host(&addr.to_string())
}

//! The gateway and the simulated backend, as processes of their own.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

/// A process that ends with its value.
pub struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // Failing means that it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    /// Processor time used so far, user and system (`proc_pid_stat(5)`, fields 14 and 15, in ticks of 10 ms).
    pub fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap_or_default();
        let fields = stat.rsplit(") ").next().unwrap_or_default();
        let ticks = fields.split(' ').skip(11).take(2);
        let ticks: u64 = ticks.filter_map(|t| t.parse::<u64>().ok()).sum();
        Duration::from_millis(10 * ticks)
    }
}

/// Backend and gateway, ready to answer.
pub struct Fleet {
    /// Address of the backend.
    pub direct: SocketAddr,
    /// Address of the gateway.
    pub through: SocketAddr,
    /// The gateway.
    pub gateway: Process,
    _sim: Process,
    _state: State,
}

/// A directory that goes with its value.
struct State(PathBuf);

impl Drop for State {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Starts a simulated backend with answers of two tokens and no waits, and the gateway before it.
pub fn start(binary: &Path) -> io::Result<Fleet> {
    let state = State(std::env::temp_dir().join(format!("drover-bench-{}", std::process::id())));
    fs::create_dir_all(&state.0)?;
    let rules = state.0.join("rules.json");
    let short = json!([{"script": {"steps": [{"text": "Done."}], "repeat": true}}]);
    fs::write(&rules, short.to_string())?;
    let (sim, direct) = start_sim(binary, &rules)?;

    let (through, admin) = (free_address()?, free_address()?);
    let config = state.0.join("drover.yaml");
    let document = json!({
        "listen": [through.to_string()],
        "admin": {"addr": admin.to_string()},
        "fleet": {"pools": [{
            "name": "default", "models": ["*"], "backends": [{"url": format!("http://{direct}")}],
        }]},
    });
    fs::write(&config, document.to_string())?;
    // The access log is part of what a request costs.
    let log = fs::File::create(state.0.join("drover.log"))?;
    let gateway = Command::new(binary)
        .args(["serve", "--config"])
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .map(Process)?;
    wait_ready(through)?;
    Ok(Fleet {
        direct,
        through,
        gateway,
        _sim: sim,
        _state: state,
    })
}

/// It says on standard error which port it got.
fn start_sim(binary: &Path, rules: &Path) -> io::Result<(Process, SocketAddr)> {
    let mut child = Command::new(binary)
        .args([
            "sim",
            "--listen",
            "127.0.0.1:0",
            "--ctx",
            "1000000",
            "--rules",
        ])
        .arg(rules)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let errors = child.stderr.take();
    let sim = Process(child);
    let mut line = String::new();
    BufReader::new(errors.ok_or(io::ErrorKind::BrokenPipe)?).read_line(&mut line)?;
    let addr = line.trim().rsplit("http://").next().map(str::parse);
    match addr {
        Some(Ok(addr)) => Ok((sim, addr)),
        _ => Err(io::Error::other(format!(
            "the simulated backend said: {line}"
        ))),
    }
}

fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

fn wait_ready(addr: SocketAddr) -> io::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        if healthy(addr).unwrap_or(false) {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(50));
    }
    Err(io::Error::new(
        io::ErrorKind::TimedOut,
        "the gateway did not become ready",
    ))
}

fn healthy(addr: SocketAddr) -> io::Result<bool> {
    use std::io::Write as _;
    let mut stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(
        format!("GET /health HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(line.contains(" 200 "))
}

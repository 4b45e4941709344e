use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::*;
use crate::fleet::BackendState;
use crate::fleet::probe::{Reply, Unanswered};

/// Answers every check, and remembers who was asked.
#[derive(Default)]
struct Asked(Mutex<BTreeSet<String>>);

impl Asked {
    async fn within(&self, time: Duration) -> Vec<String> {
        self.0.lock().clear();
        sleep(time).await;
        std::mem::take(&mut *self.0.lock()).into_iter().collect()
    }
}

#[async_trait]
impl Probe for Asked {
    async fn get(&self, backend: &Backend, _: &str) -> Result<Reply, Unanswered> {
        self.0.lock().insert(backend.id().to_string());
        let body = bytes::Bytes::from_static(b"{}");
        Ok(Reply { status: 200, body })
    }

    async fn post(
        &self,
        backend: &Backend,
        path_and_query: &str,
        _: bytes::Bytes,
    ) -> Result<Reply, Unanswered> {
        self.get(backend, path_and_query).await
    }
}

/// Its hung streams would never be closed.
#[tokio::test(start_paused = true)]
async fn one_that_leaves_is_watched_until_its_last_request_has_ended() {
    let of = |backends: &str| {
        let text = format!("fleet: {{pools: [{{name: p, models: [m], backends: [{backends}]}}]}}");
        config::parse(&text, std::iter::empty()).unwrap()
    };
    let a = "{name: a, url: 'http://127.0.0.1:1'}";
    let b = |weight: u32| format!("{{name: b, url: 'http://127.0.0.1:2', weight: {weight}}}");
    let fleet = Fleet::new(&of(&format!("{a}, {}", b(1)))).unwrap();
    let asked = Arc::new(Asked::default());
    let service = HealthService {
        probe: Arc::clone(&asked) as _,
        ..HealthService::new(fleet.clone())
    };
    let running = tokio::spawn(async move { service.run(|| {}).await });
    let long = Duration::from_secs(30);
    assert_eq!(asked.within(long).await, ["a", "b"]);
    let pool = fleet.pool("p").unwrap();
    let lease = pool.select(&["b".into()]).unwrap();
    for weight in [2, 3] {
        let prepared = fleet.prepare(&of(&b(weight))).await.unwrap();
        fleet.commit(prepared);
        assert_eq!(asked.within(long).await, ["a", "b"]);
    }
    drop(lease);
    sleep(long).await;
    assert_eq!(asked.within(long).await, ["b"]);
    running.abort();
}

/// A backend that is well as far as `/health` goes, and knows nothing else.
async fn serve(listener: TcpListener) {
    while let Ok((mut socket, _)) = listener.accept().await {
        let mut head = [0; 2048];
        let n = socket.read(&mut head).await.unwrap();
        let status = match head[..n].starts_with(b"GET /health ") {
            true => "200 OK",
            false => "404 Not Found",
        };
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\n{{}}");
        socket.write_all(answer.as_bytes()).await.unwrap();
    }
}

#[tokio::test]
async fn ready_when_every_backend_was_checked_once_even_if_one_is_down() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let up = listener.local_addr().unwrap().port();
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let down = unused.local_addr().unwrap().port();
    drop(unused);
    tokio::spawn(serve(listener));
    let text = format!(
        "fleet: {{pools: [{{name: p, models: [m], backends: [{{name: up, url: 'http://localhost:{up}'}}, \
         {{name: down, url: 'http://127.0.0.1:{down}'}}]}}]}}"
    );
    let config = config::parse(&text, std::iter::empty()).unwrap();
    let fleet = Fleet::new(&config).unwrap();
    let service = HealthService::new(fleet.clone());
    let (tell, told) = oneshot::channel();
    let running = tokio::spawn(async move {
        service
            .run(|| {
                let _ = tell.send(());
            })
            .await;
    });
    timeout(Duration::from_secs(10), told)
        .await
        .unwrap()
        .unwrap();
    assert!(fleet.checked_once());
    assert_eq!(fleet.backend("up").unwrap().state(), BackendState::Ready);
    assert_eq!(fleet.backend("down").unwrap().state(), BackendState::Down);
    let lease = fleet.pool("p").unwrap().select(&[]).unwrap();
    assert_eq!(lease.id().as_str(), "up");
    running.abort();
}

/// Dies of its second question, and again of the first one after that.
#[derive(Default)]
struct Fragile(AtomicUsize);

#[async_trait]
impl Probe for Fragile {
    async fn get(&self, _: &Backend, path: &str) -> Result<Reply, Unanswered> {
        let asked = self.0.fetch_add(1, Ordering::Relaxed);
        assert!(!matches!(asked, 1 | 2), "as was to be shown");
        Ok(Reply {
            status: if path == "/health" { 200 } else { 404 },
            body: "{}".into(),
        })
    }

    async fn post(&self, _: &Backend, _: &str, _: Bytes) -> Result<Reply, Unanswered> {
        unreachable!("nothing is sent")
    }
}

/// Regression: it was logged, and nobody looked at the backend any more, nor was the gateway ever ready.
#[tokio::test(start_paused = true)]
async fn a_backend_whose_watcher_has_died_is_watched_again() {
    let text = "fleet: {pools: [{name: p, models: [m], backends: [{name: a, url: 'http://127.0.0.1:1'}]}]}";
    let config = config::parse(text, std::iter::empty()).unwrap();
    let fleet = Fleet::new(&config).unwrap();
    let service = HealthService {
        probe: Arc::new(Fragile::default()),
        ..HealthService::new(fleet.clone())
    };
    let (tell, told) = oneshot::channel();
    let running = tokio::spawn(async move {
        service.run(|| tell.send(()).unwrap()).await;
    });
    timeout(3 * AGAIN_AFTER, told).await.unwrap().unwrap();
    assert_eq!(fleet.backend("a").unwrap().state(), BackendState::Ready);
    running.abort();
}

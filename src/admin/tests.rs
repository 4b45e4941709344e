use super::*;
use crate::config::KvLayout;
use crate::fleet::Fleet;
use http::header::{ALLOW, AUTHORIZATION, HOST, ORIGIN, WWW_AUTHENTICATE};
use once_cell::sync::Lazy;
use parking_lot::Mutex;
use serde_json::Value;

static METRICS: Lazy<Metrics> = Lazy::new(|| Metrics::new().unwrap());

struct TwoBackends {
    backends: Mutex<Vec<BackendView>>,
    checked: bool,
}

impl FleetView for TwoBackends {
    fn backends(&self) -> Vec<BackendView> {
        self.backends.lock().clone()
    }
    fn checked_once(&self) -> bool {
        self.checked
    }
    fn findings(&self, ledger: &Ledger) -> Vec<crate::spec::Finding> {
        ledger.findings(&crate::spec::Limits::default())
    }
    fn place(&self, id: &str) -> Option<crate::spec::Place> {
        let known = self.backends.lock().iter().any(|b| b.id == id);
        known.then(|| crate::spec::Place::new("default", id, "none", "b1"))
    }
    fn speculation(&self) -> Vec<crate::admin::view::SpecView> {
        Vec::new()
    }
    fn explain(&self, _: &str) -> Option<crate::fleet::Explained> {
        None
    }
    fn set_draining(&self, id: &str, draining: bool) -> bool {
        let mut backends = self.backends.lock();
        let found = backends.iter_mut().find(|b| b.id == id);
        found
            .map(|b| {
                b.draining = draining;
                b.available = b.state == "ready" && !draining;
            })
            .is_some()
    }
}

fn backend(id: &str, state: &'static str) -> BackendView {
    BackendView {
        id: id.to_owned(),
        pool: "default".to_owned(),
        address: id.to_owned(),
        state,
        trouble: None,
        draining: false,
        leaving: false,
        ejected: false,
        available: state == "ready",
        inflight: 0,
        weight: 1,
        preset: None,
        profile: None,
        speculative: None,
        build: None,
        model: None,
        template: crate::fleet::Template::default(),
        n_ctx: None,
        kv: KvLayout::Auto,
        kv_tokens: None,
        kv_held: 0,
        total_slots: None,
        other_slots: 0,
        idle_slots: None,
        kv_used: None,
    }
}

fn state(checked: bool, states: [&'static str; 2]) -> State {
    let backends = vec![backend("gpu0", states[0]), backend("h:8082", states[1])];
    State {
        audit: None,
        config: Arc::new(ArcSwap::from_pointee(Config::default())),
        reload: None,
        fleet: Arc::new(TwoBackends {
            backends: Mutex::new(backends),
            checked,
        }),
        sessions: Sessions::new(&Config::default().limits),
        inflight: Inflight::new(),
        requests: Recent::new(10),
        spec: Arc::default(),
        rollouts: rollouts(),
        metrics: &METRICS,
    }
}

fn rollouts() -> Arc<Rollouts> {
    let config = Config::default();
    let store = crate::store::open(&config.store).unwrap();
    Rollouts::new(
        store,
        Fleet::new(&config).unwrap(),
        Arc::default(),
        &METRICS,
    )
}

fn admin(checked: bool, states: [&'static str; 2]) -> Admin {
    Admin::new("127.0.0.1".parse().unwrap(), None, state(checked, states)).unwrap()
}

fn respond(admin: &Admin, method: &Method, path: &str, headers: &HeaderMap) -> Reply {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime
        .unwrap()
        .block_on(admin.respond(method, path, headers, b""))
}

fn ask(admin: &Admin, method: Method, path: &str) -> (StatusCode, Value) {
    let mut headers = HeaderMap::new();
    headers.insert(HOST, "127.0.0.1:9090".parse().unwrap());
    let reply = respond(admin, &method, path, &headers);
    let body = serde_json::from_slice(reply.body()).unwrap_or(Value::Null);
    (reply.status(), body)
}

#[test]
fn ready_needs_every_first_check_and_one_ready_backend() {
    let readyz = |checked, states| ask(&admin(checked, states), Method::GET, "/readyz");
    let (status, body) = readyz(true, ["ready", "down"]);
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(body["backends_ready"], 1);

    let (status, body) = readyz(false, ["ready", "unknown"]);
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(body["reasons"][0], "not every backend has been checked yet");

    let (status, body) = readyz(true, ["loading", "down"]);
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(body["reasons"][0], "no backend is ready");
}

#[test]
fn a_draining_process_is_live_but_not_ready() {
    let admin = admin(true, ["ready", "ready"]);
    let _request = admin.state.inflight.enter();
    admin.state.inflight.begin_drain();
    let (status, body) = ask(&admin, Method::GET, "/readyz");
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(body["reasons"][0], "the process is draining");
    assert_eq!(body["in_flight"], 1);
    assert_eq!(ask(&admin, Method::GET, "/livez").0, StatusCode::OK);
}

#[test]
fn draining_every_backend_makes_it_unready_and_undraining_ready_again() {
    let admin = admin(true, ["ready", "ready"]);
    let (status, body) = ask(&admin, Method::POST, "/api/backends/gpu0/drain");
    assert_eq!(
        (status, &body["backend"]["draining"]),
        (StatusCode::OK, &Value::Bool(true))
    );
    assert_eq!(ask(&admin, Method::GET, "/readyz").0, StatusCode::OK);
    ask(&admin, Method::POST, "/api/backends/h%3A8082/drain");
    assert_eq!(
        ask(&admin, Method::GET, "/readyz").0,
        StatusCode::SERVICE_UNAVAILABLE
    );
    ask(&admin, Method::POST, "/api/backends/gpu0/undrain");
    assert_eq!(ask(&admin, Method::GET, "/readyz").0, StatusCode::OK);

    let (status, body) = ask(&admin, Method::POST, "/api/backends/gpu9/drain");
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(body["error"]["type"], "backend_not_found");
}

#[test]
fn errors_are_json_and_name_what_would_work() {
    let admin = admin(true, ["ready", "ready"]);
    let (status, body) = ask(&admin, Method::GET, "/nope");
    assert_eq!(
        (status, &body["error"]["type"]),
        (StatusCode::NOT_FOUND, &"not_found".into())
    );

    let reply = respond(
        &admin,
        &Method::GET,
        "/api/backends/gpu0/drain",
        &HeaderMap::new(),
    );
    assert_eq!(reply.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(reply.headers()[ALLOW], "POST");
}

#[test]
fn with_a_token_only_probes_are_open() {
    let addr = "10.0.0.1".parse().unwrap();
    let admin = Admin::new(addr, Some("t0ken"), state(true, ["ready", "ready"])).unwrap();
    let mut headers = HeaderMap::new();
    headers.insert(HOST, "drover:9090".parse().unwrap());
    let status =
        |path: &str, headers: &HeaderMap| respond(&admin, &Method::GET, path, headers).status();
    for path in ["/livez", "/readyz"] {
        assert_eq!(status(path, &headers), StatusCode::OK, "{path}");
    }
    for path in ["/", "/metrics", "/api/config", "/api/backends", "/nope"] {
        assert_eq!(status(path, &headers), StatusCode::UNAUTHORIZED, "{path}");
    }
    let reply = respond(&admin, &Method::GET, "/metrics", &headers);
    assert!(reply.headers().contains_key(WWW_AUTHENTICATE));
    headers.insert(AUTHORIZATION, "Bearer t0ken".parse().unwrap());
    assert_eq!(status("/metrics", &headers), StatusCode::OK);
}

#[test]
fn no_admin_address_beyond_loopback_without_a_token() {
    let refused = Admin::new("0.0.0.0".parse().unwrap(), None, state(true, ["ready"; 2]));
    assert!(refused.is_err());
}

#[test]
fn a_foreign_page_cannot_drain() {
    let admin = admin(true, ["ready", "ready"]);
    let mut headers = HeaderMap::new();
    headers.insert(HOST, "127.0.0.1:9090".parse().unwrap());
    headers.insert(ORIGIN, "http://evil.example".parse().unwrap());
    let reply = respond(&admin, &Method::POST, "/api/backends/gpu0/drain", &headers);
    assert_eq!(reply.status(), StatusCode::FORBIDDEN);
    assert!(admin.state.fleet.backends().iter().all(|b| !b.draining));
}

#[test]
fn head_has_the_length_but_no_body() {
    let admin = admin(true, ["ready", "ready"]);
    let reply = respond(&admin, &Method::HEAD, "/livez", &HeaderMap::new());
    assert_eq!(reply.status(), StatusCode::OK);
    assert!(reply.body().is_empty());
    assert_eq!(reply.headers()["content-length"], "13");
}

#[test]
fn sessions_are_listed_and_shown_one_by_one() {
    let admin = admin(true, ["ready", "ready"]);
    let (status, body) = ask(&admin, Method::GET, "/api/sessions?limit=5");
    assert_eq!((status, &body["total"]), (StatusCode::OK, &Value::from(0)));
    assert_eq!(body["sessions"], Value::Array(Vec::new()));
    for id in ["nonsense", "0123456789abcdef0123", "%ff"] {
        let (status, body) = ask(&admin, Method::GET, &format!("/api/sessions/{id}"));
        assert_eq!(status, StatusCode::NOT_FOUND);
        assert_eq!(body["error"]["type"], "session_not_found");
    }
}

#[test]
fn the_index_lists_what_exists() {
    let admin = admin(true, ["ready", "ready"]);
    let (_, body) = ask(&admin, Method::GET, "/");
    // Under a session's path 404 also means that there is no such session.
    let missing = |body: &Value| body["error"]["type"] == "not_found";
    for endpoint in body["endpoints"].as_array().unwrap() {
        let method: Method = endpoint["method"].as_str().unwrap().parse().unwrap();
        let path = endpoint["path"].as_str().unwrap().replace("{id}", "gpu0");
        let (status, body) = ask(&admin, method, &path);
        assert!(!missing(&body), "{path}");
        assert_ne!(status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
    }
}

#[test]
fn a_configuration_from_nowhere_cannot_be_loaded_anew() {
    let admin = admin(true, ["ready", "ready"]);
    let (status, body) = ask(&admin, Method::POST, "/api/reload");
    assert_eq!(status, StatusCode::CONFLICT);
    assert_eq!(body["error"]["type"], "nothing_to_reload");
    let (status, _) = ask(&admin, Method::GET, "/api/reload");
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
}

#[test]
fn lines_of_a_log_become_findings_of_their_backend() {
    let admin = admin(true, ["ready", "ready"]);
    let mut headers = HeaderMap::new();
    headers.insert(HOST, "127.0.0.1:9090".parse().unwrap());
    let log = b"all is well\nsrv decode: failed to find free space in the KV cache\n\xff\xfe\nGGML_ABORT: x\n";
    let post = |path: &str| {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let reply = admin.respond(&Method::POST, path, &headers, log);
        let reply = runtime.unwrap().block_on(reply);
        (
            reply.status(),
            serde_json::from_slice::<Value>(reply.body()).unwrap(),
        )
    };
    let (status, body) = post("/api/logs?backend=gpu0");
    assert_eq!(
        (status, &body["telling"]),
        (StatusCode::OK, &Value::from(2)),
        "{body}"
    );
    assert_eq!(post("/api/logs?backend=nobody").0, StatusCode::NOT_FOUND);
    assert_eq!(post("/api/logs").0, StatusCode::NOT_FOUND);
    let (_, found) = ask(&admin, Method::GET, "/api/spec/findings");
    let found = found["findings"].as_array().unwrap();
    let lines: Vec<_> = found.iter().map(|f| f["line"].as_str().unwrap()).collect();
    assert_eq!(lines, ["kv_cache_full", "aborted"]);
    assert_eq!(found[0]["place"]["backend"], "gpu0");
    assert_eq!(
        ask(&admin, Method::GET, "/api/logs").0,
        StatusCode::METHOD_NOT_ALLOWED
    );
}

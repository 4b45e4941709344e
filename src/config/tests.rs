use std::fs;
use std::path::{Path, PathBuf};

use rstest::rstest;

use super::*;

fn env(pairs: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> {
    pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect::<Vec<_>>()
        .into_iter()
}

fn ok(text: &str) -> Config {
    parse(text, env(&[])).unwrap_or_else(|errors| panic!("{errors}"))
}

/// `(path, line, message)` of every mistake.
fn mistakes(text: &str, vars: &[(&str, &str)]) -> Vec<(String, Option<u64>, String)> {
    parse(text, env(vars))
        .expect_err("a mistake")
        .errors
        .into_iter()
        .map(|e| (e.path, e.position.map(|p| p.line), e.message))
        .collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[rstest]
#[case("")]
#[case("# nothing\n")]
#[case("---\n")]
#[case("{}\n")]
#[case("fleet: {}\n")]
fn nothing_said_is_the_defaults(#[case] text: &str) {
    assert_eq!(ok(text), Config::default());
}

#[test]
fn the_annotated_file_is_the_defaults_and_names_every_key() {
    let text = fs::read_to_string(root().join("conf/drover.yaml")).unwrap();
    assert_eq!(ok(&text), Config::default());
    let missing: Vec<String> = markdown()
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .filter(|key| !text.contains(&format!("{key}:")))
        .map(str::to_owned)
        .collect();
    assert_eq!(
        missing, [""; 0],
        "keys that conf/drover.yaml does not explain"
    );
}

/// One of them has an https backend.
#[cfg(feature = "tls")]
#[test]
fn every_example_loads() {
    let vars = [
        ("DROVER_ADMIN_TOKEN", "admin-token"),
        ("DROVER_KEY_CI", "ci-secret"),
        ("GPU_BOX_KEY", "backend-secret"),
    ];
    let mut loaded = Vec::new();
    for entry in fs::read_dir(root().join("conf/examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "yaml") {
            let config = load(Some(&path), env(&vars));
            config.unwrap_or_else(|errors| panic!("{errors}"));
            loaded.push(path.file_name().unwrap().to_owned());
        }
    }
    for name in ["two-gpus.yaml", "multi-model.yaml", "public-with-keys.yaml"] {
        assert!(loaded.iter().any(|l| l == name), "{name} in {loaded:?}");
    }
}

#[test]
fn the_reference_page_is_current() {
    let path = root().join("docs/configuration.md");
    let page = markdown();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "docs/configuration.md is stale: UPDATE_DOCS=1 cargo test --lib config"
    );
}

#[test]
fn every_key_is_documented() {
    for line in markdown().lines().filter(|l| l.starts_with("| `")) {
        let meaning = line
            .rsplit(" | ")
            .next()
            .unwrap()
            .trim_end_matches([' ', '|']);
        assert!(meaning.len() > 3, "no meaning: {line}");
        assert!(!line.contains("| any |"), "no type: {line}");
    }
}

#[test]
fn what_is_shown_can_be_read_back() {
    let config = ok(
        "listen: [\"127.0.0.1:1\"]\nlimits: {max_body_bytes: 1000001}\n\
                     timeouts: {connect: 1500ms}\nfleet: {pools: [{name: p, models: [m], \
                     backends: [{url: \"http://h:1\", slots: 4, kv: unified, weight: 3}]}]}\n",
    );
    let yaml = serde_saphyr::to_string(&config).unwrap();
    assert_eq!(ok(&yaml), config, "{yaml}");
    let json = serde_json::to_string(&config).unwrap();
    assert_eq!(ok(&json), config, "{json}");
}

#[test]
fn secrets_are_resolved_and_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    fs::write(&file, "from-a-file\n").unwrap();
    let text = format!(
        "admin: {{token_env: ADMIN}}
auth:
  keys:
    - {{name: plain, key: written-down}}
    - {{name: hashed, key_sha256: 2CF24DBA5FB0A30E26E83B2AC5B9E29E1B161E5C1FA7425E73043362938B9824}}
    - {{name: env, key_env: CLIENT}}
    - {{name: file, key_file: {}}}
fleet:
  pools:
    - {{name: p, models: ['*'], backends: [{{url: 'http://h:1', api_key_env: BACKEND}}]}}
",
        file.display()
    );
    let vars = [
        ("ADMIN", "admin-secret"),
        ("CLIENT", "env-secret"),
        ("BACKEND", "backend-secret"),
    ];
    let config = parse(&text, env(&vars)).unwrap();
    let digests: Vec<_> = config
        .auth
        .keys
        .iter()
        .map(|k| *k.digest().unwrap())
        .collect();
    let expected = ["written-down", "hello", "env-secret", "from-a-file"]
        .map(|secret| ApiKey::digest_of(secret.as_bytes()));
    assert_eq!(digests, expected);
    assert_eq!(config.admin.token().unwrap().expose(), "admin-secret");
    let backend = &config.fleet.pools[0].backends[0];
    assert_eq!(backend.api_key().unwrap().expose(), "backend-secret");

    let shown = [
        format!("{:?}", config.admin),
        format!("{:?}", config.auth.keys[0]),
        format!("{:?}", config.fleet),
        serde_saphyr::to_string(&config).unwrap(),
        serde_json::to_string(&config).unwrap(),
    ]
    .join("\n");
    for secret in ["written-down", "2CF24D", "-secret", "from-a-file"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}

#[test]
fn every_mistake_of_form_is_found_with_its_place() {
    let text = "\
listen: [\"127.0.0.1:8080\"]
limtis: {}
limits:
  max_body_bytes: -1
  max_body: 3
timeouts:
  connect: 5
  total: soon
fleet:
  pools:
    - name: a
      models: [\"*\"]
      backends:
        - { url: \"http://127.0.0.1:1\", weight: 0 }
        - { name: gpu1 }
        - { url: 17 }
      bakends: []
pingora:
  threads: many
";
    let found: Vec<_> = mistakes(text, &[])
        .into_iter()
        .map(|(path, line, _)| (path, line.unwrap()))
        .collect();
    let expected = [
        ("limtis", 2),
        ("limits.max_body_bytes", 4),
        ("limits.max_body", 5),
        ("timeouts.connect", 7),
        ("timeouts.total", 8),
        ("fleet.pools[0].backends[0].weight", 14),
        ("fleet.pools[0].backends[1]", 15),
        ("fleet.pools[0].backends[2].url", 16),
        ("fleet.pools[0].bakends", 17),
        ("pingora.threads", 19),
    ];
    let expected = expected.map(|(path, line)| (path.to_owned(), line));
    assert_eq!(found, expected);
}

#[rstest]
#[case("listen: [", 1)]
#[case("a: 1\na: 2\n", 2)]
#[case("x: &a [1]\ny: *b\n", 2)]
#[case("- just\n- a list\n", 1)]
fn broken_documents_say_where(#[case] text: &str, #[case] line: u64) {
    let found = mistakes(text, &[]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].1, Some(line), "{found:?}");
}

#[test]
fn every_mistake_of_meaning_is_found_with_its_place() {
    let text = "\
listen:
  - 0.0.0.0:8080
  - { addr: \"127.0.0.1:9090\", tls: { cert: /nowhere/cert.pem, key: /nowhere/key.pem } }
  - nonsense
admin:
  addr: 127.0.0.1:9090
limits: { max_header_bytes: 0 }
timeouts: { write: 0s }
turn: { max_attempts: 0 }
fleet:
  passthrough:
    - { path: tokenize, pool: none }
  health: { slots_every: 1s }
  pools:
    - name: a b
      models: [\"x[\", m]
      backends:
        - url: ftp://h
        - url: http://user:pw@h
        - url: http://h:1
        - url: http://h:1/
        - { url: \"http://h:2\", name: \"h:1\", api_key_env: UNSET_KEY }
    - { name: a b, models: [m], backends: [] }
telemetry: { level: \"drover=loud\" }
pingora: { threads: 0 }
";
    let found = mistakes(text, &[]);
    let expected = [
        ("listen[0]", 2, "auth.keys"),
        ("listen[1].tls.cert", 3, "/nowhere/cert.pem"),
        ("listen[1].tls.key", 3, "/nowhere/key.pem"),
        ("listen[2]", 4, "no address"),
        ("admin.addr", 6, "taken by `listen[1].addr`"),
        ("limits.max_header_bytes", 7, "more than 0"),
        ("timeouts.write", 8, "longer than 0s"),
        ("turn.max_attempts", 9, "at least 1"),
        ("fleet.passthrough[0].path", 12, "start with `/`"),
        ("fleet.passthrough[0].pool", 12, "no pool `none`"),
        ("fleet.health.slots_every", 13, "1500ms"),
        ("fleet.pools[0].name", 15, "no name"),
        ("fleet.pools[0].models[0]", 16, "x["),
        ("fleet.pools[0].backends[0].url", 18, "http, https and unix"),
        ("fleet.pools[0].backends[1].url", 19, "credentials"),
        ("fleet.pools[0].backends[3].name", 21, "own name"),
        ("fleet.pools[0].backends[3].url", 21, "same server"),
        ("fleet.pools[0].backends[4].name", 22, "own name"),
        (
            "fleet.pools[0].backends[4].api_key_env",
            22,
            "UNSET_KEY is not set",
        ),
        ("fleet.pools[1].name", 23, "no name"),
        ("fleet.pools[1].name", 23, "fleet.pools[0].name"),
        ("fleet.pools[1].models[0]", 23, "fleet.pools[0].models[1]"),
        ("fleet.pools[1].backends", 23, "at least one"),
        ("telemetry.level", 24, "loud"),
        ("pingora.threads", 25, "at least 1"),
    ];
    for (path, line, part) in expected {
        let hit = found
            .iter()
            .any(|(p, l, m)| p == path && *l == Some(line) && m.contains(part));
        assert!(hit, "{path}:{line} {part} not in {found:#?}");
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

#[rstest]
#[case("{name: a}", "auth.keys[0]", "found 0")]
#[case("{name: a, key: x, key_env: Y}", "auth.keys[0]", "found 2")]
#[case("{name: a, key: ''}", "auth.keys[0].key", "empty")]
#[case("{name: a, key: 'two words'}", "auth.keys[0].key", "visible ASCII")]
#[case("{name: a, key: 12345}", "auth.keys[0].key", "in quotes")]
#[case(
    "{name: a, key_sha256: abc}",
    "auth.keys[0].key_sha256",
    "64 hexadecimal"
)]
#[case("{name: a, key_env: NOPE}", "auth.keys[0].key_env", "NOPE is not set")]
#[case("{name: a, key_file: /nowhere}", "auth.keys[0].key_file", "/nowhere")]
#[case("{name: a, key: x, pools: []}", "auth.keys[0].pools", "open nothing")]
#[case(
    "{name: a, key: x, pools: [other]}",
    "auth.keys[0].pools[0]",
    "matches no pool"
)]
#[case(
    "{name: a, key: x}, {name: a, key: y}",
    "auth.keys[1].name",
    "auth.keys[0].name"
)]
#[case("{name: a, key: x}, {name: b, key: x}", "auth.keys[1]", "same secret")]
fn bad_keys(#[case] keys: &str, #[case] path: &str, #[case] part: &str) {
    let found = mistakes(&format!("auth: {{keys: [{keys}]}}"), &[]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].0, path);
    assert!(found[0].2.contains(part), "{found:?}");
}

#[rstest]
#[case("0.0.0.0:1", false)]
#[case("192.0.2.1:1", false)]
#[case("[::]:1", false)]
#[case("127.0.0.1:1", true)]
#[case("127.9.9.9:1", true)]
#[case("[::1]:1", true)]
#[case("localhost:1", true)]
fn only_loopback_is_open_without_keys(#[case] addr: &str, #[case] open: bool) {
    let quoted = format!("\"{addr}\"");
    assert_eq!(
        parse(&format!("listen: [{quoted}]"), env(&[])).is_ok(),
        open
    );
    assert_eq!(
        parse(&format!("admin: {{addr: {quoted}}}"), env(&[])).is_ok(),
        open
    );
    let with_keys = format!(
        "listen: [{quoted}]\nadmin: {{addr: \"{}\", token_env: T}}\nauth: {{keys: [{{name: a, key: b}}]}}",
        addr.replace(":1", ":2")
    );
    assert!(parse(&with_keys, env(&[("T", "t")])).is_ok());
}

#[test]
fn variables_override_the_file_and_are_named_in_errors() {
    let vars = [
        ("DROVER__TURN__MAX_ATTEMPTS", "3"),
        ("DROVER__AUTH__KEYS__0__NAME", "42"),
        ("DROVER__AUTH__KEYS__0__KEY", "0123"),
        ("DROVER__FLEET__POOLS__0__NAME", "other"),
    ];
    let file = "turn: {max_attempts: 2}\nfleet: {pools: [{name: p, models: [m], \
                backends: [{url: \"http://h:1\"}]}]}";
    let config = parse(file, env(&vars)).unwrap();
    assert_eq!(config.turn.max_attempts, 3);
    assert_eq!(config.fleet.pools[0].name, "other");
    assert_eq!(config.auth.keys[0].name, "42");
    assert_eq!(
        config.auth.keys[0].digest(),
        Some(&ApiKey::digest_of(b"0123")),
        "the digits are the secret, not a number"
    );

    let found = mistakes(
        "",
        &[
            ("DROVER__TURN__MAX_ATTEMPTS", "lots"),
            ("DROVER__LIMTIS__X", "1"),
            ("DROVER__TIMEOUTS__WRITE", "0s"),
        ],
    );
    let named = |part: &str| {
        found
            .iter()
            .any(|(_, line, m)| line.is_none() && m.contains(part))
    };
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        named("DROVER__TURN__MAX_ATTEMPTS") && named("DROVER__LIMTIS__X"),
        "{found:?}"
    );
    let found = mistakes("", &[("DROVER__TIMEOUTS__WRITE", "0s")]);
    assert!(found[0].2.contains("DROVER__TIMEOUTS__WRITE"), "{found:?}");
}

#[test]
fn errors_print_one_line_each_with_file_and_place() {
    let dir = tempfile::tempdir().unwrap();
    let path: PathBuf = dir.path().join("drover.yaml");
    fs::write(&path, "turn:\n  max_attempts: 0\n  max_wall: 0s\n").unwrap();
    let shown = load(Some(&path), env(&[])).unwrap_err().to_string();
    let file = path.display();
    let lines: Vec<_> = shown.lines().collect();
    assert_eq!(
        lines,
        [
            format!("{file}:2:17: turn.max_attempts: must be at least 1"),
            format!("{file}:3:13: turn.max_wall: must be longer than 0s"),
        ]
    );
    let shown = load(Some(&dir.path().join("none.yaml")), env(&[])).unwrap_err();
    assert!(shown.to_string().contains("cannot be read"), "{shown}");
}

#[test]
fn an_alias_bomb_is_refused() {
    let mut text = "a0: &a0 [1,1,1,1,1,1,1,1,1,1]\n".to_owned();
    for n in 1..9 {
        let refs = vec![format!("*a{}", n - 1); 10].join(",");
        text.push_str(&format!("a{n}: &a{n} [{refs}]\n"));
    }
    assert_eq!(mistakes(&text, &[]).len(), 1);
}

/// The earlier system's names of the retry knobs mean the same; a key in both names is a mistake.
#[rstest]
#[case("retry_max", "7", |calls: &ToolCalls| calls.retry_max == 7)]
#[case("retry_max_tokens", "512", |calls: &ToolCalls| calls.retry_max_tokens == Some(512))]
#[case("retry_max_tokens", "null", |calls: &ToolCalls| calls.retry_max_tokens.is_none())]
#[case("retry_temperature", "0.75", |calls: &ToolCalls| calls.retry_temperature == Some(0.75))]
#[case("retry_temperature", "null", |calls: &ToolCalls| calls.retry_temperature.is_none())]
fn the_retry_knobs_have_their_earlier_names_too(
    #[case] name: &str,
    #[case] value: &str,
    #[case] is_set: fn(&ToolCalls) -> bool,
) {
    let file = |keys: &str| format!("guard: {{tool_calls: {{{keys}}}}}");
    let (own, earlier) = (
        format!("{name}: {value}"),
        format!("malformed_tool_{name}: {value}"),
    );
    for keys in [&own, &earlier] {
        let config = parse(&file(keys), env(&[])).unwrap();
        assert!(is_set(&config.guard.tool_calls), "{keys}");
    }
    let variable = format!(
        "DROVER__GUARD__TOOL_CALLS__MALFORMED_TOOL_{}",
        name.to_uppercase()
    );
    let config = parse("", env(&[(&variable, value)])).unwrap();
    assert!(is_set(&config.guard.tool_calls), "{variable}");
    assert!(!mistakes(&file(&format!("{own}, {earlier}")), &[]).is_empty());
}

#[rstest]
#[case("{}", "discovery", "exactly one")]
#[case("{file: {path: x}, dns: {name: a, port: 1}}", "discovery", "found 2")]
#[case(
    "{file: {path: x, every: 0s}}",
    "discovery.file.every",
    "longer than 0s"
)]
#[case("{dns: {name: '', port: 1}}", "discovery.dns.name", "empty")]
#[case("{dns: {name: a, port: 0}}", "discovery.dns.port", "")]
#[case(
    "{srv: {name: a, refresh: 0s}}",
    "discovery.srv.refresh",
    "longer than 0s"
)]
#[case(
    "{kubernetes: {service: 'a,b'}}",
    "discovery.kubernetes.service",
    "no name"
)]
#[case(
    "{kubernetes: {service: a, namespace: ../b}}",
    "discovery.kubernetes.namespace",
    "no name"
)]
#[case(
    "{kubernetes: {service: a, server: 'http://10.0.0.1'}}",
    "discovery.kubernetes.server",
    "loopback"
)]
#[case("{router: {url: nowhere}}", "discovery.router.url", "")]
#[case(
    "{router: {url: 'http://a:1', every: 0s}}",
    "discovery.router.every",
    "longer than 0s"
)]
#[case(
    "{dns: {name: a, port: 1}, backend: {api_key_env: UNSET}}",
    "discovery.backend.api_key_env",
    "not set"
)]
fn mistakes_in_discovery(#[case] source: &str, #[case] path: &str, #[case] part: &str) {
    let text = format!("fleet: {{pools: [{{name: p, models: [m], discovery: {source}}}]}}");
    let found = mistakes(&text, &[]);
    let path = format!("fleet.pools[0].{path}");
    assert!(
        found.iter().any(|(p, _, m)| *p == path && m.contains(part)),
        "{found:?}"
    );
}

#[test]
fn speculative_settings_are_checked() {
    let good = "spec: {profiles: {balanced: {type: ngram-mod, n_match: 16, n_min: 4, n_max: 32}}, rules: \
                [{pools: [default], classes: [prose, tool_loop], profile: balanced}, {profile: 'ngram-mod,ngram-cache'}]}";
    let config = parse(good, env(&[])).unwrap();
    assert!(config.spec.has_profile("balanced") && config.spec.has_profile("draft-mtp"));
    assert!(!config.spec.has_profile("balanced,ngram-mod") && !config.spec.has_profile(""));
    for (bad, at) in [
        ("rules: [{profile: fast}]", "spec.rules[0].profile"),
        (
            "rules: [{pools: [x], profile: off}]",
            "spec.rules[0].pools[0]",
        ),
        ("profiles: {off: {type: none}}", "spec.profiles.off"),
        (
            "profiles: {a: {type: ngram-mod, p_min: 0.5}}",
            "spec.profiles.a.p_min",
        ),
        (
            "profiles: {a: {type: draft-simple, p_min: 1.5}}",
            "spec.profiles.a.p_min",
        ),
        (
            "profiles: {a: {type: draft-simple, n_match: 5}}",
            "spec.profiles.a.n_match",
        ),
        (
            "profiles: {a: {type: ngram-mod, n_min: 9, n_max: 8}}",
            "spec.profiles.a.n_min",
        ),
        ("reprefill_rate: 0", "spec.reprefill_rate"),
    ] {
        let found = mistakes(&format!("spec: {{{bad}}}"), &[]);
        assert!(found.len() == 1 && found[0].0 == at, "{bad}: {found:?}");
    }
    let pool = "fleet: {pools: [{name: p, models: [m], backends: [{url: 'http://127.0.0.1:1', profile: fast}]}]}";
    let found = mistakes(pool, &[]);
    assert!(
        found.len() == 1 && found[0].0 == "fleet.pools[0].backends[0].profile",
        "{found:?}"
    );
    let named = format!("spec: {{profiles: {{fast: {{type: ngram-mod}}}}}}\n{pool}");
    assert!(parse(&named, env(&[])).is_ok());
}

/// A pool of two backends and a rollout in it, with `more` keys.
fn rollout(more: &str) -> String {
    format!(
        "fleet: {{pools: [{{name: p, models: [m], backends: [{{name: a, url: 'http://127.0.0.1:1'}}, \
         {{name: b, url: 'http://127.0.0.1:2'}}]}}]}}\nspec: {{rollouts: [{{name: r, pool: p, baseline: none, \
         candidate: ngram-mod, control: a, {more}}}]}}"
    )
}

#[test]
fn a_rollout_has_the_documented_defaults() {
    let config = parse(&rollout(""), env(&[])).unwrap();
    let rollout = &config.spec.rollouts[0];
    let steps: Vec<_> = rollout.steps.iter().map(ToString::to_string).collect();
    assert_eq!(steps, ["5%", "25%", "50%", "100%"]);
    assert_eq!(rollout.promote_when.decode_tps.to_string(), "> +5%");
    assert_eq!(rollout.never_worse.decode_tps.unwrap().to_string(), "-3%");
    assert_eq!(rollout.rollback_when.signatures.len(), 2);
    let shown = serde_json::to_string(&config).unwrap();
    assert_eq!(
        parse(&shown, env(&[])).unwrap(),
        config,
        "what is shown can be read back"
    );
}

#[rstest]
#[case("steps: []", "steps", "at least one")]
#[case("steps: [5%, 5%]", "steps[1]", "more than")]
#[case("steps: [60%]", "steps[0]", "at most 50%")]
#[case("steps: [0%, 5%]", "steps[0]", "more than 0%")]
#[case("step: {min_turns: 0}", "step.min_turns", "never promotes")]
#[case("step: {min_sessions: 5000}", "step.min_sessions", "1000")]
#[case("step: {min_time: 2h, max_time: 1h}", "step.min_time", "max_time")]
#[case("never_worse: {decode_tps: '+3%'}", "never_worse.decode_tps", "loss")]
#[case("never_worse: {ttft: '-3%'}", "never_worse.ttft", "rise")]
#[case("alpha: 0", "alpha", "above 0")]
#[case("hooks: {timeout: 0s}", "hooks.timeout", "longer")]
#[case("webhooks: [{url: 'ftp://x'}]", "webhooks[0].url", "address")]
#[case(
    "webhooks: [{url: 'http://x', token_env: NONE}]",
    "webhooks[0].token_env",
    "not set"
)]
fn mistakes_in_a_rollout(#[case] more: &str, #[case] path: &str, #[case] part: &str) {
    let found = mistakes(&rollout(more), &[]);
    let path = format!("spec.rollouts[0].{path}");
    let is_it = |(p, _, m): &&(String, _, String)| *p == path && m.contains(part);
    assert!(
        found.len() == 1 && found.iter().any(|m| is_it(&m)),
        "{found:?}"
    );
}

#[rstest]
#[case(
    "candidate: ngram-mod",
    "candidate: none",
    "candidate",
    "nothing to compare"
)]
#[case("candidate: ngram-mod", "candidate: fast", "candidate", "no profile")]
#[case(
    "candidate: ngram-mod",
    "candidate: {backend: a}",
    "control",
    "candidate"
)]
#[case(
    "candidate: ngram-mod",
    "candidate: {backend: x}",
    "candidate.backend",
    "no backend"
)]
#[case("baseline: none", "baseline: {backend: b}", "control", "baseline")]
#[case("control: a", "control: c", "control", "no backend")]
#[case("pool: p", "pool: q", "pool", "no pool")]
fn rollouts_are_of_what_is_there(
    #[case] given: &str,
    #[case] instead: &str,
    #[case] path: &str,
    #[case] part: &str,
) {
    let found = mistakes(&rollout("").replace(given, instead), &[]);
    let path = format!("spec.rollouts[0].{path}");
    assert!(
        found.iter().any(|(p, _, m)| *p == path && m.contains(part)),
        "{found:?}"
    );
}

#[test]
fn units_are_asked_for() {
    for (more, hint) in [
        ("steps: [5]", "5%"),
        ("never_worse: {error_rate: 0.5}", "+0.5pp"),
        ("promote_when: {decode_tps: '+5%'}", "> +5%"),
        ("rollback_when: {signatures: [slow]}", "acceptance_collapse"),
    ] {
        let found = mistakes(&rollout(more), &[]);
        assert!(
            found.iter().any(|(_, _, m)| m.contains(hint)),
            "{more}: {found:?}"
        );
    }
}

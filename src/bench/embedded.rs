//! The gateway that is started for a benchmark.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::client::Client;
use super::process::{Children, Running};
use super::stage::{Seat, StageError};

/// Longest wait until it is ready.
const READY: Duration = Duration::from_secs(60);

/// The embedded gateway's: a pool for each seat, so that no turn can go elsewhere, and guards that look on only.
pub(super) fn configuration(seats: &[Seat]) -> Value {
    let pools: Vec<Value> = seats
        .iter()
        .map(|seat| {
            let backend = json!({
                "name": seat.model, "url": seat.backends[0], "profile": seat.contestant.name
            });
            json!({ "name": seat.model, "models": [seat.model], "backends": [backend] })
        })
        .collect();
    let settings = seats.iter().filter_map(|seat| {
        let contestant = &seat.contestant;
        let profile = contestant.profile.as_ref()?;
        (profile.kind.as_str() != contestant.name)
            .then(|| (contestant.name.clone(), json!(profile)))
    });
    json!({
        "listen": ["127.0.0.1:0"],
        "admin": { "addr": "127.0.0.1:0" },
        "fleet": { "pools": pools },
        "spec": { "profiles": settings.collect::<serde_json::Map<_, _>>() },
        "guard": { "preset": "observe" },
        "telemetry": { "log": "json", "recent_requests": 100 },
    })
}

/// Starts a gateway on free ports; with its address for clients and that for admins.
pub(super) fn start(
    program: &Path,
    config: &Value,
    client: &Client,
    children: &Children,
    logs: &Path,
) -> Result<(Running, String, String), StageError> {
    let failed =
        |error: std::io::Error| StageError::Failed(format!("{}: {error}", program.display()));
    let file = logs.join("drover.yaml");
    // Every JSON document is a YAML document.
    fs::write(&file, config.to_string()).map_err(failed)?;
    let mut command = Command::new(program);
    command.args(["serve", "--config"]).arg(&file);
    let ours = std::env::vars_os().map(|(name, _)| name);
    for name in ours.filter(|name| name.to_string_lossy().starts_with("DROVER_")) {
        command.env_remove(name);
    }
    let running = children
        .start(&mut command, &logs.join("drover.log"))
        .map_err(failed)?;
    let since = Instant::now();
    let mut found = None;
    while since.elapsed() < READY && running.is_alive() {
        if found.is_none() {
            found = addresses(&running.log());
        }
        if let Some((url, admin)) = &found
            && matches!(client.get(&format!("{admin}/readyz"), None), Ok((200, _)))
        {
            return Ok((running, url.clone(), admin.clone()));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err(StageError::Failed(format!(
        "the gateway is not ready; the end of its log:\n{}",
        running.tail()
    )))
}

/// Where the gateway says that it listens.
fn addresses(log: &str) -> Option<(String, String)> {
    let line = log.lines().find(|line| line.contains("\"starting\""))?;
    let told: Value = serde_json::from_str(line).ok()?;
    let url = |field: &str| Some(format!("http://{}", told.get(field)?.as_str()?));
    Some((url("listen")?, url("admin")?))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::contestant::Contestant;
    use super::*;

    #[test]
    fn the_embedded_gateways_configuration_is_a_valid_one() {
        let texts = [
            "none",
            "ngram-mod,ngram-cache",
            "small={type: ngram-mod, n_max: 16}",
        ];
        let seats: Vec<Seat> = texts
            .iter()
            .enumerate()
            .map(|(n, text)| Seat {
                contestant: Contestant::parse(text, &BTreeMap::new()).unwrap(),
                model: format!("bench-{n}"),
                label: ("pool", format!("bench-{n}")),
                backends: vec![format!("http://127.0.0.1:{}", 8081 + n)],
            })
            .collect();
        let text = configuration(&seats).to_string();
        let config = crate::config::parse(&text, std::iter::empty()).unwrap();
        assert_eq!(config.fleet.pools.len(), 3);
        assert!(config.spec.has_profile("small"));
    }
}

//! What a configuration that is loaded anew changes, and what it cannot.

use serde_json::Value;

use super::error::ConfigErrors;
use super::load;
use super::schema::Config;

/// The next configuration, and how it differs from the one in effect.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What is to take effect: the new configuration, with the parts that need a restart as they are now.
    pub config: Config,
    /// Paths of the keys that change.
    pub changed: Vec<String>,
    /// Paths of the keys that differ and stay as they are until the process starts again.
    pub needs_restart: Vec<String>,
}

/// Compares `next`, which [`load`](super::load()) has checked, with what is `running`.
///
/// # Errors
/// `next` may be sound by itself and not together with what needs a restart: keys may be taken away
/// only where the address in use is on loopback.
pub fn plan(
    running: &Config,
    next: Config,
    env: impl Iterator<Item = (String, String)>,
) -> Result<Plan, ConfigErrors> {
    let wanted = next.clone();
    let mut config = next;
    let mut needs_restart = hold(running, &mut config);
    if !needs_restart.is_empty() {
        load::check(&mut config, env).map_err(|errors| together(errors, &needs_restart))?;
        needs_restart = differences(&config, &wanted);
    }
    Ok(Plan {
        changed: differences(running, &config),
        needs_restart,
        config,
    })
}

/// Puts back what sizes or places things at the start, and names it.
fn hold(running: &Config, next: &mut Config) -> Vec<String> {
    let mut held = Vec::new();
    macro_rules! hold {
        ($($($key:ident).+),+ $(,)?) => {$(
            if next.$($key).+ != running.$($key).+ {
                next.$($key).+ = running.$($key).+.clone();
                held.push(stringify!($($key).+).to_owned());
            }
        )+};
    }
    hold!(
        listen,
        admin,
        limits.max_connections,
        limits.max_sessions,
        limits.session_ttl,
        timeouts.drain,
        store,
        audit,
        telemetry,
        pingora,
    );
    held
}

fn together(errors: ConfigErrors, held: &[String]) -> ConfigErrors {
    let held = held.join(", ");
    let errors = errors.errors.into_iter().map(|mut error| {
        error.message = format!(
            "{} (together with the present {held}, which stays until a restart)",
            error.message
        );
        error
    });
    ConfigErrors {
        file: None,
        errors: errors.collect(),
    }
}

/// Paths of what differs. Lists whose items come or go are named as a whole.
fn differences(before: &Config, after: &Config) -> Vec<String> {
    if before == after {
        return Vec::new();
    }
    let mut paths = Vec::new();
    // What cannot be shown cannot be compared; a configuration always can.
    let shown = |config: &Config| serde_json::to_value(config).unwrap_or_default();
    compare(&shown(before), &shown(after), "", &mut paths);
    // Secrets look alike when they are shown.
    if before.auth.keys != after.auth.keys && !paths.iter().any(|p| p.starts_with("auth.keys")) {
        paths.push("auth.keys".to_owned());
    }
    if paths.is_empty() {
        paths.push("secrets".to_owned());
    }
    paths
}

fn compare(before: &Value, after: &Value, path: &str, paths: &mut Vec<String>) {
    match (before, after) {
        (Value::Object(a), Value::Object(b)) if a.keys().eq(b.keys()) => {
            for (key, before) in a {
                let path = match path {
                    "" => key.clone(),
                    _ => format!("{path}.{key}"),
                };
                compare(before, &b[key], &path, paths);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (n, (before, after)) in a.iter().zip(b).enumerate() {
                compare(before, after, &format!("{path}[{n}]"), paths);
            }
        }
        _ if before != after => paths.push(path.to_owned()),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        load::parse(text, std::iter::empty()).unwrap()
    }

    fn planned(running: &str, next: &str) -> Plan {
        plan(&config(running), config(next), std::iter::empty()).unwrap()
    }

    #[test]
    fn nothing_changed_is_nothing() {
        let plan = planned("{}", "{}");
        assert!(plan.changed.is_empty() && plan.needs_restart.is_empty());
        assert_eq!(plan.config, Config::default());
    }

    #[test]
    fn changes_are_named_by_path() {
        let plan = planned(
            "timeouts: {connect: 1s}",
            "timeouts: {connect: 2s}\nguard: {preset: \"off\"}\nfleet: {pools: [{name: p, models: ['*'], \
             backends: [{url: 'http://127.0.0.1:1'}, {url: 'http://127.0.0.1:2'}]}]}",
        );
        let changed: Vec<&str> = plan.changed.iter().map(String::as_str).collect();
        assert_eq!(
            changed,
            [
                "fleet.pools[0].backends",
                "fleet.pools[0].name",
                "guard.preset",
                "timeouts.connect"
            ]
        );
        assert!(plan.needs_restart.is_empty());
    }

    #[test]
    fn what_needs_a_restart_is_named_and_stays() {
        let next = "listen: ['127.0.0.1:7000']\nadmin: {addr: '127.0.0.1:7001'}\npingora: {threads: 9}\n\
            telemetry: {level: debug}\nlimits: {max_connections: 5, max_sessions: 6, session_ttl: 1m, \
            max_body_bytes: 1MiB}\ntimeouts: {drain: 1s, write: 7s}";
        let plan = planned("{}", next);
        assert_eq!(
            plan.needs_restart,
            [
                "admin.addr",
                "limits.max_connections",
                "limits.max_sessions",
                "limits.session_ttl",
                "listen[0]",
                "pingora.threads",
                "telemetry.level",
                "timeouts.drain",
            ]
        );
        assert_eq!(plan.changed, ["limits.max_body_bytes", "timeouts.write"]);
        assert_eq!(plan.config.listen, Config::default().listen);
        assert_eq!(plan.config.limits.max_sessions, 100_000);
        // Loading the same file again names it again.
        let again = super::plan(&plan.config, config(next), std::iter::empty()).unwrap();
        assert_eq!(again.needs_restart, plan.needs_restart);
        assert!(again.changed.is_empty());
    }

    #[test]
    fn another_secret_of_the_same_name_is_a_change() {
        let key = |key: &str| format!("auth: {{keys: [{{name: a, key: '{key}'}}]}}");
        let plan = planned(&key("0123456789abcdef"), &key("fedcba9876543210"));
        assert_eq!(plan.changed, ["auth.keys"]);
    }

    #[test]
    fn keys_cannot_be_taken_away_under_an_open_address() {
        let running =
            "listen: ['0.0.0.0:8080']\nauth: {keys: [{name: a, key: '0123456789abcdef'}]}";
        let errors = plan(&config(running), config("{}"), std::iter::empty()).unwrap_err();
        let text = errors.to_string();
        assert!(
            text.contains("listen, which stays until a restart"),
            "{text}"
        );
    }
}

//! A profile is set once: a backend that does not keep it is not restarted again and again.

use serde_json::json;

use super::*;
use crate::fleet::tests::{fleet_of, ready};

/// Three backends of which nobody runs the candidate, `c` being the control.
fn fleet() -> Arc<Fleet> {
    let backend = |name: &str, port: u16| {
        format!("{{name: {name}, url: 'http://127.0.0.1:{port}', profile: none}}")
    };
    let all = [backend("a", 1), backend("b", 2), backend("c", 3)];
    let fleet = fleet_of(&all.join(", "));
    ready(&fleet);
    fleet
}

fn plan(command: &[&str]) -> Rollout {
    serde_json::from_value(json!({
        "name": "r", "pool": "p", "baseline": "none", "candidate": "ngram-mod", "control": "c",
        "hooks": {"set_profile": command},
    }))
    .unwrap()
}

fn given(all: &[(&str, &str)]) -> HashMap<String, String> {
    let pairs = all
        .iter()
        .map(|(name, profile)| ((*name).to_owned(), (*profile).to_owned()));
    pairs.collect()
}

fn taken(fleet: &Fleet, plan: &Rollout, before: &[(&str, &str)]) -> Option<String> {
    let setting = Setting::begin(fleet, plan, &State::new(plan), &given(before))?;
    assert_eq!(setting.profile(), "ngram-mod");
    Some(setting.backend.id().to_string())
}

#[tokio::test]
async fn a_backend_that_was_given_the_profile_is_not_taken_again() {
    let (fleet, plan) = (fleet(), plan(&["true"]));
    assert_eq!(taken(&fleet, &plan, &[]).as_deref(), Some("a"));
    assert_eq!(
        taken(&fleet, &plan, &[("a", "ngram-mod")]).as_deref(),
        Some("b")
    );
    // The control goes last, where it may go at all.
    let both = [("a", "ngram-mod"), ("b", "ngram-mod")];
    assert_eq!(taken(&fleet, &plan, &both).as_deref(), Some("c"));
    let all = [both[0], both[1], ("c", "ngram-mod")];
    assert_eq!(taken(&fleet, &plan, &all), None);
    // One that was given something else since may be given it again.
    let since = [both[0], ("b", "none"), ("c", "ngram-mod")];
    assert_eq!(taken(&fleet, &plan, &since).as_deref(), Some("b"));
    assert_eq!(taken(&fleet, &self::plan(&[]), &[]), None, "no command");
}

#[tokio::test]
async fn two_that_exchange_their_profiles_are_each_asked_once() {
    let (fleet, plan) = (fleet(), plan(&["true"]));
    let exchange = |backend: &str, before: &[(&str, &str)]| {
        Setting::exchange(&fleet, &plan, backend, "none", &given(before)).is_some()
    };
    assert!(exchange("a", &[]) && exchange("a", &[("a", "ngram-mod"), ("b", "none")]));
    assert!(
        !exchange("a", &[("a", "none")]),
        "set, and it did not keep it"
    );
    assert!(!exchange("z", &[]));
    fleet.backend("a").unwrap().drain();
    assert!(!exchange("a", &[]), "somebody else is at it");
}

#[tokio::test]
async fn a_profile_that_was_not_kept_is_trouble() {
    let (fleet, plan) = (fleet(), plan(&["true"]));
    let lapsed = |before: &[(&str, &str)]| lapsed(&fleet, &plan, &given(before));
    assert_eq!(lapsed(&[]), None);
    assert_eq!(lapsed(&[("a", "none")]), None, "it runs what it was given");
    let why = lapsed(&[("a", "ngram-mod")]).unwrap();
    assert!(
        why.contains("a: the profile was set, and it runs none"),
        "{why}"
    );
    fleet.backend("a").unwrap().give_profile("ngram-mod");
    assert_eq!(lapsed(&[("a", "ngram-mod")]), None);
}

/// Before the command has run nothing has happened to the backend: it serves as before.
#[tokio::test]
async fn whoever_is_let_go_before_its_command_serves_again() {
    let (fleet, plan) = (fleet(), plan(&["true"]));
    let setting = Setting::begin(&fleet, &plan, &State::new(&plan), &given(&[])).unwrap();
    let backend = fleet.backend("a").unwrap();
    backend.drain();
    assert_eq!(setting.slots_away(), setting.slots);
    drop(setting);
    assert!(!backend.draining());
}

//! The architecture, checked: which room may use which, and which must not know a socket.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Rooms, and single files of rooms, that are pure: no sockets, files, clocks or tasks.
const PURE: &[&str] = &[
    "dialect",
    "guard",
    "policy",
    "spec",
    "turn",
    "session/key",
    "session/key.rs",
    "fleet/admission/line.rs",
    "fleet/admission/drain.rs",
    "fleet/admission/pace.rs",
    "fleet/admission/ring.rs",
];

/// What a pure room must not name.
const IMPURE: &[&str] = &[
    "pingora",
    "tokio",
    "std::fs",
    "std::io",
    "std::net",
    "std::process",
    "std::thread",
    "Instant::now",
    "SystemTime::now",
];

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every Rust file at or below `path`.
fn files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let Ok(entries) = fs::read_dir(path) else {
        return Vec::new();
    };
    let below = entries.flat_map(|entry| files(&entry.unwrap().path()));
    below
        .filter(|file| file.extension().is_some_and(|e| e == "rs"))
        .collect()
}

/// The lines that are compiled into the product: no comments, nothing from `#[cfg(test)]` on.
fn code(file: &Path) -> String {
    let is_tests = |name: &str| {
        matches!(name, "tests.rs" | "tests" | "properties.rs") || name.ends_with("_tests.rs")
    };
    if file.iter().any(|part| is_tests(&part.to_string_lossy())) {
        return String::new();
    }
    let text = fs::read_to_string(file).unwrap();
    let lines = text
        .lines()
        .take_while(|line| line.trim() != "#[cfg(test)]");
    let lines = lines.filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The rooms a piece of code names as `crate::room` or in `crate::{room::…, …}`.
fn used(code: &str, rooms: &BTreeSet<String>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        let inside = match rest.strip_prefix('{') {
            Some(list) => list.split('}').next().unwrap_or_default(),
            None => rest,
        };
        let mut names = inside.split(|c: char| !(c.is_alphanumeric() || c == '_'));
        if rest.starts_with('{') {
            found.extend(
                names
                    .filter(|name| rooms.contains(*name))
                    .map(str::to_owned),
            );
        } else if let Some(name) = names.next().filter(|name| rooms.contains(*name)) {
            found.insert(name.to_owned());
        }
    }
    found
}

#[test]
fn pure_rooms_know_no_sockets() {
    let mut looked_at = 0;
    for room in PURE {
        for file in files(&src().join(room)) {
            looked_at += 1;
            let code = code(&file);
            for name in IMPURE {
                assert!(!code.contains(name), "{} uses {name}", file.display());
            }
        }
    }
    assert!(looked_at > 10, "the rooms have moved");
}

#[test]
fn rooms_use_each_other_in_one_direction() {
    let rooms: BTreeSet<String> = fs::read_dir(src())
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    let mut uses: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for room in &rooms {
        let mut all: BTreeSet<String> = files(&src().join(room))
            .iter()
            .flat_map(|file| used(&code(file), &rooms))
            .collect();
        all.remove(room);
        uses.insert(room, all);
    }
    assert!(uses["proxy"].contains("exchange"), "imports are recognised");
    // Take away rooms that use none of those left; what cannot be taken away is a cycle.
    while let Some(free) = uses
        .iter()
        .find(|(_, used)| !used.iter().any(|room| uses.contains_key(room.as_str())))
        .map(|(room, _)| *room)
    {
        uses.remove(free);
    }
    assert!(
        uses.is_empty(),
        "rooms use each other in a circle: {uses:?}"
    );
}

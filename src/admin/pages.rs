//! `/docs/{page}`: the pages that dashboards and alerts refer to, of the version that runs.

use http::StatusCode;

use super::reply::{self, Reply};

/// A line for each page: its name and its text.
macro_rules! pages {
    ($($name:literal),+ $(,)?) => {
        &[$(($name, include_str!(concat!("../../docs/", $name)))),+]
    };
}

const PAGES: &[(&str, &str)] = pages![
    "access-log.md",
    "agentic-compatibility.md",
    "alerts.md",
    "backends.md",
    "configuration.md",
    "console.md",
    "context.md",
    "dashboards.md",
    "doctor.md",
    "fleet.md",
    "guards.md",
    "loops.md",
    "metrics.md",
    "operations.md",
    "policy.md",
    "speculative-production.md",
    "speculative.md",
    "traces.md",
];

/// The page, as the text it is: browsers show that.
pub(super) fn show(name: &str) -> Reply {
    match PAGES.iter().find(|(page, _)| *page == name) {
        Some((_, text)) => reply::bytes(
            StatusCode::OK,
            "text/plain; charset=utf-8",
            text.as_bytes().to_vec(),
        ),
        None => {
            let names: Vec<_> = PAGES.iter().map(|(page, _)| *page).collect();
            let message = format!("there are: {}", names.join(", "));
            reply::error(StatusCode::NOT_FOUND, "page_not_found", &message)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_is_there() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/docs");
        let entries = std::fs::read_dir(folder).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut files: Vec<String> = names.filter(|name| name.ends_with(".md")).collect();
        files.sort();
        let pages: Vec<&str> = PAGES.iter().map(|(name, _)| *name).collect();
        assert_eq!(pages, files);
        assert_eq!(show("metrics.md").status(), StatusCode::OK);
        assert_eq!(show("../Cargo.toml").status(), StatusCode::NOT_FOUND);
    }
}

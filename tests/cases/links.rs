//! Links between the pages of the documentation: every file and every heading they point to is there.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use crate::support::*;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Folders that are not ours, or not kept.
const SKIPPED: [&str; 6] = [
    "target",
    "node_modules",
    ".git",
    ".venv",
    "results",
    "fixtures",
];

fn pages(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !SKIPPED.contains(&name.as_str()) {
                found.extend(pages(&path));
            }
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
    found
}

/// Where a page points to, and what can be pointed to in it.
struct Page {
    links: Vec<String>,
    anchors: BTreeSet<String>,
}

impl Page {
    fn read(text: &str) -> Self {
        let (mut links, mut anchors) = (Vec::new(), BTreeSet::new());
        let mut heading: Option<String> = None;
        for event in Parser::new_ext(text, Options::ENABLE_TABLES) {
            match event {
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    links.push(dest_url.to_string());
                }
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => {
                    let slug = slug(&heading.take().unwrap_or_default());
                    let mut names = (0..).map(|n| match n {
                        0 => slug.clone(),
                        n => format!("{slug}-{n}"),
                    });
                    let free = names.find(|name| !anchors.contains(name));
                    anchors.extend(free);
                }
                Event::Text(text) | Event::Code(text) => {
                    if let Some(heading) = &mut heading {
                        heading.push_str(&text);
                    }
                }
                _ => {}
            }
        }
        Self { links, anchors }
    }
}

/// The anchor that GitHub makes of a heading.
fn slug(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | ' '));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn every_link_of_the_documentation_leads_somewhere() {
    let all: HashMap<PathBuf, Page> = pages(Path::new(ROOT))
        .into_iter()
        .map(|path| {
            let page = Page::read(&fs::read_to_string(&path).unwrap());
            (path.canonicalize().unwrap(), page)
        })
        .collect();
    assert!(all.len() > 15, "the pages have moved");
    let (mut checked, mut broken) = (0, Vec::new());
    for (path, page) in &all {
        for link in &page.links {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            checked += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => path.clone(),
                file => path.parent().unwrap().join(file),
            };
            let Ok(target) = target.canonicalize() else {
                broken.push(format!("{}: {link} is not there", path.display()));
                continue;
            };
            let has = all
                .get(&target)
                .is_some_and(|page| page.anchors.contains(anchor));
            if !anchor.is_empty() && !has {
                broken.push(format!("{}: {link} has no such heading", path.display()));
            }
        }
    }
    assert!(checked > 50, "{checked} links");
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn headings_have_the_anchors_that_readers_see() {
    let page =
        Page::read("# A `code` and: more\n\n## Again\n\n## Again\n\n[x](a.md#b) ![y](c.png)\n");
    let anchors: Vec<_> = page.anchors.iter().map(String::as_str).collect();
    assert_eq!(anchors, ["a-code-and-more", "again", "again-1"]);
    assert_eq!(page.links, ["a.md#b", "c.png"]);
}

#[tokio::test]
async fn the_admin_address_serves_every_page() {
    let backend = Backend::start().await;
    let gateway = Setup::to(&[&backend]).start().await;
    for path in pages(&Path::new(ROOT).join("docs")) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let served = gateway.admin_get(&format!("/docs/{name}")).await;
        assert_eq!(served.status, 200, "{name}");
        assert_eq!(served.text(), fs::read_to_string(&path).unwrap(), "{name}");
    }
}

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;

/// What is found in `text` coming in pieces of `size` characters, and after how many bytes.
fn watch(text: &str, size: usize) -> Option<(Repetition, usize)> {
    let mut watch = Watch::default();
    let chars: Vec<char> = text.chars().collect();
    let mut bytes = 0;
    for piece in chars.chunks(size) {
        let piece: String = piece.iter().collect();
        bytes += piece.len();
        if let Some(found) = watch.push(&piece) {
            return Some((found, bytes));
        }
    }
    None
}

#[test]
fn a_model_that_runs_in_circles_is_found() {
    let preface = "I looked at the parser and at its tests. Both are fine, so the error must come \
                   from somewhere else.\n\n";
    for (unit, within) in [
        ("I will check the file again. ", 1200),
        ("Let me try a different approach.\n\n", 1200),
        ("- Check the configuration\n", 1200),
        (
            "The test fails because the file is missing. I will create the file. Then I will run the \
             test. The test fails, since the directory is missing as well, so I will create that one \
             first, and run the test once more to see whether it passes now.\n",
            1600,
        ),
        ("文件不存在，我再检查一次。", 1200),
        ("the ", 4600),
        ("!", 4600),
        ("<tool_response>\n", 4600),
    ] {
        let text = format!("{preface}{}", unit.repeat(20_000 / unit.len()));
        let (found, at) = watch(&text, 4).unwrap_or_else(|| panic!("{unit:?} is not found"));
        assert!(at < preface.len() + within, "{unit:?} after {at} bytes");
        assert_eq!(found.unit.len(), unit.len(), "{:?}", found.unit);
        let kept = &text[..at - found.excess];
        let times = kept[preface.len()..].matches(unit.trim()).count();
        let at_most = if unit.len() > 4 { 2 } else { 8 };
        assert!(
            (1..=at_most).contains(&times),
            "{unit:?} {times} times in {kept:?}"
        );
    }
}

#[test]
fn a_phrase_fifty_times_is_cut_and_a_short_text_is_not() {
    assert!(watch(&"I will now run the tests. ".repeat(50), 3).is_some());
    assert!(watch(&"hello ".repeat(100), 3).is_none());
    assert!(watch("no no no no no no no no no no", 1).is_none());
}

#[test]
fn in_a_code_block_much_more_may_repeat() {
    let line = "GET /health 200 in one millisecond\n";
    let block = |lines| {
        format!(
            "The log says:\n\n```\n{}```\nThat is all.",
            line.repeat(lines)
        )
    };
    assert!(watch(&block(300), 5).is_none());
    assert!(watch(&block(2000), 5).is_some());
}

/// Texts in which something is repeated for good reason.
fn ordinary() -> Vec<(&'static str, String)> {
    let rows = |row: &str, times: usize| format!("| a | b |\n|---|---|\n{}", row.repeat(times));
    let numbered = |line: &str, times: usize| {
        (0..times)
            .map(|n| line.replace("{}", &n.to_string()))
            .collect::<String>()
    };
    vec![
        ("table of equal rows", rows("| ok | 0 ms |\n", 60)),
        ("wide table", rows(&format!("|{}\n", " - |".repeat(30)), 20)),
        ("rule", format!("{}\n", "=".repeat(2000))),
        ("rules", "-".repeat(78).add_line(30)),
        ("progress", ".".repeat(3000)),
        ("spaces", " ".repeat(3000)),
        ("empty lines", "\n".repeat(1000)),
        ("zeros", format!("[{}]", "0, ".repeat(1000))),
        ("nulls", format!("[{}]", "null, ".repeat(600))),
        ("matrix", "[0.0, 0.0, 0.0, 0.0],\n".repeat(150)),
        ("objects", r#"{"id": 0, "ok": true}, "#.repeat(120)),
        ("hex", "00 00 00 00 00 00 00 00  ".repeat(120)),
        ("base64", "QUFB".repeat(900)),
        ("base64 lines", "QUFBQUFBQUFBQUFBQUFBQUFBQUFB\n".repeat(100)),
        ("list", numbered("- item {} of the list\n", 400)),
        (
            "steps",
            numbered("{}. Run the tests and read their output.\n", 200),
        ),
        (
            "log",
            numbered("2026-11-23T10:00:{} INFO worker finished a job\n", 400),
        ),
        ("tests", numbered("test cases::case_{} ... ok\n", 400)),
        ("checks", "[x] done\n".repeat(300)),
        ("code", "    assert_eq!(f(x), y);\n".repeat(120)),
        ("html", "<li class=\"item\">one</li>\n".repeat(100)),
        ("sql", "INSERT INTO t VALUES (1, 'a');\n".repeat(100)),
        ("yaml", "- name: x\n  value: \"y\"\n".repeat(100)),
        (
            "refrain",
            "Row, row, row your boat, gently down the stream.\n".repeat(6),
        ),
        ("laugh", "ha".repeat(1000)),
        ("chorus", "Na na na na na na na, hey Jude. ".repeat(18)),
    ]
}

trait AddLine {
    fn add_line(self, times: usize) -> String;
}

impl AddLine for String {
    fn add_line(self, times: usize) -> String {
        format!("{self}\n").repeat(times)
    }
}

#[test]
fn ordinary_repetition_is_left_alone() {
    for (name, text) in ordinary() {
        for size in [1, 4, 97] {
            assert_eq!(watch(&text, size), None, "{name} in pieces of {size}");
        }
    }
}

fn files(below: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(below).unwrap().map(Result::unwrap) {
        let path = entry.path();
        match path.is_dir() {
            // What a build or an installation has left is not ours.
            true if ["target", "node_modules", ".venv"]
                .map(Some)
                .contains(&path.file_name().and_then(|name| name.to_str())) => {}
            true => files(&path, out),
            false => out.push(path),
        }
    }
}

/// Source code, documentation, configuration, recorded streams: what this package is made of.
#[test]
fn no_text_of_this_repository_is_degenerate() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all: Vec<PathBuf> = ["README.md", "Cargo.lock", "Makefile", "Cargo.toml"]
        .map(|name| root.join(name))
        .into();
    for below in ["src", "tests", "docs", "conf", "bench", "scripts"] {
        files(&root.join(below), &mut all);
    }
    let mut bytes = 0;
    for file in all {
        let Ok(text) = fs::read_to_string(&file) else {
            continue;
        };
        bytes += text.len();
        assert_eq!(watch(&text, 5), None, "{}", file.display());
    }
    assert!(bytes > 1 << 20, "{bytes} bytes are no corpus");
}

proptest! {
    /// However the text is cut, a repetition is found, and about as early.
    #[test]
    fn pieces_change_little(unit in "[a-z]{2,9} [a-z]{2,9} [a-z ]{0,40}", size in 1usize..40) {
        let text = unit.repeat(6000 / unit.len());
        let (found, at) = watch(&text, size).expect("found");
        prop_assert!(at <= STRUCTURED + 2 * EVERY + size, "after {}", at);
        prop_assert!(at - found.excess <= 3 * unit.len());
    }

    #[test]
    fn random_text_is_no_repetition(text in "\\PC{0,3000}") {
        prop_assert_eq!(watch(&text, 7), None);
    }
}

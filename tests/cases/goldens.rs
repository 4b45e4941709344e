//! Whole conversions, from the client's request to the client's answer, over recorded streams.
//!
//! Each directory of `fixtures/openai`, `fixtures/anthropic` and `fixtures/responses` holds `request.json` (as a client sends it) and `upstream.sse`
//! (as llama-server answered); `forwarded.json` and `client.sse` or `client.json` are what the
//! gateway makes of them. `UPDATE_GOLDEN=1` rewrites the latter.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::BytesMut;
use drover::dialect::llama::{Fault, Target, TemplateRules};
use drover::dialect::{Dialect, Meta};
use drover::exchange::{ChatConversion, Conversion, Guards, Progress};
use drover::turn::Turn;

/// About half an event.
const SOME_BYTES: usize = 131;

/// Context window of the backend in the goldens.
const N_CTX: u64 = 16_384;

struct Case {
    dialect: Dialect,
    dir: PathBuf,
    turn: Turn,
    upstream: Vec<u8>,
}

impl Case {
    fn all() -> Vec<Self> {
        let dialects = [
            (Dialect::OpenAi, "openai"),
            (Dialect::Anthropic, "anthropic"),
            (Dialect::Responses, "responses"),
        ];
        let cases = dialects.map(|(dialect, name)| Self::of(dialect, name));
        cases.into_iter().flatten().collect()
    }

    fn of(dialect: Dialect, name: &str) -> Vec<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures")
            .join(name);
        let mut dirs: Vec<_> = fs::read_dir(root)
            .unwrap()
            .map(|e| e.unwrap().path())
            .collect();
        dirs.sort();
        let read = |dir: &Path, name: &str| fs::read(dir.join(name)).expect("a fixture");
        let case = |dir: PathBuf| Self {
            dialect,
            turn: dialect
                .decode(&read(&dir, "request.json"))
                .unwrap_or_else(|e| panic!("{}: {e}", dir.display())),
            upstream: read(&dir, "upstream.sse"),
            dir,
        };
        dirs.into_iter().map(case).collect()
    }

    fn name(&self) -> String {
        self.dir.file_name().unwrap().to_string_lossy().into_owned()
    }

    fn conversion(&self) -> ChatConversion {
        let model = self.turn.model.clone();
        let meta = Meta {
            id: "golden".into(),
            created: 1_800_000_000,
            model,
        };
        ChatConversion::new(self.dialect, self.turn.clone(), meta, Guards::off())
    }

    fn target(&self) -> Target<'static> {
        let name = self.name();
        target(name.ends_with("_strict"), !name.contains("_blind"))
    }

    fn forwarded(&self) -> Vec<u8> {
        self.conversion().begin(self.target(), None).body.to_vec()
    }

    /// What the client gets when the backend's bytes come in these pieces.
    fn answer<'a>(&self, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
        let mut conversion = self.conversion();
        conversion.begin(self.target(), None);
        let mut out = BytesMut::new();
        let fed = feed(&mut conversion, pieces, &mut out);
        let ended = fed.and_then(|()| conversion.end(&mut out));
        match ended {
            Ok(()) if self.turn.stream => {}
            Ok(()) => out = conversion.whole().expect("an answer in one piece"),
            Err(fault) => conversion.fail(&fault.into_error(), &mut out),
        }
        out.to_vec()
    }

    fn check(&self, name: &str, actual: &[u8]) {
        let file = self.dir.join(name);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&file, actual).unwrap();
            return;
        }
        let expected = fs::read(&file).unwrap_or_default();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert_eq!(text(&expected), text(actual), "{}", file.display());
    }
}

/// A backend that sees images and whose template takes any order of roles, unless the case's name says
/// that it is blind, or strict.
fn target(strict: bool, vision: bool) -> Target<'static> {
    let rules = match strict {
        true => TemplateRules::NONE,
        false => TemplateRules::ALL,
    };
    Target {
        n_ctx: Some(N_CTX),
        vision: Some(vision),
        rules,
        ..Target::default()
    }
}

fn feed<'a>(
    conversion: &mut ChatConversion,
    pieces: impl IntoIterator<Item = &'a [u8]>,
    out: &mut BytesMut,
) -> Result<(), Fault> {
    for piece in pieces {
        match conversion.feed(piece, out)? {
            Progress::Complete | Progress::Cancel => break,
            _ => {}
        }
    }
    Ok(())
}

#[test]
fn requests_are_forwarded_as_recorded() {
    let cases = Case::all();
    assert!(cases.len() >= 70, "{}", cases.len());
    for case in cases {
        let mut forwarded = case.forwarded();
        assert_eq!(
            forwarded,
            case.forwarded(),
            "the same turn gives the same bytes"
        );
        forwarded.push(b'\n');
        case.check("forwarded.json", &forwarded);
    }
}

#[test]
fn answers_are_told_as_recorded() {
    for case in Case::all() {
        let stream = case.turn.stream;
        let mut answer = case.answer([case.upstream.as_slice()]);
        if stream {
            let text = String::from_utf8(answer.clone()).unwrap();
            let stranger = text.lines().find(|line| {
                !(line.is_empty() || line.starts_with("data: ") || line.starts_with("event: "))
            });
            assert_eq!(stranger, None, "{} is no line of a stream", case.name());
        } else {
            answer.push(b'\n');
        }
        case.check(if stream { "client.sse" } else { "client.json" }, &answer);
    }
}

#[test]
fn how_the_bytes_are_cut_changes_nothing() {
    for case in Case::all() {
        let upstream = case.upstream.as_slice();
        let whole = case.answer([upstream]);
        let assert_same = |answer: Vec<u8>, cut: &dyn std::fmt::Display| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            assert_eq!(text(&answer), text(&whole), "{}, cut {cut}", case.name());
        };
        assert_same(case.answer(upstream.chunks(1)), &"byte by byte");
        for size in [2, 3, 7, 1000] {
            assert_same(case.answer(upstream.chunks(size)), &size);
        }
        // Every position is cut at, in pieces that hold about half an event.
        for first in 0..SOME_BYTES.min(upstream.len()) {
            let (begin, rest) = upstream.split_at(first);
            let pieces = std::iter::once(begin).chain(rest.chunks(SOME_BYTES));
            assert_same(case.answer(pieces), &first);
        }
        let singly = if upstream.len() < 1500 {
            upstream.len()
        } else {
            300
        };
        for at in upstream.len() - singly..upstream.len() {
            assert_same(case.answer([&upstream[..at], &upstream[at..]]), &at);
        }
    }
}

/// Wherever a backend's answer ends too early, the client is not told that it is complete.
#[test]
fn no_beginning_of_an_answer_looks_complete() {
    // A stop sequence completes an answer before the backend does.
    let cases = Case::all().into_iter();
    for case in cases.filter(|case| case.turn.stop.is_empty()) {
        let stream = case.turn.stream;
        let whole = case.answer([case.upstream.as_slice()]);
        let near_the_end = case.upstream.len().saturating_sub(1200);
        for end in (0..near_the_end)
            .step_by(17)
            .chain(near_the_end..case.upstream.len())
        {
            let answer = case.answer([&case.upstream[..end]]);
            let terminated = match case.dialect {
                Dialect::OpenAi => answer.ends_with(
                    b"data: [DONE]

",
                ),
                Dialect::Anthropic => {
                    memchr::memmem::find(&answer, b"event: message_stop").is_some()
                }
                Dialect::Responses => ["event: response.completed", "event: response.incomplete"]
                    .iter()
                    .any(|end| memchr::memmem::find(&answer, end.as_bytes()).is_some()),
            };
            let says_done = terminated || (!stream && answer == whole);
            let finished =
                memchr::memmem::find_iter(&case.upstream[..end], b"\"finish_reason\":\"").count()
                    >= memchr::memmem::find_iter(&case.upstream, b"\"finish_reason\":\"").count();
            assert!(
                !says_done || finished,
                "{}, ended after {end} bytes",
                case.name()
            );
        }
    }
}

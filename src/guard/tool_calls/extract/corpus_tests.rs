//! Runs the corpus of `tests/fixtures/tool_calls/`: model outputs and what they are made of, whole and
//! cut at every place.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::literal::floor;
use super::{Extractor, Piece, TextualCall};
use crate::guard::tool_calls::offered::Offered;
use crate::turn::Tool;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    family: String,
    /// Offered where a case does not say otherwise.
    tools: Vec<String>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    id: String,
    tools: Option<Vec<String>>,
    family: Option<String>,
    /// The token limit ended the answer.
    #[serde(default)]
    cut: bool,
    /// What the model wrote.
    #[serde(rename = "in")]
    input: String,
    /// Replaced in input and expectation: token, text, times.
    #[serde(default)]
    fill: Vec<(String, String, usize)>,
    out: Out,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Out {
    Pieces(Vec<Expected>),
    /// `same`: all of it is text.
    Word(String),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Expected {
    Text(String),
    Call {
        call: String,
        args: Value,
    },
    /// Arguments that are no JSON, or of which every byte counts.
    Exact {
        call: String,
        exact: String,
    },
    Truncated {
        truncated: String,
        exact: Option<String>,
    },
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tool_calls")
}

fn tool_definitions() -> BTreeMap<String, Value> {
    let text = std::fs::read_to_string(folder().join("tools.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn files() -> Vec<(String, File)> {
    let mut files: Vec<(String, File)> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "yaml"))
        .map(|path| {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let text = std::fs::read_to_string(&path).unwrap();
            let file = serde_saphyr::from_str(&text);
            (name, file.unwrap_or_else(|e| panic!("{path:?}: {e}")))
        })
        .collect();
    files.sort_by(|a, b| a.0.cmp(&b.0));
    files
}

fn offered(names: &[String], all: &BTreeMap<String, Value>) -> Arc<Offered> {
    let raw = |value: &Value| RawValue::from_string(value.to_string()).unwrap();
    let tools: Arc<[Tool]> = names
        .iter()
        .map(|name| {
            let schema = all.get(name).unwrap_or_else(|| panic!("no tool {name}"));
            Tool {
                name: name.clone(),
                parameters: (!schema.is_null()).then(|| raw(schema)),
                upstream: raw(&Value::Null),
            }
        })
        .collect();
    Arc::new(Offered::new(tools))
}

/// What comes of `pieces`, neighbouring texts joined.
pub(super) fn extract<'a>(
    offered: &Arc<Offered>,
    pieces: impl IntoIterator<Item = &'a str>,
    cut: bool,
) -> Vec<Piece> {
    let mut extractor = Extractor::new(offered.clone());
    let mut out = Vec::new();
    for piece in pieces {
        extractor.push(piece, &mut out);
    }
    extractor.finish(cut, &mut out);
    assert_eq!(extractor.held(), 0, "something is held after the end");
    out
}

/// The source text of all pieces.
pub(super) fn source(pieces: &[Piece]) -> String {
    pieces
        .iter()
        .map(|piece| match piece {
            Piece::Text(text) => text.as_str(),
            Piece::Call(call) | Piece::Truncated(call) => call.raw.as_str(),
            Piece::Leftover(raw) => raw.as_str(),
        })
        .collect()
}

impl Case {
    fn filled(&self, text: &str) -> String {
        let fill = |text: String, (token, with, times): &(String, String, usize)| {
            text.replace(token, &with.repeat(*times))
        };
        self.fill.iter().fold(text.to_owned(), fill)
    }

    fn is_negative(&self) -> bool {
        matches!(self.out, Out::Word(_))
    }

    fn mismatch(&self, pieces: &[Piece], family: &str) -> Option<String> {
        let expected = match &self.out {
            Out::Word(word) => {
                assert_eq!(word, "same", "{}", self.id);
                let text = self.filled(&self.input);
                let same = matches!(pieces, [Piece::Text(all)] if *all == text);
                return (!same).then(|| "should all be text".to_owned());
            }
            Out::Pieces(expected) => expected,
        };
        if expected.len() != pieces.len() {
            return Some(format!("{} pieces expected", expected.len()));
        }
        let family = self.family.as_deref().unwrap_or(family);
        let check = |(expected, piece): (&Expected, &Piece)| {
            let call = |call: &TextualCall, name: &str| {
                call.name == *name && call.family.as_str() == family
            };
            let ok = match (expected, piece) {
                (Expected::Text(text), Piece::Text(is)) => self.filled(text) == *is,
                (Expected::Call { call: name, args }, Piece::Call(is)) => {
                    let args = self.filled(&args.to_string());
                    let args: Value = serde_json::from_str(&args).unwrap();
                    let got: Option<Value> = serde_json::from_str(&is.arguments).ok();
                    call(is, name) && got == Some(args)
                }
                (Expected::Exact { call: name, exact }, Piece::Call(is)) => {
                    call(is, name) && self.filled(exact) == is.arguments
                }
                (Expected::Truncated { truncated, exact }, Piece::Truncated(is)) => {
                    let args = exact.as_ref().map(|exact| self.filled(exact));
                    call(is, truncated) && args.is_none_or(|args| args == is.arguments)
                }
                _ => false,
            };
            (!ok).then(|| "a piece differs".to_owned())
        };
        expected.iter().zip(pieces).find_map(check)
    }
}

fn shorten(text: String) -> String {
    match text.len() {
        0..=3000 => text,
        _ => format!("{}…", &text[..floor(&text, 3000)]),
    }
}

#[test]
fn every_case_gives_its_pieces_however_it_is_cut() {
    let definitions = tool_definitions();
    let (mut total, mut negative) = (0, 0);
    let mut ids = HashSet::new();
    let mut failures = Vec::new();
    for (name, file) in files() {
        let (mut of_file, mut negative_of_file) = (0, 0);
        for case in &file.cases {
            assert!(ids.insert(case.id.clone()), "{} twice", case.id);
            of_file += 1;
            negative_of_file += usize::from(case.is_negative());
            let tools = case.tools.as_ref().unwrap_or(&file.tools);
            let offered = offered(tools, &definitions);
            let input = case.filled(&case.input);
            let whole = extract(&offered, [input.as_str()], case.cut);
            if let Some(why) = case.mismatch(&whole, &file.family) {
                failures.push(shorten(format!(
                    "{}: {why}\n{input}\n=> {whole:#?}",
                    case.id
                )));
                continue;
            }
            assert_eq!(source(&whole), input, "{}", case.id);
            if let Some(why) = check_cuts(case, &offered, &input, &whole) {
                failures.push(shorten(why));
            }
        }
        println!("{name}: {of_file} cases, {negative_of_file} negative");
        total += of_file;
        negative += negative_of_file;
    }
    println!("all: {total} cases, {negative} negative");
    assert!(
        failures.is_empty(),
        "{}\n{} fail",
        failures.join("\n\n"),
        failures.len()
    );
    assert!(total >= 300 && negative >= 100);
}

/// Cut in two at every character, and into single characters: always the same pieces.
fn check_cuts(case: &Case, offered: &Arc<Offered>, input: &str, whole: &[Piece]) -> Option<String> {
    let step = (input.len() / 1000).max(1);
    let cuts = input.char_indices().map(|(at, _)| at).filter(|at| {
        let edge = *at < 150 || *at + 100 > input.len();
        edge || at % (97 * step) == 0 || input.len() < 5000
    });
    for at in cuts {
        let (head, tail) = input.split_at(at);
        let pieces = extract(offered, [head, tail], case.cut);
        if pieces != whole {
            return Some(format!("{} cut at {at}: {pieces:#?}", case.id));
        }
    }
    let ends = input
        .char_indices()
        .skip(1)
        .map(|(at, _)| at)
        .chain([input.len()]);
    let singles = input.char_indices().map(|(at, _)| at).zip(ends);
    let singles = singles.map(|(from, to)| &input[from..to]);
    let pieces = extract(offered, singles, case.cut);
    (pieces != whole).then(|| format!("{} cut into characters: {pieces:#?}", case.id))
}

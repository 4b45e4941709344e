//! From a marker to the reader of the family that wrote it.

use super::gemma::GemmaCall;
use super::headed::HeadedCall;
use super::json_call::JsonCall;
use super::json_style::{self, JsonStyle};
use super::literal::{Look, is_name_byte, look, skip_fence, skip_space};
use super::marker::{Marker, Opens};
use super::param_style as params;
use super::params::ParamCall;
use super::piece::Family;
use super::pythonic::PythonCalls;
use super::step::{Source, Step};

/// Reads the call behind a marker.
#[derive(Debug)]
pub(super) enum Reader {
    Json(JsonCall),
    Headed(HeadedCall),
    Params(ParamCall),
    Gemma(GemmaCall),
    Python(PythonCalls),
}

impl Reader {
    pub(super) fn read(&mut self, source: Source<'_>) -> Step {
        match self {
            Self::Json(reader) => reader.read(source),
            Self::Headed(reader) => reader.read(source),
            Self::Params(reader) => reader.read(source),
            Self::Gemma(reader) => reader.read(source),
            Self::Python(reader) => reader.read(source),
        }
    }

    /// How far the text was read.
    pub(super) fn at(&self) -> usize {
        match self {
            Self::Json(reader) => reader.at(),
            Self::Headed(reader) => reader.at(),
            Self::Params(reader) => reader.at(),
            Self::Gemma(reader) => reader.at(),
            Self::Python(reader) => reader.at(),
        }
    }
}

/// The reader for what follows `marker`, which begins the source. `Err` says that more text decides,
/// or that it is no call.
pub(super) fn open(marker: &Marker, source: Source<'_>, nameless: bool) -> Result<Reader, Step> {
    let after = marker.text.len();
    match marker.opens {
        Opens::Headed(style) => Ok(Reader::Headed(HeadedCall::new(style, after))),
        Opens::Params(style) => Ok(Reader::Params(ParamCall::new(style, after, false))),
        Opens::Gemma => Ok(Reader::Gemma(GemmaCall::new(after))),
        Opens::HeadedSection(style, begins) => {
            let (at, found) = inside(source, after, begins)?;
            Ok(Reader::Headed(HeadedCall::new(
                style,
                at + begins[found].len(),
            )))
        }
        Opens::ParamsSection(styles) => {
            let at = skip_space(source.src, after);
            let mut partial = false;
            for style in styles {
                match look(&source.src[at..], &[style.open], source.has_ended()) {
                    Look::At(_) => {
                        let reader = ParamCall::new(style, at + style.open.len(), true);
                        return Ok(Reader::Params(reader));
                    }
                    Look::Partial => partial = true,
                    Look::No => {}
                }
            }
            Err(if partial { Step::More } else { Step::Reject })
        }
        // The bracket itself is the marker.
        Opens::Json(style) if after == 1 => Ok(Reader::Json(JsonCall::new(style, 0))),
        Opens::Json(style) if nameless && style.family == Family::Fenced => {
            json(&json_style::FENCED_NAMELESS, source, after)
        }
        Opens::Json(style) => json(style, source, after),
        Opens::Mistral => match next_byte(source, after)? {
            (b'{' | b'[', _) => json(&json_style::MISTRAL, source, after),
            (_, at) => Ok(Reader::Headed(HeadedCall::new(
                &super::headed_style::MISTRAL_NAMED,
                at,
            ))),
        },
        Opens::PythonTag => match next_byte(source, after)? {
            (b'{' | b'[', _) => json(&json_style::PYTHON_TAG, source, after),
            (_, at) => Ok(Reader::Python(PythonCalls::single(at))),
        },
        Opens::Pythonic => match next_byte(source, after)? {
            (b'[', at) => Ok(Reader::Python(PythonCalls::list(at + 1))),
            _ => Err(Step::Reject),
        },
        Opens::ToolCallTag => tool_call_tag(source, after),
    }
}

fn tool_call_tag(source: Source<'_>, after: usize) -> Result<Reader, Step> {
    match next_byte(source, after)? {
        (b'{' | b'[' | b'`', _) => json(&json_style::HERMES, source, after),
        (b'<', at) => {
            let styles = [&params::QWEN, &params::INVOKE, &params::MINICPM];
            let opens = styles.map(|style| style.open);
            match look(&source.src[at..], &opens, source.has_ended()) {
                Look::At(index) => {
                    let reader = ParamCall::new(styles[index], at + opens[index].len(), false);
                    Ok(Reader::Params(reader))
                }
                Look::Partial => Err(Step::More),
                Look::No => Err(Step::Reject),
            }
        }
        (byte, at) if is_name_byte(byte) => {
            Ok(Reader::Params(ParamCall::new(&params::GLM, at, false)))
        }
        _ => Err(Step::Reject),
    }
}

/// JSON after white space, perhaps in a code fence of its own.
fn json(style: &'static JsonStyle, source: Source<'_>, after: usize) -> Result<Reader, Step> {
    let (first, at) = next_byte(source, after)?;
    if first == b'`' && !style.strict {
        let fence = skip_fence(source.src, at, source.has_ended()).ok_or(Step::More)?;
        let (first, at) = next_byte(source, fence)?;
        return match first {
            b'{' | b'[' => Ok(Reader::Json(JsonCall::new(style, at).fenced())),
            _ => Err(Step::Reject),
        };
    }
    match first {
        b'{' => Ok(Reader::Json(JsonCall::new(style, at))),
        b'[' if !style.strict => Ok(Reader::Json(JsonCall::new(style, at))),
        _ => Err(Step::Reject),
    }
}

/// The first byte after white space.
fn next_byte(source: Source<'_>, after: usize) -> Result<(u8, usize), Step> {
    let at = skip_space(source.src, after);
    match source.src.as_bytes().get(at) {
        Some(&byte) => Ok((byte, at)),
        None if source.has_ended() => Err(Step::Reject),
        None => Err(Step::More),
    }
}

/// Which of `literals` comes after white space, and where.
fn inside(source: Source<'_>, after: usize, literals: &[&str]) -> Result<(usize, usize), Step> {
    let at = skip_space(source.src, after);
    match look(&source.src[at..], literals, source.has_ended()) {
        Look::At(index) => Ok((at, index)),
        Look::Partial => Err(Step::More),
        Look::No => Err(Step::Reject),
    }
}

//! Repair of the envelope of a tool call's arguments.
//!
//! Models damage the punctuation around what they mean: a brace too few, a trailing comma, a code
//! fence, JSON inside a JSON string. That is put right here. What they mean is never touched:
//! strings keep every character, numbers keep their digits, nothing is made up. Where two readings
//! are possible the answer is [`Unrepairable`], and the model is asked again.
//!
//! One pass over the text without recursion, so hostile text costs no more than honest text.

mod change;
mod object;
mod string;
mod wrapper;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;

use std::fmt;

use super::clip;

pub use change::{Change, Changes};

/// Deepest nesting accepted. As deep as `serde_json` reads, so that whatever passes here can be
/// validated and shown by everything after it.
pub const MAX_DEPTH: usize = 127;

/// How often JSON may be wrapped in a JSON string.
const MAX_ENCODINGS: usize = 3;

/// Arguments that are a JSON object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repaired {
    /// The object; byte for byte the input when there are no changes.
    pub arguments: String,
    /// What was repaired.
    pub changes: Changes,
}

/// Why arguments cannot be repaired without guessing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unrepairable {
    /// The text ends before the object does.
    Truncated,
    /// Not an object: prose, a number, an array.
    NotAnObject,
    /// Something else, and where.
    Hopeless(Fault),
}

/// What is wrong with a text, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What was found or missed.
    pub what: &'static str,
    /// Byte at which it shows.
    pub at: usize,
    /// The text from there on, clipped.
    pub near: String,
}

impl Fault {
    fn at(what: &'static str, text: &str, at: usize) -> Unrepairable {
        Unrepairable::Hopeless(Self {
            what,
            at,
            near: clip(text.get(at..).unwrap_or_default(), 40).into_owned(),
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.what, self.at)?;
        if self.near.is_empty() {
            return Ok(());
        }
        write!(f, ", near `{}`", self.near)
    }
}

/// Make a JSON object of `text`, changing nothing but its envelope.
///
/// `cut` says that generation stopped at the token limit: then nothing that is missing at the end
/// is added, because the rest may be missing as well.
///
/// # Errors
/// [`Unrepairable`] where the result would be a guess.
pub fn repair(text: &str, cut: bool) -> Result<Repaired, Unrepairable> {
    let mut changes = Changes::default();
    let mut decoded: Option<String> = None;
    for _ in 0..=MAX_ENCODINGS {
        let current = decoded.as_deref().unwrap_or(text);
        match unwrap(current, cut, &mut changes)? {
            Content::Untouched => {
                return Ok(Repaired {
                    arguments: current.to_owned(),
                    changes,
                });
            }
            Content::Object(object) => return checked(object, changes),
            Content::Encoded(inner) => {
                changes.note(Change::DoubleEncoded);
                decoded = Some(inner);
            }
        }
    }
    Err(Fault::at("JSON strings inside each other", text, 0))
}

/// What is left when the wrapping is off.
enum Content {
    /// The text itself is the object, space around it included.
    Untouched,
    /// The repaired object.
    Object(String),
    /// The text of a JSON string in place of the object.
    Encoded(String),
}

/// A last look: nothing but an object may leave, whatever went wrong before.
fn checked(arguments: String, changes: Changes) -> Result<Repaired, Unrepairable> {
    match serde_json::from_str::<serde::de::IgnoredAny>(&arguments) {
        Ok(_) => Ok(Repaired { arguments, changes }),
        Err(error) => {
            let at = error.column().saturating_sub(1);
            Err(Fault::at("JSON that stays invalid", &arguments, at))
        }
    }
}

/// Take off fences and tags, and read what is inside.
fn unwrap(text: &str, cut: bool, changes: &mut Changes) -> Result<Content, Unrepairable> {
    let start = wrapper::before(text, changes);
    match text.as_bytes().get(start) {
        None if cut => Err(Unrepairable::Truncated),
        None if !changes.is_empty() => Err(Unrepairable::NotAnObject),
        None => {
            changes.note(Change::Empty);
            Ok(Content::Object("{}".to_owned()))
        }
        Some(b'{') if escaped_quote_follows(&text[start + 1..]) => {
            let inner = string::decode_bare(text, start)?;
            Ok(Content::Encoded(inner))
        }
        Some(b'{') => {
            let object = object::read(text, start, cut, changes)?;
            Ok(match object {
                Some(object) => Content::Object(object),
                None => Content::Untouched,
            })
        }
        Some(b'"' | b'\'') => {
            let (inner, end) = string::decode(text, start)?;
            if !inner.contains('{') {
                return Err(Unrepairable::NotAnObject);
            }
            wrapper::after(text, end, changes)?;
            Ok(Content::Encoded(inner))
        }
        Some(_) => Err(Unrepairable::NotAnObject),
    }
}

/// Whether the first thing in an object is `\"`: its quotes are escaped, the outer ones are lost.
fn escaped_quote_follows(text: &str) -> bool {
    let text = text.trim_start();
    text.starts_with("\\\"") || text.starts_with("\\n") || text.starts_with("\\r\\n")
}

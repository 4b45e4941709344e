//! Tool calls that a model writes into its visible text, told apart from text as it streams.
//!
//! Text passes at once; only an end that may become a marker is held. From a marker on everything is
//! held until it is a whole call, or provably none: then it is text again, unchanged. What stands in
//! code, in a quotation or in a table row is a sample; so is what names no offered tool, and what
//! stands in the middle of a sentence.
//!
//! Work is linear in the text and independent of how it is cut into pieces; memory is bounded by
//! [`MAX_CALL`].

mod args;
mod extractor;
mod gemma;
mod headed;
mod headed_style;
mod json;
mod json_call;
mod json_style;
mod leftover;
mod literal;
mod markdown;
mod marker;
mod open;
mod param_style;
mod param_value;
mod params;
mod piece;
mod python_value;
mod pythonic;
mod settle;
mod shape;
mod step;
mod typed;

#[cfg(test)]
mod corpus_tests;
#[cfg(test)]
mod cost;
#[cfg(test)]
mod tests;

pub use self::extractor::{Extractor, MAX_CALL};
pub use self::piece::{Family, Piece, TextualCall};

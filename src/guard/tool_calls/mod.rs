//! Tool calls a model made: read, repaired in their envelope, checked against the client's schema,
//! and, where that fails, asked for again.

pub mod constrain;
pub mod early;
pub mod extract;
pub mod judge;
pub mod offered;
pub mod repair;
pub mod validate;

use std::borrow::Cow;

pub use constrain::{is_plain_pattern, parse_constrained, schema_for};
pub use early::{EarlyRelease, may_be_any_text};
pub use extract::{Extractor, Piece, TextualCall};
pub use judge::{BadCall, Judgement, RawCall, judge};
pub use offered::Offered;
pub use repair::Change;
pub use validate::Validators;

/// `text`, cut to about `limit` bytes with an ellipsis.
pub(super) fn clip(text: &str, limit: usize) -> Cow<'_, str> {
    if text.len() <= limit {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("{}…", &text[..super::floor(text, limit)]))
}

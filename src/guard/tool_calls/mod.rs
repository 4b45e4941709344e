//! Tool calls a model made: read, repaired in their envelope, checked against the client's schema,
//! and, where that fails, asked for again.

pub mod constrain;
pub mod judge;
pub mod repair;
pub mod validate;

use std::borrow::Cow;

/// `text`, cut to about `limit` bytes with an ellipsis.
fn clip(text: &str, limit: usize) -> Cow<'_, str> {
    if text.len() <= limit {
        return Cow::Borrowed(text);
    }
    let end = (0..=limit).rev().find(|at| text.is_char_boundary(*at));
    let end = end.unwrap_or_default();
    Cow::Owned(format!("{}…", &text[..end]))
}

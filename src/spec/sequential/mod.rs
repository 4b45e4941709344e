//! Tests that may be looked at after every turn.
//!
//! A test of fixed size that is looked at again and again calls chance a finding sooner or later.
//! These stay within their α over all looks together:
//!
//! * [`difference`]: a confidence sequence for the difference of two means, nearly exact; the error
//!   rates measured are in `docs/speculative.md`.
//! * [`crossed`] and [`pooled`]: the same of a crossover, and of many pairs together.
//! * [`Count::is_higher`]: an e-process for rates by betting, exact for any number of trials.

mod count;
mod difference;
mod sample;

pub use count::Count;
pub use difference::{BURN_IN, Interval, crossed, difference, pooled};
pub use sample::Sample;

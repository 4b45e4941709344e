//! What must hold for every conversation and every answer, however odd.

mod prefix;
mod rules;
mod transcripts;

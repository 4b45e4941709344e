//! `drover top`: the fleet at a glance in a terminal, from the events of the admin address.
//!
//! [`source`] reads the events, [`known`] keeps what they tell, [`draw`] shows it, [`screen`] has the terminal and
//! the keys. Nothing here changes the gateway.

mod draw;
mod known;
mod screen;
mod source;
mod told;

use std::sync::Arc;

use parking_lot::Mutex;

use known::Known;
pub use screen::{once, watch};
pub use source::{Address, BadAddress};

/// What the reader of events writes and the screen reads.
type Shared = Arc<Mutex<Known>>;

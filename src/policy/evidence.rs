//! What a turn's rules were decided on, besides the call itself: enough to decide again.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::bindings::{Actor, Request};
use super::engine::{Active, Engine};
use super::judge::TurnPolicy;
use super::session::SessionState;
use super::tools::Class;

/// See the module's documentation. The session's name and whose it is stand beside it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Evidence {
    /// The working directory, where it was known.
    pub root: Option<String>,
    /// A subagent that says so.
    pub is_agent: bool,
    /// What the session had done.
    pub session: SessionState,
    /// Classes of the tools on offer.
    pub offered: BTreeSet<Class>,
    /// The request, for decisions about it as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Request>,
}

impl Evidence {
    /// The same situation under other rules.
    pub fn under(
        self,
        engine: Arc<Engine>,
        active: Active,
        session: &str,
        principal: &str,
    ) -> TurnPolicy {
        let actor = Actor {
            root: self.root,
            is_agent: self.is_agent,
            session: session.to_owned(),
            principal: principal.to_owned(),
        };
        TurnPolicy::restored(engine, active, actor, self.session, self.offered)
    }
}

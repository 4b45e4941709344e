//! What happens where decisions cannot be recorded: required rules let nothing pass, since nobody could
//! tell later what they have let pass.

use std::sync::Arc;

use super::bindings::Request;
use super::engine::Rule;
use super::evidence::Evidence;
use super::judge::TurnPolicy;
use super::source::{Level, Mode, OnBlock, Stage};
use super::tools::Class;
use super::verdict::{Blocked, Decision};
use super::{Active, Actor, Engine, SessionState};

/// The reason of blocks because of this.
pub const AUDIT_UNAVAILABLE: &str = "audit_unavailable";

const HINT: &str = "Decisions of required rules cannot be recorded at the moment, so that nothing they \
                    are about may happen. The gateway's operator has to see to its audit log; try again \
                    later.";

impl TurnPolicy {
    /// Why a call of `tool` may not go on unrecorded: the first required rule that is asked about it.
    pub fn unrecorded_call(&self, tool: &str) -> Option<(Blocked, Decision)> {
        let class = self.engine.tools.class(tool);
        let asked = |rule: &Rule| match rule.stage {
            Stage::ToolCall => {
                let when = rule.when.as_ref();
                when.is_none_or(|when| when.concerns(class.as_str()))
            }
            Stage::SessionStart => {
                let bindings = self.bindings();
                self.applies(rule, &bindings) != Ok(false)
                    && !self.missing(rule, &bindings).is_empty()
            }
            _ => false,
        };
        self.closed(&[Stage::SessionStart, Stage::ToolCall], asked, tool)
    }

    /// Why a request may not go on unrecorded: the first required rule about it or its results.
    pub fn unrecorded_request(&self) -> Option<(Blocked, Decision)> {
        self.closed(&[Stage::Request, Stage::ToolResult], |_| true, "")
    }

    fn closed(
        &self,
        stages: &[Stage],
        asked: impl Fn(&Rule) -> bool,
        tool: &str,
    ) -> Option<(Blocked, Decision)> {
        let rules = stages
            .iter()
            .flat_map(|stage| self.engine.at(&self.active, *stage));
        let (rule, mode) = rules.into_iter().find(|(rule, mode)| {
            rule.level == Level::Required && *mode == Mode::Enforce && asked(rule)
        })?;
        let mut decision = Self::decision(rule, mode, tool);
        AUDIT_UNAVAILABLE.clone_into(&mut decision.reason);
        let blocked = Blocked {
            rule: Arc::clone(&rule.id),
            reason: AUDIT_UNAVAILABLE.to_owned(),
            hint: HINT.to_owned(),
            // The model can do nothing about it; a human can.
            on_block: OnBlock::TellClient,
            for_now: true,
        };
        Some((blocked, decision))
    }

    /// What its rules decide on, for the record.
    pub fn evidence(&self, request: Option<&Request>) -> Evidence {
        let mut session = self.state.clone();
        // Counted for people, and asked for by no rule: it would make every record's evidence another one.
        session.denials = 0;
        Evidence {
            root: self.actor.root.clone(),
            is_agent: self.actor.is_agent,
            session,
            offered: self.offered.clone(),
            request: request.cloned(),
        }
    }

    /// For a turn that is on record or made up: with the classes of the tools on offer.
    pub fn restored(
        engine: Arc<Engine>,
        active: Active,
        actor: Actor,
        state: SessionState,
        offered: std::collections::BTreeSet<Class>,
    ) -> Self {
        Self {
            engine,
            active,
            actor,
            state,
            offered,
        }
    }
}

//! The ladder inside one turn: what the plan asks for, and what came of it.

use super::gate::Rule;
use crate::dialect::llama::Ask;
use crate::guard::loops::{self, Effects, Phase, Plan};
use crate::guard::trouble::Trouble;
use crate::turn::{Delta, Message, Role, Tool};

/// Denials within one turn before a summary is asked for instead.
const MAX_DENIALS: u32 = 2;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Ladder {
    plan: Plan,
    effects: Effects,
    denials: u32,
    /// A summary is wanted and no calls.
    finalizing: bool,
}

impl Ladder {
    pub(super) fn new(plan: Plan) -> Self {
        Self {
            finalizing: plan.acts && plan.rung == Phase::Finalize,
            plan,
            ..Self::default()
        }
    }

    /// What becomes of the calls of the next attempt.
    pub(super) fn rule(&self) -> Rule {
        if self.finalizing {
            Rule::Drop
        } else if self.plan.withheld.is_empty() {
            Rule::Open
        } else {
            Rule::Deny(self.plan.withheld.clone())
        }
    }

    pub(super) fn is_finalizing(&self) -> bool {
        self.finalizing
    }

    /// Nothing is generated any more: this is the answer.
    pub(super) fn stops(&self) -> Option<String> {
        let stops = self.plan.acts && self.plan.rung == Phase::Stop;
        stops.then(|| self.plan.summary.to_string())
    }

    /// A call was denied.
    pub(super) fn denied(&mut self, name: &str, arguments: &str) {
        self.denials += 1;
        let call = loops::call_hash(name, arguments);
        if !self.effects.denied.contains(&call) {
            self.effects.denied.push(call);
        }
    }

    /// How the model is asked after a denial: to do something else, or in the end for a summary.
    pub(super) fn ask(&mut self, trouble: &Trouble, said: &str) -> Option<Ask> {
        let insists = self.denials > MAX_DENIALS;
        if insists && !self.plan.may_finalize {
            return None;
        }
        let mut spoken = said.trim().to_owned();
        if let Trouble::Denied {
            name, arguments, ..
        } = trouble
        {
            if !spoken.is_empty() {
                spoken.push_str("\n\n");
            }
            spoken.push_str(&format!("{name} {arguments}"));
        }
        let mut told = trouble.tell_model();
        if insists {
            self.finalizing = true;
            self.effects.finalized = true;
            told.push_str("\n\n");
            told.push_str(loops::FINALIZE);
        }
        Some(Ask {
            append: vec![
                Message::text(Role::Assistant, spoken),
                Message::text(Role::User, told),
            ],
            no_calls: insists,
            ..Ask::default()
        })
    }

    /// At the end of a summary: our own if nothing was `said`.
    pub(super) fn own_summary(&self, said: bool) -> Option<String> {
        let needed = self.finalizing && !said;
        needed.then(|| self.plan.summary.to_string())
    }

    /// The model insisted to the end.
    pub(super) fn gives_up(&mut self) -> String {
        if self.plan.may_finalize && !self.finalizing {
            self.effects.finalized = true;
        }
        self.plan.summary.to_string()
    }

    /// The call that makes the agent go on after a summary.
    pub(super) fn continuation(
        &mut self,
        tools: &[Tool],
        seed: &str,
        index: u32,
    ) -> Option<[Delta; 2]> {
        if !self.plan.continues || self.effects.continued {
            return None;
        }
        let call = loops::continuation(tools, seed, index)?;
        self.effects.continued = true;
        Some(call)
    }

    /// The answer could not be used, because of this.
    pub(super) fn gave_up(&mut self, trouble: &Trouble) {
        match trouble {
            Trouble::Call { .. } => self.effects.bad = true,
            Trouble::MissedCall => self.effects.missed = true,
            _ => {}
        }
    }

    /// What came of it all; `called` if the client has got a call.
    pub(super) fn effects(&self, generated: u64, called: bool) -> Effects {
        Effects {
            generated,
            called,
            missed: self.effects.missed || (self.plan.requires_call() && !called),
            ..self.effects.clone()
        }
    }
}

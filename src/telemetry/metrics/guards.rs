//! What guards did.

use super::Metrics;
use super::declare::series;
use crate::guard::context::PrefixBreak;
use crate::guard::intervention::Intervention;
use crate::telemetry::labels::Configured;

series! {
    /// Series of guards.
    Guards, "Guards" {
        tool_calls: counters(
            "drover_tool_calls_total",
            "Tool calls that reached clients, all of them complete.",
            &["pool"],
        );
        interventions: counters(
            "drover_interventions_total",
            "What guards changed (mode act) or would have changed (mode observe), by kind.",
            &["kind", "mode"],
        );
        not_evaluated: counter(
            "drover_guard_not_evaluated_total",
            "Turns answered without the guards of their preset; more than 0 is a defect.",
        );
        loop_transitions: counters(
            "drover_loop_transitions_total",
            "Changes of the rung of loop protection (act, hint, narrow, finalize, stop), by reason.",
            &["from", "to", "reason"],
        );
        prefix_breaks: counters(
            "drover_prefix_breaks_total",
            "Prompts changed near their beginning by the gateway, which costs the backend its \
             prefix cache once, by cause.",
            &["cause"],
        );
        policy_decisions: counters(
            "drover_policy_decisions_total",
            "What policy decided, by rule (`-`: a call that no rule had anything to say about) and mode.",
            &["rule", "decision", "mode"],
        );
        policy_leases: counters(
            "drover_policy_leases_total",
            "What came of leases on what agents commit to, push, merge, start and deploy.",
            &["outcome"],
        );
    }
}

/// What can come of a lease.
pub(super) const LEASE_OUTCOMES: [&str; 8] = [
    "granted",
    "held",
    "coalesced",
    "full",
    "failed",
    "done",
    "given_back",
    "session_ended",
];

impl Guards {
    /// Series that are there from the start, so that their first increase is seen.
    pub(super) fn start_at_zero(&self) {
        for outcome in LEASE_OUTCOMES {
            self.policy_leases.with_label_values(&[outcome]);
        }
    }
}

impl Metrics {
    /// Counts tool calls that a client was given.
    pub fn tool_calls(&self, pool: Configured<'_>, count: u32) {
        if count > 0 {
            let calls = self.guards.tool_calls.with_label_values(&[pool.as_str()]);
            calls.inc_by(u64::from(count));
        }
    }

    /// Counts something a guard changed, or would have.
    pub fn intervention(&self, done: &Intervention) {
        self.guards
            .interventions
            .with_label_values(&[done.kind, done.mode.as_str()])
            .inc();
    }

    /// Counts a turn that was answered though a guard of its preset has not seen all of it.
    pub fn guard_not_evaluated(&self) {
        self.guards.not_evaluated.inc();
    }

    /// Counts a change of the rung of loop protection; the labels are its fixed names.
    pub fn loop_transition(&self, from_to_reason: [&'static str; 3]) {
        self.guards
            .loop_transitions
            .with_label_values(&from_to_reason)
            .inc();
    }

    /// Counts a prompt that began otherwise than its conversation's last one.
    pub fn prefix_break(&self, cause: PrefixBreak) {
        self.guards
            .prefix_breaks
            .with_label_values(&[cause.as_str()])
            .inc();
    }

    /// Counts a decision of policy; `rule` is an id of the configuration.
    pub fn policy_decision(
        &self,
        rule: Configured<'_>,
        decision: &'static str,
        mode: &'static str,
    ) {
        self.guards
            .policy_decisions
            .with_label_values(&[rule.as_str(), decision, mode])
            .inc();
    }

    /// Counts what came of a lease.
    pub fn policy_lease(&self, outcome: &'static str) {
        self.guards
            .policy_leases
            .with_label_values(&[outcome])
            .inc();
    }
}

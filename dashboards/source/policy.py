"""What rules decided about agents' tool calls and turns."""

from .grafana import INSTANCE, Dashboard, Panel, Query, Row, quantile, rate, requests, share

ENFORCED = f'mode="enforce", {INSTANCE}'
LAST = [("Last requests", requests("latest"))]


def decided(narrowed: str, by: str = "") -> str:
    return rate("drover_policy_decisions_total", narrowed, by)


DECISIONS = Row("Decisions", [
    Panel(
        "Decisions", "What rules in force decided.", "cps",
        [Query(decided(ENFORCED, "decision"), "{{decision}}")], "policy.md", stacked=True, links=LAST,
    ),
    Panel(
        "Blocked", "Share of decisions that were blocks.", "percentunit",
        [Query(share(decided(f'decision="block", {ENFORCED}'), decided(ENFORCED)), "blocked")],
        "policy.md", thresholds=[(0.2, "orange"), (0.5, "red")], top=1,
    ),
    Panel(
        "Blocks by rule", "Which rules block.", "cps",
        [Query(decided(f'decision="block", {ENFORCED}', "rule"), "{{rule}}")], "policy.md", stacked=True,
    ),
    Panel(
        "Tried out", "What rules in `dry_run` would have decided.", "cps",
        [Query(decided(f'mode="dry_run", {INSTANCE}', "rule, decision"), "{{rule}} {{decision}}")], "policy.md", stacked=True,
    ),
    Panel(
        "Done about agents", "Calls blocked or rewritten, turns sent back from their end, and notices, by kind.", "cps",
        [Query(rate("drover_interventions_total", f'kind=~"policy_.*", {INSTANCE}', "kind"), "{{kind}}")], "policy.md", stacked=True,
    ),
    Panel(
        "Rules", "Every rule that decided something in the range shown, and how often.", "short",
        [Query(f'sum by (rule, decision, mode) (increase(drover_policy_decisions_total{{rule!="-", {INSTANCE}}}[$__range]))')],
        "policy.md", kind="table",
    ),
])

AUDIT = Row("Audit", [
    Panel(
        "Recorded", "Decisions that are on the disk, and those that found no room in the queue.", "cps",
        [
            Query(rate("drover_audit_records_total", INSTANCE), "recorded"),
            Query(rate("drover_audit_lost_total", INSTANCE), "lost"),
            Query(rate("drover_audit_failures_total", INSTANCE), "batches that failed"),
        ],
        "policy.md",
    ),
    Panel(
        "Waiting", "Decisions that are not on the disk yet; `failing` is 1 while none can be recorded.", "short",
        [
            Query(f"sum(drover_audit_queue{{{INSTANCE}}})", "waiting"),
            Query(f"max(drover_audit_failing{{{INSTANCE}}})", "failing"),
        ],
        "policy.md",
    ),
    Panel(
        "Time to the disk", "Time 95 of 100 batches stay below.", "s",
        [Query(quantile(0.95, "drover_audit_write_seconds", INSTANCE), "p95")], "policy.md",
    ),
    Panel("Written", "Bytes of records and evidence.", "Bps", [Query(rate("drover_audit_bytes_total", INSTANCE), "written")], "policy.md"),
])

LEASES = Row("Leases", [
    Panel(
        "Leases", "What came of claims on what agents commit to, push, merge, start and deploy.", "cps",
        [Query(rate("drover_policy_leases_total", INSTANCE, "outcome"), "{{outcome}}")], "policy.md", stacked=True,
    ),
    Panel(
        "Held up", "Share of claims that another session held, or that were for nothing.", "percentunit",
        [Query(share(
            rate("drover_policy_leases_total", f'outcome=~"held|coalesced", {INSTANCE}'),
            # None of nothing is nothing.
            f"""clamp_min({rate("drover_policy_leases_total", f'outcome=~"granted|held|coalesced|full|failed", {INSTANCE}')}, 1e-9)""",
        ), "held up")],
        "policy.md", thresholds=[(0.2, "orange"), (0.5, "red")], top=1,
    ),
    Panel(
        "Without an answer", "Claims that no store answered: their calls were blocked.", "cps",
        [Query(rate("drover_policy_leases_total", f'outcome="failed", {INSTANCE}'), "failed")], "policy.md",
    ),
])

DASHBOARD = Dashboard(
    "drover-policy", "Drover / Policy", "What rules decided about agents' tool calls and turns.", [DECISIONS, LEASES, AUDIT],
)

"""Agents: their tool calls, what had to be repaired or asked again, and those that went in circles."""

from .grafana import INSTANCE, POOL, Dashboard, Panel, Query, Row, rate, requests, share

ANSWERED = rate("drover_requests_total", f'outcome="ok", dialect=~"openai|anthropic|responses", {INSTANCE}')
LAST = [("Last requests", requests("latest"))]


def intervened(kinds: str, by: str = "") -> str:
    return rate("drover_interventions_total", f'mode="act", kind=~"{kinds}", {INSTANCE}', by)


CALLS = Row("Tool calls", [
    Panel(
        "Tool calls", "Complete calls that reached clients.", "cps",
        [Query(rate("drover_tool_calls_total", POOL, "pool"), "{{pool}}")], "guards.md", stacked=True,
    ),
    Panel(
        "Turns asked again", "Share of answered turns that took a further attempt, because the answer was no good.", "percentunit",
        [Query(share(intervened("reask"), ANSWERED), "asked again")],
        "guards.md", thresholds=[(0.05, "orange"), (0.1, "red")], links=LAST,
    ),
    Panel(
        "Interventions", "What guards changed, by kind.", "cps",
        [Query(intervened(".*", "kind"), "{{kind}}")], "guards.md", stacked=True, links=LAST,
    ),
    Panel(
        "Seen, not changed", "What guards would have changed where their preset is `observe`.", "cps",
        [Query(rate("drover_interventions_total", f'mode="observe", {INSTANCE}', "kind"), "{{kind}}")], "guards.md", stacked=True,
    ),
    Panel(
        "Cached prompt of further attempts", "Share of their prompt that the backend still had: they go where the cache is warm.", "percentunit",
        [Query(
            share(
                rate("drover_attempt_tokens_total", f'why="reask", kind="cached", {INSTANCE}'),
                rate("drover_attempt_tokens_total", f'why="reask", kind=~"input|cached", {INSTANCE}'),
            ),
            "cached",
        )],
        "guards.md", base="red", thresholds=[(0.5, "orange"), (0.8, "green")], top=1,
    ),
    Panel(
        "Tokens never shown", "Share of generated tokens that no client saw: answers that were no good.", "percentunit",
        [Query(
            share(rate("drover_tokens_total", f'kind="hidden", {POOL}'), rate("drover_tokens_total", f'kind=~"output|hidden", {POOL}')),
            "hidden",
        )],
        "guards.md", thresholds=[(0.1, "orange")], top=1,
    ),
    Panel(
        "Answered past the guards", "Turns that a guard of their preset has not seen all of. More than 0 is a defect.", "short",
        [Query(f"sum(increase(drover_guard_not_evaluated_total{{{INSTANCE}}}[$__range]))")],
        "guards.md", kind="stat", thresholds=[(1, "red")],
    ),
])

LOOPS = Row("Loops", [
    Panel(
        "Rungs reached", "Conversations that changed their rung of loop protection, by the rung they went to.", "cps",
        [Query(rate("drover_loop_transitions_total", INSTANCE, "to"), "{{to}}")], "loops.md", stacked=True, links=LAST,
    ),
    Panel(
        "Why they climbed", "Changes of the rung by their reason.", "cps",
        [Query(rate("drover_loop_transitions_total", f'to!="act", {INSTANCE}', "reason"), "{{reason}}")], "loops.md", stacked=True,
    ),
    Panel(
        "Turns that climb", "Steps up the ladder for each answered turn.", "percentunit",
        [Query(share(rate("drover_loop_transitions_total", f'to!="act", {INSTANCE}'), ANSWERED), "climb")],
        "loops.md", thresholds=[(0.02, "orange"), (0.05, "red")],
    ),
    Panel(
        "Done about loops", "Notes, withheld tools, summaries and stops.", "cps",
        [Query(intervened("loop_.*|denied_call|finalize_.*|session_reset|force_tools", "kind"), "{{kind}}")], "loops.md", stacked=True,
    ),
    Panel(
        "Summaries and stops", "Agents that were asked for a summary, or stopped, in the range shown.", "short",
        [Query(f'sum by (to) (increase(drover_loop_transitions_total{{to=~"finalize|stop", {INSTANCE}}}[$__range]))', "{{to}}")],
        "loops.md", kind="bargauge", thresholds=[(1, "orange")],
    ),
    Panel(
        "Prompts changed near their beginning", "Each costs its backend the prefix cache once, by cause.", "cps",
        [Query(rate("drover_prefix_breaks_total", INSTANCE, "cause"), "{{cause}}")], "context.md", thresholds=[(0.1, "orange")],
    ),
])

DASHBOARD = Dashboard(
    "drover-agents", "Drover / Agent loops and tool calls",
    "Tool calls, what had to be repaired or asked again, and agents that went in circles.", [CALLS, LOOPS],
)

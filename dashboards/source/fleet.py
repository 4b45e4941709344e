"""The backends: who serves, how full they are, whether conversations find their caches."""

from .grafana import BACKEND, INSTANCE, POOL, Dashboard, Panel, Query, Row, quantile, quantiles, rate, requests, share

SERVING = f'sum(drover_backend_state{{state=~"ready|busy", {BACKEND}}})'
CACHED = rate("drover_tokens_total", f'kind="cached", {POOL}')
PROMPT = rate("drover_tokens_total", f'kind=~"input|cached", {POOL}')
PREDICTED = rate("drover_cache_prediction_tokens_total", f'result=~"hit|missing", {POOL}')
MISSING = rate("drover_cache_prediction_tokens_total", f'result="missing", {POOL}')

NOW = Row("Now", [
    Panel(
        "Serving", "Backends that are ready, whether all their slots are taken or not.", "short",
        [Query(SERVING)], "fleet.md", kind="stat", base="red", thresholds=[(1, "green")], width=4, height=4,
    ),
    Panel(
        "Not serving", "Backends that are down, loading, wedged, or not checked yet.", "short",
        [Query(f'sum(drover_backend_state{{state!~"ready|busy", {BACKEND}}})')],
        "fleet.md", kind="stat", thresholds=[(1, "red")], width=4, height=4,
    ),
    Panel(
        "Draining", "Backends that an operator has taken out.", "short",
        [Query(f"sum(drover_backend_draining{{{BACKEND}}})")],
        "operations.md", kind="stat", thresholds=[(1, "orange")], width=4, height=4,
    ),
    Panel(
        "In flight", "Requests at the backends through these gateways.", "short",
        [Query(f"sum(drover_inflight{{{BACKEND}}})")], "fleet.md", kind="stat", width=4, height=4,
    ),
    Panel(
        "Slots taken", "Requests in flight for each slot there is. At 1 further requests wait.", "percentunit",
        [Query(f"sum(drover_inflight{{{BACKEND}}}) / sum(drover_backend_slots{{{BACKEND}}})")],
        "fleet.md", kind="stat", thresholds=[(0.8, "orange"), (1, "red")], width=4, height=4,
    ),
    Panel(
        "Waiting", "Requests that wait for a free slot.", "short",
        [Query(f"sum(drover_queue_depth{{{POOL}}})")],
        "fleet.md", kind="stat", thresholds=[(1, "orange"), (50, "red")], width=4, height=4,
    ),
])

BACKENDS = Row("Backends", [
    Panel(
        "What they are", "Build, model and speculative profile that each backend reports or is configured with.", "short",
        [Query(f"drover_backend_info{{{BACKEND}}}")], "fleet.md", kind="table", width=12,
    ),
    Panel(
        "State", "The state of each backend: a line at 1 is the state it is in.", "short",
        [Query(f"sum by (backend, state) (drover_backend_state{{{BACKEND}}}) > 0", "{{backend}} {{state}}")],
        "fleet.md", top=1, width=12,
    ),
    Panel(
        "Slots at work", "Share of each backend's slots that worked when they were last read, whoever uses them, and of those that other clients held.", "percentunit",
        [
            Query(f"drover_backend_busy_slots{{{BACKEND}}} / drover_backend_slots{{{BACKEND}}}", "{{backend}}"),
            Query(f"drover_backend_other_slots{{{BACKEND}}} / drover_backend_slots{{{BACKEND}}}", "{{backend}}: others"),
        ],
        "fleet.md", thresholds=[(0.95, "orange")], top=1,
    ),
    Panel(
        "Warm cache", "Share of the KV cache that holds tokens. Idle slots keep theirs: full is warm, not overloaded.", "percentunit",
        [Query(f"drover_backend_kv_cache_ratio{{{BACKEND}}}", "{{backend}}")], "fleet.md", top=1,
    ),
    Panel(
        "In flight by backend", "Requests of these gateways at each backend.", "short",
        [Query(f"sum by (backend) (drover_inflight{{{BACKEND}}})", "{{backend}}")], "fleet.md",
    ),
    Panel(
        "Context of a slot", "Tokens that a conversation may have on each backend.", "short",
        [Query(f"max by (backend) (drover_backend_context_tokens{{{BACKEND}}})", "{{backend}}")],
        "context.md", kind="bargauge",
    ),
    Panel(
        "Time to serve again", "How long backends were away before they served again, by what they went into.", "s",
        [Query(quantile(0.9, "drover_backend_recovery_seconds", BACKEND, "from"), "p90 {{from}}")],
        "fleet.md", thresholds=[(300, "orange")],
    ),
    Panel(
        "Ejected", "Backends that get no requests, or one on trial, because their requests failed although their checks are good.",
        "short", [Query(f"sum by (backend) (drover_backend_ejected{{{BACKEND}}}) > 0", "{{backend}}")],
        "fleet.md", top=1,
    ),
    Panel(
        "Ejections", "How often each backend is ejected, failed trials included.", "cps",
        [Query(rate("drover_backend_ejections_total", BACKEND, "backend"), "{{backend}}")], "fleet.md",
    ),
    Panel(
        "Watchdog", "Backends found getting nowhere, and what was done about it.", "cps",
        [
            Query(rate("drover_watchdog_findings_total", BACKEND, "backend, finding"), "{{backend}} {{finding}}"),
            Query(rate("drover_watchdog_heals_total", BACKEND, "backend, step"), "{{backend}} {{step}}"),
        ],
        "fleet.md",
    ),
])

PLACEMENT = Row("Placement and caches", [
    Panel(
        "Why a backend was chosen", "Choices by their reason; `cache` and its like are conversations that come home.", "cps",
        [Query(rate("drover_selections_total", POOL, "reason"), "{{reason}}")], "fleet.md", stacked=True,
    ),
    Panel(
        "Prompt tokens from the cache", "Share of prompt tokens that backends did not have to read again.", "percentunit",
        [Query(share(CACHED, PROMPT), "cached")],
        "fleet.md", base="red", thresholds=[(0.3, "orange"), (0.6, "green")], top=1, links=[("Slowest first tokens", requests("ttft"))],
    ),
    Panel(
        "Expected in the cache, and not found", "Share of the tokens that selection expected on the chosen backend and that were gone.",
        "percentunit", [Query(share(MISSING, PREDICTED), "missing")],
        "fleet.md", thresholds=[(0.3, "red")], top=1,
    ),
    Panel(
        "Tokens against the prediction", "Prompt tokens found as expected (hit), not found (missing), found unexpectedly (surplus).", "short",
        [Query(rate("drover_cache_prediction_tokens_total", POOL, "result"), "{{result}}")], "fleet.md", stacked=True,
    ),
    Panel(
        "Waiting requests", "Requests that wait for a free slot, by pool and class.", "short",
        [Query(f"sum by (pool, class) (drover_queue_depth{{{POOL}}})", "{{pool}} {{class}}")],
        "fleet.md", thresholds=[(50, "red")], stacked=True,
    ),
    Panel(
        "Time in the queue", "Of requests that had to wait and then had a slot.", "s",
        quantiles("drover_queue_wait_seconds", POOL), "fleet.md", thresholds=[(30, "orange"), (120, "red")],
    ),
    Panel(
        "Refused by the queue", "Requests refused because every slot was taken, by the bound they met.", "reqps",
        [Query(rate("drover_queue_rejections_total", INSTANCE, "reason"), "{{reason}}")],
        "fleet.md", thresholds=[(0.1, "red")], stacked=True,
    ),
])

FAILURES = Row("Failures on the way", [
    Panel(
        "Attempts by cause", "Upstream requests that are not the first of their turn: failovers, re-asks, shorter prompts.", "reqps",
        [Query(rate("drover_attempts_total", f'why!="first", {INSTANCE}', "why"), "{{why}}")], "guards.md", stacked=True,
    ),
    Panel(
        "Closed before their end", "Upstream requests that the gateway closed, by cause.", "reqps",
        [Query(rate("drover_upstream_aborts_total", INSTANCE, "cause"), "{{cause}}")], "metrics.md", stacked=True,
    ),
    Panel(
        "Time to rest after a close", "From a closed request until its backend rested. Long: it generates unheard.", "s",
        [Query(quantile(0.9, "drover_cancel_idle_seconds", BACKEND, "backend"), "p90 {{backend}}")],
        "fleet.md", thresholds=[(10, "red")],
    ),
    Panel(
        "Hedged prefills", "Turns whose backend stayed silent for longer than predicted, by what came of asking a second one.", "reqps",
        [Query(f"{rate('drover_hedges_total', POOL, 'result')} or vector(0)", "{{result}}")], "fleet.md", stacked=True,
    ),
    Panel(
        "Full KV caches", "Times the cache that the slots of a backend share was full, and the answers that were lost by it.", "reqps",
        [
            Query(f"{rate('drover_kv_overflows_total', BACKEND)} or vector(0)", "overflows"),
            Query(f"{rate('drover_kv_overflow_answers_total', BACKEND)} or vector(0)", "answers lost"),
        ],
        "fleet.md", thresholds=[(0.1, "orange")],
    ),
    Panel(
        "Sources of backends", "What the sources that tell the backends of a pool answered; a failure changes nothing.", "cps",
        [Query(rate("drover_discovery_total", POOL, "pool, result"), "{{pool}} {{result}}")], "backends.md", stacked=True,
    ),
    Panel(
        "Connections", "Connections taken for an attempt: kept alive (reused) or opened.", "cps",
        [Query(rate("drover_upstream_connections_total", INSTANCE, "reused"), "reused: {{reused}}")], "metrics.md", stacked=True,
    ),
])

DASHBOARD = Dashboard(
    "drover-fleet", "Drover / Fleet", "Who serves, how full they are, and whether conversations find their caches.",
    [NOW, BACKENDS, PLACEMENT, FAILURES],
)

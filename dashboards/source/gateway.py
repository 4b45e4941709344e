"""The gateway as its clients meet it: answers, times, its own cost, the process."""

from .grafana import INSTANCE, POOL, WINDOW, Dashboard, Panel, Query, Row, quantile, quantiles, rate, requests, share

FAILED = 'outcome=~"unavailable|timeout|cut|upstream_error|internal"'
ALL = rate("drover_requests_total", POOL)
SLOWEST = [("Slowest requests", requests("total"))]
OWN_TOTAL = f'stage="total", {INSTANCE}'
GOAL = f'sum(rate(drover_overhead_seconds_bucket{{le="0.003", {OWN_TOTAL}}}{WINDOW}))'

CLIENTS = Row("What clients get", [
    Panel(
        "Requests", "Finished requests by what became of them.", "reqps",
        [Query(rate("drover_requests_total", POOL, "outcome"), "{{outcome}}")], "access-log.md", stacked=True, links=SLOWEST,
    ),
    Panel(
        "Failed", "Share of requests that a backend or the gateway failed; clients that left or erred are not in it.", "percentunit",
        [Query(share(rate("drover_requests_total", f"{FAILED}, {POOL}"), ALL), "failed")],
        "alerts.md", thresholds=[(0.01, "orange"), (0.05, "red")], top=1,
    ),
    Panel(
        "By dialect", "Requests by how the client spoke.", "reqps",
        [Query(rate("drover_requests_total", POOL, "dialect"), "{{dialect}}")], "metrics.md", stacked=True,
    ),
    Panel(
        "Time to the first token", "From the complete request header to the first content event; waiting for a slot is in it.", "s",
        quantiles("drover_ttft_seconds", POOL), "metrics.md", thresholds=[(30, "orange"), (120, "red")],
        links=[("Slowest first tokens", requests("ttft"))],
    ),
    Panel(
        "Time between tokens", "Gaps between two content events of one turn.", "s",
        quantiles("drover_inter_token_seconds", POOL), "metrics.md", thresholds=[(1, "orange")],
    ),
    Panel(
        "Whole requests", "From the complete request header to the end of the answer.", "s",
        quantiles("drover_request_seconds", POOL), "metrics.md", links=SLOWEST,
    ),
    Panel(
        "Tokens", "Tokens as counted by the backends. Hidden ones were generated and never shown.", "short",
        [Query(rate("drover_tokens_total", POOL, "kind"), "{{kind}}")], "metrics.md", stacked=True,
    ),
    Panel(
        "Clients that left", "Closed before their answer was complete, or asked again for what they had.", "cps",
        [
            Query(rate("drover_client_disconnects_total"), "left"),
            Query(rate("drover_client_retries_total"), "asked again"),
        ],
        "metrics.md",
    ),
    Panel(
        "Failed by pool", "Share of requests that failed in each pool.", "percentunit",
        [Query(f"{rate('drover_requests_total', f'{FAILED}, {POOL}', 'pool')} / {rate('drover_requests_total', POOL, 'pool')}", "{{pool}}")],
        "alerts.md", thresholds=[(0.05, "red")], top=1,
    ),
])

COST = Row("What the gateway costs", [
    Panel(
        "Own time", "Time the gateway itself took for a turn; waiting for clients and backends is not in it.", "s",
        quantiles("drover_overhead_seconds", OWN_TOTAL), "metrics.md", thresholds=[(0.003, "orange"), (0.025, "red")],
        links=[("Requests with most of it", requests("overhead"))],
    ),
    Panel(
        "Own time by stage", "Mean time of each stage.", "s",
        [Query(f"{rate('drover_overhead_seconds_sum', INSTANCE, 'stage')} / {rate('drover_overhead_seconds_count', INSTANCE, 'stage')}", "{{stage}}")],
        "metrics.md",
    ),
    Panel(
        "Within 3 ms", "Share of turns that cost no more than 3 ms.", "percentunit",
        [Query(f"{GOAL} / {rate('drover_overhead_seconds_count', OWN_TOTAL)}", "within")],
        "metrics.md", base="red", thresholds=[(0.95, "orange"), (0.99, "green")], top=1,
    ),
    Panel(
        "Threads that serve", "How late a task ran that wanted to run every 250 ms: long delays mean a blocked thread.", "s",
        quantiles("drover_runtime_delay_seconds", INSTANCE), "metrics.md", thresholds=[(0.1, "red")],
    ),
    Panel(
        "CPU", "Processors in use by each gateway.", "short",
        [Query(f'rate(process_cpu_seconds_total{{job="drover", {INSTANCE}}}{WINDOW})', "{{instance}}")], "metrics.md",
    ),
    Panel(
        "Memory", "Resident memory of each gateway.", "bytes",
        [Query(f'process_resident_memory_bytes{{job="drover", {INSTANCE}}}', "{{instance}}")], "metrics.md",
    ),
])

PROCESS = Row("Sessions and process", [
    Panel(
        "Sessions", "Sessions remembered now.", "short",
        [Query(f"drover_sessions{{{INSTANCE}}}", "{{instance}}")], "metrics.md",
    ),
    Panel(
        "How sessions are known", "Turns by what told their session: header, body field, or a fingerprint of their beginning.", "cps",
        [Query(rate("drover_session_source_total", INSTANCE, "source"), "{{source}}")], "metrics.md", stacked=True,
    ),
    Panel(
        "Connections refused", "Connections of clients closed at once, because limits.max_connections were open.", "cps",
        [Query(rate("drover_connections_refused_total"), "refused")], "operations.md", thresholds=[(0.1, "red")],
    ),
    Panel(
        "Configuration", "Times the configuration was loaded anew in the range shown, by result.", "short",
        [Query(f"sum by (result) (increase(drover_config_reloads_total{{{INSTANCE}}}[$__range]))", "{{result}}")],
        "operations.md", kind="bargauge",
    ),
    Panel(
        "Open files", "File descriptors in use, of those the process may have.", "percentunit",
        [Query(f'process_open_fds{{job="drover", {INSTANCE}}} / process_max_fds{{job="drover", {INSTANCE}}}', "{{instance}}")],
        "operations.md", thresholds=[(0.8, "red")], top=1,
    ),
    Panel(
        "Traces", "Turns that went to the receiver of traces, that were dropped, or that it did not take.", "cps",
        [Query(rate("drover_traces_total", INSTANCE, "result"), "{{result}}")], "traces.md", stacked=True,
    ),
    Panel(
        "Log lines lost", "Lines of the access log and of the diagnostics that could not be written, because nobody reads standard output or standard error.", "cps",
        [Query(rate("drover_access_lines_lost_total"), "access log"), Query(rate("drover_log_lines_lost_total"), "diagnostics")], "access-log.md",
        thresholds=[(0.1, "red")],
    ),
    Panel(
        "Version", "The version each gateway runs.", "short",
        [Query(f"drover_build_info{{{INSTANCE}}}")], "operations.md", kind="table",
    ),
])

GEN_AI = Row("By model, under OpenTelemetry's names", [
    Panel(
        "Duration by model", "Time of a request by the configured name of its model.", "s",
        [
            Query(quantile(0.95, "gen_ai_server_request_duration_seconds", INSTANCE, "gen_ai_request_model"), "p95 {{gen_ai_request_model}}"),
            Query(quantile(0.5, "gen_ai_client_operation_duration_seconds", INSTANCE, "gen_ai_request_model"), "p50 {{gen_ai_request_model}}"),
        ],
        "metrics.md",
    ),
    Panel(
        "First token by model", "Time to the first content event of answered requests.", "s",
        [
            Query(quantile(0.95, "gen_ai_server_time_to_first_token_seconds", INSTANCE, "gen_ai_request_model"), "p95 {{gen_ai_request_model}}"),
            Query(quantile(0.5, "gen_ai_client_operation_time_to_first_chunk_seconds", INSTANCE, "gen_ai_request_model"), "p50 {{gen_ai_request_model}}"),
        ],
        "metrics.md",
    ),
    Panel(
        "Time of a token by model", "Mean time of a token after the first, and the gap between two content events of an answer.", "s",
        [
            Query(quantile(0.5, "gen_ai_server_time_per_output_token_seconds", INSTANCE, "gen_ai_request_model"), "p50 {{gen_ai_request_model}}"),
            Query(quantile(0.95, "gen_ai_client_operation_time_per_output_chunk_seconds", INSTANCE, "gen_ai_request_model"), "gap p95 {{gen_ai_request_model}}"),
        ],
        "metrics.md",
    ),
    Panel(
        "Size of requests", "Tokens of a request: prompt (input, cached ones included) and answer (output).", "short",
        [Query(quantile(0.95, "gen_ai_client_token_usage", INSTANCE, "gen_ai_token_type"), "p95 {{gen_ai_token_type}}")],
        "metrics.md", width=12,
    ),
])

DASHBOARD = Dashboard(
    "drover-gateway", "Drover / Gateway", "What clients get, what the gateway costs, how its process does.",
    [CLIENTS, COST, PROCESS, GEN_AI],
)

"""Recording rules and alerts for Prometheus, each alert with its runbook and a unit test."""

from dataclasses import dataclass

FAILED = 'outcome=~"unavailable|timeout|cut|upstream_error|internal"'
AGENTS = 'outcome="ok", dialect=~"openai|anthropic|responses"'
WHO = "on (instance, backend) group_left (profile, build) drover_backend_info"


@dataclass(frozen=True)
class Recording:
    """A series that is computed once for those who ask often."""

    name: str
    expr: str
    meaning: str


@dataclass(frozen=True)
class Alert:
    """What wakes somebody, and what they do then.

    `fires` and `quiet` are series for promtool's unit tests, one sample a minute: after `after` the alert
    fires with the first, and not with the second.
    """

    name: str
    severity: str  # critical: now; warning: this week
    lasting: str  # how long it must hold
    expr: str
    summary: str
    means: str  # what clients feel, and why
    todo: list[str]
    fires: dict[str, str]
    quiet: dict[str, str]
    dashboard: str = "drover-gateway"
    after: str = "30m"
    console: str = "fleet"  # the view of the console that shows it; `spec` and `requests` are narrowed to its labels


RECORDINGS = [
    Recording(
        "drover:requests_failed:ratio5m",
        f"sum by (instance, pool) (rate(drover_requests_total{{{FAILED}}}[5m])) / sum by (instance, pool) (rate(drover_requests_total[5m]))",
        "Share of requests that a backend or the gateway failed.",
    ),
    Recording(
        "drover:ttft_seconds:p95_5m",
        "histogram_quantile(0.95, sum by (instance, pool, le) (rate(drover_ttft_seconds_bucket[5m])))",
        "Time to the first token that 95 of 100 turns stay below.",
    ),
    Recording(
        "drover:spec_acceptance:ratio15m",
        f"sum by (instance, pool, backend, profile, build) (rate(drover_spec_accepted_tokens_total[15m]) * {WHO}) / "
        f"sum by (instance, pool, backend, profile, build) (rate(drover_spec_drafted_tokens_total[15m]) * {WHO})",
        "Share of drafted tokens that a backend's model agreed with.",
    ),
    Recording(
        "drover:spec_acceptance_of_profile:ratio15m",
        f"sum by (instance, pool, profile) (rate(drover_spec_accepted_tokens_total[15m]) * {WHO}) / "
        f"sum by (instance, pool, profile) (rate(drover_spec_drafted_tokens_total[15m]) * {WHO})",
        "The same for all backends of a pool with one speculative profile.",
    ),
    Recording(
        "drover:decode_tokens_per_second:mean15m",
        f"sum by (instance, pool, backend, profile, build) (rate(drover_decode_tokens_total[15m]) * {WHO}) / "
        f"sum by (instance, pool, backend, profile, build) (rate(drover_decode_seconds_total[15m]) * {WHO})",
        "Speed of one answer on a backend.",
    ),
]

# Series of the unit tests.
GW = 'job="drover", instance="gw"'
INFO = {f'drover_backend_info{{{GW}, pool="p", backend="b", build="b1", profile="mtp"}}': "1x200"}

FOUND = 'signature="acceptance_collapse", pool="p", backend="b", profile="mtp", build="b2", explained_by="build b2"'


def requests(ok: str, cut: str) -> dict[str, str]:
    labels = f'{GW}, pool="p", dialect="openai"'
    return {f'drover_requests_total{{{labels}, outcome="ok"}}': ok, f'drover_requests_total{{{labels}, outcome="cut"}}': cut}


def state(serving: str) -> dict[str, str]:
    return INFO | {
        f'drover_backend_state{{{GW}, backend="b", state="ready"}}': serving,
        f'drover_backend_state{{{GW}, backend="b", state="busy"}}': "0x200",
        f'drover_backend_draining{{{GW}, backend="b"}}': "0x200",
    }


def buckets(metric: str, labels: str, fast: str, all_of_it: str, edge: str) -> dict[str, str]:
    """A histogram with two buckets: up to `edge`, and everything (which a quantile puts at 60 s or more)."""
    return {
        f'{metric}_bucket{{{GW}, {labels}, le="{edge}"}}': fast,
        f'{metric}_bucket{{{GW}, {labels}, le="60"}}': all_of_it,
        f'{metric}_bucket{{{GW}, {labels}, le="+Inf"}}': all_of_it,
    }


def drafts(accepted: str) -> dict[str, str]:
    labels = f'{GW}, pool="p", backend="b"'
    return INFO | {
        f"drover_spec_drafted_tokens_total{{{labels}}}": "0+1000x200",
        f"drover_spec_accepted_tokens_total{{{labels}}}": accepted,
    }


def decoding(seconds: str) -> dict[str, str]:
    labels = f'{GW}, pool="p", backend="b"'
    return INFO | {f"drover_decode_tokens_total{{{labels}}}": "0+6000x200", f"drover_decode_seconds_total{{{labels}}}": seconds}


def one(metric: str, labels: str, values: str) -> dict[str, str]:
    return {f"{metric}{{{', '.join(filter(None, [GW, labels]))}}}": values}


ALERTS = [
    Alert(
        "DroverDown", "critical", "1m", 'up{job="drover"} == 0',
        "Gateway {{ $labels.instance }} does not answer its scrapes",
        "The process is gone, hangs, or its admin address cannot be reached. Clients of this gateway get nothing.",
        [
            "Is it running? `systemctl status drover`, or the orchestrator's view of it; the end of its log says why it ended.",
            "Does `/livez` on the admin address answer from its own machine? Then it is the network or the token between Prometheus and it.",
            "Send clients to another gateway: nothing is lost but the affinity of conversations to their caches.",
        ],
        {'up{job="drover", instance="gw"}': "1x5 0x60"}, {'up{job="drover", instance="gw"}': "1x60"},
    ),
    Alert(
        "DroverPoolDown", "critical", "1m",
        'max by (instance, pool) (sum by (instance, backend) (drover_backend_state{state=~"ready|busy"}) '
        "* on (instance, backend) group_right drover_backend_info) == 0",
        "No backend of pool {{ $labels.pool }} serves",
        "Every request for this pool's models is refused with 503.",
        [
            "`GET /api/backends`: `state` and `trouble` of each backend say what its checks see.",
            "`drover doctor --config FILE` asks the llama-servers themselves.",
            "Backends that load their model (`loading`) come by themselves; those that are `down` must be started, `wedged` ones restarted.",
        ],
        state("1x5 0x60"), state("1x60"), dashboard="drover-fleet",
    ),
    Alert(
        "DroverBackendDown", "warning", "5m",
        'sum by (instance, backend) (drover_backend_state{state=~"ready|busy"}) == 0 unless on (instance, backend) drover_backend_draining == 1',
        "Backend {{ $labels.backend }} does not serve",
        "It is down, loading for long, or wedged, and no operator has taken it out. The others of its pool carry its load, with cold caches.",
        [
            "`GET /api/backends`: `trouble` says what the last check met.",
            "Look at the llama-server's own log; restart it when its slots are wedged.",
            "When it is meant to be away, drain it (`POST /api/backends/{id}/drain`) or take it out of the configuration: this alert ends.",
        ],
        state("1x5 0x60"), state("1x60"), dashboard="drover-fleet",
    ),
    Alert(
        "DroverBackendEjected", "warning", "5m", "sum by (instance, backend) (drover_backend_ejected) == 1",
        "Requests to backend {{ $labels.backend }} fail although its checks are good",
        "It gets a single request from time to time, which fails as well: a broken GPU, or a network that cuts streams. "
        "The others of its pool carry its load.",
        [
            "`GET /api/requests` with its errors: what does it answer, or where does it break off?",
            "Look at the llama-server's own log (`Compute error`, out of memory) and at the GPU; restart the server.",
            "When nothing has been asked of it since, nobody has tried it either: one answered request ends this alert.",
        ],
        one("drover_backend_ejected", 'backend="b"', "0x5 1x60"), one("drover_backend_ejected", 'backend="b"', "0x10 1x3 0x60"),
        dashboard="drover-fleet",
    ),
    Alert(
        "DroverRequestsFail", "critical", "5m", "drover:requests_failed:ratio5m > 0.05",
        "{{ $value | humanizePercentage }} of the requests for pool {{ $labels.pool }} fail",
        "Answers break off, time out, or are refused for want of a backend. Agents retry, which makes it worse.",
        [
            "`GET /api/requests?outcome=cut` (or `unavailable`, `timeout`, `upstream_error`, `internal`): which backend, which error?",
            "One backend: drain it. All of them: look for what changed last (build, model, configuration, network).",
            "`internal` is a defect of the gateway: keep the log lines with that request's id.",
        ],
        requests("0+90x200", "0+10x200"), requests("0+99x200", "0+1x200"),
        console="requests",
    ),
    Alert(
        "DroverQueueRefuses", "warning", "5m", "sum by (instance, reason) (rate(drover_queue_rejections_total[5m])) > 0",
        "Requests are refused because every slot is taken ({{ $labels.reason }})",
        "More is asked than the backends have slots for, and the queue is full, used up by one principal, or too slow.",
        [
            "Dashboard Fleet: are slots of backends idle that cannot be used (draining, ejected, down)?",
            "`reason` share: one API key asks too much; make its requests `batch`.",
            "Else add backends, or slots where the memory allows it; a larger queue (`fleet.pools[].queue`) only makes them wait.",
        ],
        one("drover_queue_rejections_total", 'reason="full"', "0+1x200"), one("drover_queue_rejections_total", 'reason="full"', "3x200"),
        dashboard="drover-fleet",
    ),
    Alert(
        "DroverQueueStuck", "warning", "0s", "min_over_time(sum by (instance, pool) (drover_queue_depth)[15m:1m]) > 0",
        "Requests have been waiting for pool {{ $labels.pool }} without a break for 15 minutes",
        "The pool is too small for what is asked of it: every turn begins with a wait.",
        [
            "Dashboard Fleet: *Time in the queue* says how long, *Slots at work* whether all backends share the load.",
            "Are answers longer than usual (*Whole requests* of the dashboard Gateway), or is an agent in a loop (dashboard Agents)?",
            "Add backends, or let less urgent keys ask as `batch`.",
        ],
        one("drover_queue_depth", 'pool="p", class="interactive"', "2x200"),
        one("drover_queue_depth", 'pool="p", class="interactive"', "2x5 0 2x5 0 2x5 0 2x5 0 2x5 0 2x5 0 2x5"),
        dashboard="drover-fleet",
    ),
    Alert(
        "DroverFirstTokenSlow", "warning", "10m", "drover:ttft_seconds:p95_5m > 30",
        "5 of 100 turns for pool {{ $labels.pool }} wait {{ $value | humanizeDuration }} and longer for their first token",
        "Prompts are read anew instead of from the cache, or turns wait for slots.",
        [
            "`GET /api/requests?order=ttft` lists the slowest; `GET /api/requests/{id}` tells why each went where it went.",
            "*Prompt tokens from the cache* (dashboard Fleet) fell: look at DroverCacheMissed. It did not: look at the queue.",
            "Very long prompts take this long on some GPUs: raise the threshold where that is so.",
        ],
        buckets("drover_ttft_seconds", 'pool="p"', "0+80x200", "0+100x200", "20"),
        buckets("drover_ttft_seconds", 'pool="p"', "0+99x200", "0+100x200", "20"),
        console="requests/order=ttft",
    ),
    Alert(
        "DroverCancelSlow", "warning", "10m",
        "histogram_quantile(0.9, sum by (instance, backend, le) (rate(drover_cancel_idle_seconds_bucket[15m]))) > 10",
        "{{ $labels.backend }} goes on generating for {{ $value | humanizeDuration }} after its client has left",
        "Slots are taken by answers that nobody hears. llama-server notices a closed connection only between two tokens, and not at all "
        "while it is polled too often.",
        [
            "Is something else polling `/metrics` or `/slots` of this backend faster than every 1.5 s? Stop it.",
            "Long prompt batches delay it: a smaller `--batch-size` reacts sooner.",
            "If it never comes to rest, restart it; the watchdog does so where it has a hook ([fleet.md](fleet.md)).",
        ],
        buckets("drover_cancel_idle_seconds", 'backend="b"', "0+80x200", "0+100x200", "5"),
        buckets("drover_cancel_idle_seconds", 'backend="b"', "0+99x200", "0+100x200", "5"), dashboard="drover-fleet",
    ),
    Alert(
        "DroverCacheMissed", "warning", "15m",
        'sum by (instance, pool) (rate(drover_cache_prediction_tokens_total{result="missing"}[15m])) / '
        'sum by (instance, pool) (rate(drover_cache_prediction_tokens_total{result=~"hit|missing"}[15m])) > 0.3',
        "{{ $value | humanizePercentage }} of the tokens expected in the caches of pool {{ $labels.pool }} are not there",
        "Conversations come back to their backend and find their cache gone: every turn reads its whole prompt again.",
        [
            "Does somebody use these llama-servers beside the gateway? Their requests evict conversations it knows nothing of.",
            "More conversations than slots: give the servers more of them, or `--cache-ram`.",
            "Were they restarted, or does a client rewrite the beginning of its prompt (*Prompts changed near their beginning*)?",
        ],
        one("drover_cache_prediction_tokens_total", 'pool="p", result="missing"', "0+50x200")
        | one("drover_cache_prediction_tokens_total", 'pool="p", result="hit"', "0+50x200"),
        one("drover_cache_prediction_tokens_total", 'pool="p", result="missing"', "0+5x200")
        | one("drover_cache_prediction_tokens_total", 'pool="p", result="hit"', "0+95x200"),
        dashboard="drover-fleet",
        console="requests",
    ),
    Alert(
        "DroverGuardNotEvaluated", "critical", "0s", "increase(drover_guard_not_evaluated_total[15m]) > 0",
        "Turns were answered past their guards",
        "A defect of the gateway: an answer reached its client though a guard of its preset has not seen all of it.",
        ["Keep the log of that time and report it.", "`guard.preset: strict` holds whole answers until the cause is known."],
        one("drover_guard_not_evaluated_total", "", "0x20 1x20"), one("drover_guard_not_evaluated_total", "", "1x60"),
        dashboard="drover-agents",
    ),
    Alert(
        "DroverLoopsRise", "warning", "10m",
        'sum by (instance) (rate(drover_loop_transitions_total{to!="act"}[15m])) / '
        f"sum by (instance) (rate(drover_requests_total{{{AGENTS}}}[15m])) > 0.05",
        "{{ $value | humanizePercentage }} of the turns climb the ladder of loop protection",
        "Agents repeat themselves: they are told so, then lose tools, then are asked for a summary.",
        [
            "`GET /api/sessions`, then `/api/sessions/{id}`: which sessions, which tools, what repeats (`loop_protection`)?",
            "One model or profile only: look at what changed there (template, sampling, quantisation).",
            "A tool that always fails makes healthy agents look like this: read its results.",
        ],
        requests("0+100x200", "0x200") | one("drover_loop_transitions_total", 'from="act", to="hint", reason="same_call"', "0+10x200"),
        requests("0+100x200", "0x200") | one("drover_loop_transitions_total", 'from="act", to="hint", reason="same_call"', "0+1x200"),
        dashboard="drover-agents",
        console="live",
    ),
    Alert(
        "DroverToolCallsBroken", "warning", "10m",
        'sum by (instance) (rate(drover_interventions_total{kind="reask", mode="act"}[15m])) / '
        f"sum by (instance) (rate(drover_requests_total{{{AGENTS}}}[15m])) > 0.1",
        "{{ $value | humanizePercentage }} of the turns must be asked again",
        "The model writes tool calls that cannot be used. Clients get good ones, later, and at the price of more tokens.",
        [
            "*Interventions* of the dashboard Agents says what is wrong with them: `malformed`, `invalid`, `unknown_tool`, `truncated` …",
            "Since a new build or template: `drover doctor` looks for a template without tool support.",
            "`truncated`: the token limit is too small for the files that are written.",
        ],
        requests("0+100x200", "0x200") | one("drover_interventions_total", 'kind="reask", mode="act"', "0+20x200"),
        requests("0+100x200", "0x200") | one("drover_interventions_total", 'kind="reask", mode="act"', "0+2x200"),
        dashboard="drover-agents",
        console="live",
    ),
    Alert(
        "DroverPolicyBlocks", "warning", "15m",
        'sum by (instance) (rate(drover_policy_decisions_total{decision="block", mode="enforce"}[15m])) / '
        'sum by (instance) (rate(drover_policy_decisions_total{mode="enforce"}[15m])) > 0.5',
        "{{ $value | humanizePercentage }} of the policy's decisions are blocks",
        "Agents mostly meet a closed door: a rule is wrong, or an agent tries again and again.",
        [
            "*Blocks by rule* of the dashboard Policy; log lines `POLICY:` tell session, tool and reason.",
            "One rule since a change of the configuration: set it to `mode: dry_run` and read what it would have done.",
            "One session: read it in `/api/sessions/{id}`.",
        ],
        one("drover_policy_decisions_total", 'rule="r", decision="block", mode="enforce"', "0+60x200")
        | one("drover_policy_decisions_total", 'rule="-", decision="allow", mode="enforce"', "0+40x200"),
        one("drover_policy_decisions_total", 'rule="r", decision="block", mode="enforce"', "0+10x200")
        | one("drover_policy_decisions_total", 'rule="-", decision="allow", mode="enforce"', "0+90x200"),
        dashboard="drover-policy",
        console="live",
    ),
    Alert(
        "DroverAuditFailing", "critical", "1m",
        "drover_audit_failing == 1",
        "Decisions of policy cannot be recorded",
        "Tool calls that required rules are about do not reach clients: their agents read `audit_unavailable` and stop. "
        "Everything else goes on.",
        [
            "`/api/audit` on the admin address says why under `trouble`; log lines `AUDIT:` say it too.",
            "A full disk: make room. The gateway goes on by itself within a second; old files of the audit log may be moved away only "
            "with `audit.rotate.keep`, else `drover audit verify` misses them.",
            "A path that is gone or belongs to another log: mount what was there. Nothing is written to a log that ends earlier than what "
            "this process has written.",
            "The queue is full or writing takes too long: the disk is too slow, *Time to the disk* of the dashboard Policy shows how slow.",
        ],
        one("drover_audit_failing", "", "1x200"),
        one("drover_audit_failing", "", "0x200"),
        dashboard="drover-policy",
    ),
    Alert(
        "DroverAcceptanceFell", "warning", "15m",
        "drover:spec_acceptance:ratio15m < on (instance, pool, profile) group_left () "
        "(0.7 * avg_over_time(drover:spec_acceptance_of_profile:ratio15m[1d] offset 1h)) "
        "and on (instance, pool, backend) sum by (instance, pool, backend) (rate(drover_spec_drafted_tokens_total[15m])) > 1",
        "{{ $labels.backend }} (profile {{ $labels.profile }}, build {{ $labels.build }}) accepts {{ $value | humanizePercentage }} of its drafts, "
        "far less than this profile did a day ago",
        "Speculative decoding does work for nothing: answers are slower than without it.",
        [
            "Dashboard Speculative decoding, *Who is to blame*: one backend, one build, or the whole profile?",
            "One build: go back to the one before. One backend: compare its flags and its draft model with the others'.",
            "The whole profile: other work than a day ago drafts otherwise; `profile: none` is the safe choice until it is understood.",
        ],
        drafts("0+800x90 72080+80x60"), drafts("0+800x200"), dashboard="drover-speculation", after="130m",
        console="spec",
    ),
    Alert(
        "DroverSpecFinding", "warning", "0m",
        "max by (instance, signature, pool, backend, profile, build, explained_by) (drover_spec_finding) > 0",
        "{{ $labels.signature }} on {{ $labels.backend }} (profile {{ $labels.profile }}, build {{ $labels.build }}){{ with $labels.explained_by }}, "
        "explained best by {{ . }}{{ end }}",
        "What runs on a backend now is worse than what ran there before, or does not run at all.",
        [
            "`/api/spec/findings`, or *Speculation* of the console: which backend, profile and build, with the numbers, the likely cause and what to do.",
            "The log line `FINDING:` of that time tells the same.",
            "`docs/speculative.md` says what each finding means.",
        ],
        one("drover_spec_finding", FOUND, "_x20 1x180"), one("drover_spec_findings_total", 'signature="acceptance_collapse"', "0x200"),
        dashboard="drover-speculation",
        console="spec",
    ),
    Alert(
        "DroverDecodeSlow", "warning", "15m",
        "drover:decode_tokens_per_second:mean15m < on (instance, pool, backend, profile, build) "
        "(0.6 * avg_over_time(drover:decode_tokens_per_second:mean15m[1d] offset 1h)) "
        "and on (instance, pool, backend) sum by (instance, pool, backend) (rate(drover_decode_tokens_total[15m])) > 1",
        "{{ $labels.backend }} generates {{ $value | humanize }} tokens a second, far fewer than the day before",
        "The same build and profile has become slow: heat, another program on its GPU, longer contexts, or more slots at work.",
        [
            "`nvidia-smi` (or its like) on its machine: clocks, temperature, other processes.",
            "*In flight by backend*: does it carry more than the others? Lower its `weight` or its slots.",
            "Drain it while you look.",
        ],
        decoding("0+60x90 5460+200x60"), decoding("0+60x200"), dashboard="drover-speculation", after="130m",
        console="spec",
    ),
    Alert(
        "DroverRuntimeStalls", "warning", "5m",
        "histogram_quantile(0.99, sum by (instance, le) (rate(drover_runtime_delay_seconds_bucket[5m]))) > 0.1",
        "Tasks of {{ $labels.instance }} run {{ $value | humanizeDuration }} late",
        "Something blocks the threads that serve clients, or there are too few of them: tokens arrive in bursts.",
        [
            "Is the machine short of CPU (`pingora.threads`, limits of its container, neighbours)?",
            "*CPU* of the dashboard Gateway near its limit: give it more threads or a second gateway.",
            "Neither: report it with the log of that time.",
        ],
        buckets("drover_runtime_delay_seconds", 'a="b"', "0+90x200", "0+100x200", "0.01"),
        buckets("drover_runtime_delay_seconds", 'a="b"', "0+100x200", "0+100x200", "0.01"),
    ),
    Alert(
        "DroverRolloutRolledBack", "warning", "0s", 'max by (instance, rollout) (drover_rollout_state{state="rolled_back"}) == 1',
        "Rollout {{ $labels.rollout }} was rolled back",
        "What was tried is worse than the baseline for certain, or could not be tried; all sessions are back on the baseline. Nobody is harmed "
        "any more, and nothing goes on by itself.",
        [
            "`drover rollout status NAME`, or the console's *Rollouts*: the verdict names the metric, the class of requests and the numbers.",
            "`failed`: the profile, build or server is to blame; `/api/spec/findings` may say more. `error`: something was missing, such as the control.",
            "Repair it and `drover rollout start NAME`, or take the rollout out of the configuration: this alert ends.",
        ],
        one("drover_rollout_state", 'rollout="r", state="rolled_back"', "0x20 1x40"),
        one("drover_rollout_state", 'rollout="r", state="rolled_back"', "0x60"), dashboard="drover-speculation",
        console="rollouts",
    ),
    Alert(
        "DroverOverheadHigh", "warning", "10m",
        'histogram_quantile(0.99, sum by (instance, le) (rate(drover_overhead_seconds_bucket{stage="total"}[15m]))) > 0.025',
        "1 of 100 turns costs {{ $value | humanizeDuration }} of the gateway's own time",
        "Much more than the 3 ms that a turn of 200 KB may cost.",
        [
            "`GET /api/requests?order=overhead` lists them; *Own time by stage* says where it goes.",
            "Very large transcripts or tool sets, or expensive policy rules: which of them?",
            "All turns alike: the machine is short of CPU (DroverRuntimeStalls).",
        ],
        buckets("drover_overhead_seconds", 'stage="total"', "0+90x200", "0+100x200", "0.003"),
        buckets("drover_overhead_seconds", 'stage="total"', "0+100x200", "0+100x200", "0.003"),
        console="requests/order=overhead",
    ),
    Alert(
        "DroverConfigInvalid", "warning", "0s", 'increase(drover_config_reloads_total{result="invalid"}[15m]) > 0',
        "{{ $labels.instance }} has refused a new configuration",
        "It runs on with the one before; a restart with the new one would fail.",
        ["`drover check --config FILE` names every mistake with its line; so does the log.", "Reload again: `POST /api/reload` or SIGHUP."],
        one("drover_config_reloads_total", 'result="invalid"', "0x20 1x40"), one("drover_config_reloads_total", 'result="invalid"', "1x60"),
        console="config",
    ),
    Alert(
        "DroverConnectionsRefused", "warning", "0s", "increase(drover_connections_refused_total[5m]) > 0",
        "{{ $labels.instance }} closes connections of clients at once",
        "As many as `limits.max_connections` are open: clients see a reset.",
        [
            "Who holds them? `ss -tn` by peer: a client that leaks connections, or a proxy that opens one for each request.",
            "If it is honest load, raise the limit (and the limit of open files).",
        ],
        one("drover_connections_refused_total", "", "0x27 9x40"), one("drover_connections_refused_total", "", "9x60"),
    ),
    Alert(
        "DroverFilesRunOut", "warning", "5m", 'process_open_fds{job="drover"} / process_max_fds{job="drover"} > 0.8',
        "{{ $labels.instance }} uses {{ $value | humanizePercentage }} of the files it may open",
        "At the limit no connection is accepted or opened any more.",
        ["Raise `LimitNOFILE` (systemd) or the container's limit.", "Without more load than usual: report it with `ls -l /proc/PID/fd`."],
        one("process_open_fds", "", "900x60") | one("process_max_fds", "", "1000x60"),
        one("process_open_fds", "", "500x60") | one("process_max_fds", "", "1000x60"),
    ),
]

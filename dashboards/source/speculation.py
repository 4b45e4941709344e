"""Speculative decoding: how much of what was drafted held, by profile, build and backend."""

from .grafana import BACKEND, BOTH, INSTANCE, POOL, WINDOW, Dashboard, Panel, Query, Row, quantile, rate, share

# Profile and build are labels of one series only; every other one is joined with it.
WHO = "on (instance, backend) group_left (profile, build) drover_backend_info"


def joined(metric: str, by: str) -> str:
    return f"sum by ({by}) (rate({metric}{{{BOTH}}}{WINDOW}) * {WHO})"


def accepted(by: str) -> str:
    return f"{joined('drover_spec_accepted_tokens_total', by)} / {joined('drover_spec_drafted_tokens_total', by)}"


def speed(by: str) -> str:
    return f"{joined('drover_decode_tokens_total', by)} / {joined('drover_decode_seconds_total', by)}"


def over_range(metric: str) -> str:
    return f"increase({metric}{{{BOTH}}}[$__range])"


ACCEPTANCE = Row("Acceptance", [
    Panel(
        "Accepted, by profile", "Share of drafted tokens that the model agreed with.", "percentunit",
        [Query(accepted("profile"), "{{profile}}")],
        "alerts.md", base="red", thresholds=[(0.4, "orange"), (0.6, "green")], top=1,
    ),
    Panel(
        "Accepted, by build", "The same by the llama.cpp build that each backend reports.", "percentunit",
        [Query(accepted("build"), "{{build}}")], "alerts.md", base="red", thresholds=[(0.4, "orange"), (0.6, "green")], top=1,
    ),
    Panel(
        "Accepted, by backend", "The same by backend, with its profile and build.", "percentunit",
        [Query(accepted("backend, profile, build"), "{{backend}} {{profile}} {{build}}")],
        "alerts.md", base="red", thresholds=[(0.4, "orange"), (0.6, "green")], top=1,
    ),
    Panel(
        "Against the day before", "Acceptance of each backend over 15 minutes, for that of its profile on the day before (recording rules).",
        "percentunit",
        [Query(
            f"drover:spec_acceptance:ratio15m{{{BOTH}}} / on (instance, pool, profile) group_left "
            f"avg_over_time(drover:spec_acceptance_of_profile:ratio15m{{{POOL}}}[1d] offset 1h)",
            "{{backend}} {{profile}} {{build}}",
        )],
        "alerts.md", base="red", thresholds=[(0.7, "orange"), (0.9, "green")],
    ),
    Panel(
        "Drafted tokens", "What became of drafted tokens.", "short",
        [
            Query(rate("drover_spec_accepted_tokens_total", BOTH), "accepted"),
            Query(rate("drover_spec_rolled_back_tokens_total", BOTH), "rolled back"),
        ],
        "metrics.md", stacked=True,
    ),
    Panel(
        "Rolled back", "Share of drafted tokens that were thrown away: work for nothing.", "percentunit",
        [Query(share(rate("drover_spec_rolled_back_tokens_total", BOTH), rate("drover_spec_drafted_tokens_total", BOTH)), "rolled back")],
        "metrics.md", thresholds=[(0.5, "orange"), (0.7, "red")], top=1,
    ),
])

SPEED = Row("Speed", [
    Panel(
        "Speed, by profile", "Tokens a second of one answer, as the backends time it.", "short",
        [Query(speed("profile"), "{{profile}}")], "metrics.md",
    ),
    Panel(
        "Speed, by build", "The same by build.", "short", [Query(speed("build"), "{{build}}")], "metrics.md",
    ),
    Panel(
        "Speed, by backend", "The same by backend, with its profile and build.", "short",
        [Query(speed("backend, profile, build"), "{{backend}} {{profile}} {{build}}")], "metrics.md",
    ),
    Panel(
        "From drafts", "Accepted tokens for each generated one: how much of the text was free.", "percentunit",
        [Query(f"{joined('drover_spec_accepted_tokens_total', 'profile')} / {joined('drover_decode_tokens_total', 'profile')}", "{{profile}}")],
        "metrics.md", top=1,
    ),
    Panel(
        "Time between tokens", "What clients see of it: the median gap between two content events, by pool.", "s",
        [Query(quantile(0.5, "drover_inter_token_seconds", POOL, "pool"), "p50 {{pool}}")], "metrics.md",
    ),
    Panel(
        "Length of drafts", "Tokens of a draft that was verified, and those of them that held.", "short",
        [
            Query(f"{joined('drover_spec_drafted_tokens_total', 'profile')} / {joined('drover_spec_drafts_total', 'profile')}", "{{profile}} drafted"),
            Query(f"{joined('drover_spec_accepted_tokens_total', 'profile')} / {joined('drover_spec_drafts_total', 'profile')}", "{{profile}} accepted"),
        ],
        "metrics.md",
    ),
    Panel(
        "Who is to blame", "Every backend with build and profile, and its acceptance in the range shown.", "percentunit",
        [Query(
            f"sum by (pool, backend, profile, build) ({over_range('drover_spec_accepted_tokens_total')} * {WHO}) / "
            f"sum by (pool, backend, profile, build) ({over_range('drover_spec_drafted_tokens_total')} * {WHO})"
        )],
        "alerts.md", kind="table", base="red", thresholds=[(0.4, "orange"), (0.6, "green")], width=24,
    ),
])

# What the backends ran is a label of these series themselves.
def per_class(metric: str, more: str = "") -> str:
    return f"sum by (profile, build, class) (rate({metric}{{{POOL}{more}}}{WINDOW}))"


CLASSES = Row("By kind of request", [
    Panel(
        "Accept length", "Tokens that a verified draft brings, by profile, build and class of request.", "short",
        [Query(f"{per_class('drover_spec_accept_length_sum')} / {per_class('drover_spec_accept_length_count')}", "{{profile}} {{build}} {{class}}")],
        "speculative.md",
    ),
    Panel(
        "Verified drafts", "How often a draft was verified, a second.", "short",
        [Query(per_class("drover_spec_verify_steps_total"), "{{profile}} {{build}} {{class}}")], "speculative.md",
    ),
    Panel(
        "Speed, by class", "Median tokens a second of one answer, as the backends time it.", "short",
        [Query(
            f"histogram_quantile(0.5, sum by (le, profile, build, class) (rate(drover_spec_decode_tokens_per_second_bucket{{{POOL}}}{WINDOW})))",
            "{{profile}} {{build}} {{class}}",
        )],
        "speculative.md",
    ),
    Panel(
        "Accepted, by class", "Share of drafted tokens that the model agreed with.", "percentunit",
        [Query(
            per_class("drover_spec_tokens_total", ', kind="accepted"') + " / " + per_class("drover_spec_tokens_total", ', kind="drafted"'),
            "{{profile}} {{build}} {{class}}",
        )],
        "speculative.md", top=1,
    ),
    Panel(
        "Prompts, by class", "Median prompt tokens a second, as the backends time it.", "short",
        [Query(
            f"histogram_quantile(0.5, sum by (le, profile, build, class) (rate(drover_spec_prefill_tokens_per_second_bucket{{{POOL}}}{WINDOW})))",
            "{{profile}} {{build}} {{class}}",
        )],
        "speculative.md",
    ),
    Panel(
        "First token, by class", "Median time from a request to the first content of its answer.", "s",
        [Query(
            f"histogram_quantile(0.5, sum by (le, profile, build, class) (rate(drover_spec_first_token_seconds_bucket{{{POOL}}}{WINDOW})))",
            "{{profile}} {{build}} {{class}}",
        )],
        "speculative.md",
    ),
    Panel(
        "Held by position", "Share of a backend's drafts that held up to a position, by its own counts.", "percentunit",
        [Query(
            f"sum by (backend, position) (rate(drover_backend_spec_accepted_at_position{{{BACKEND}}}{WINDOW})) / "
            f"on (backend) group_left () sum by (backend) (rate(drover_backend_spec_drafts{{{BACKEND}}}{WINDOW}))",
            "{{backend}} {{position}}",
        )],
        "speculative.md", top=1,
    ),
    Panel(
        "Attempts that failed", "Share of attempts whose backend failed, by profile, build and class.", "percentunit",
        [Query(per_class("drover_spec_attempts_total", ', end="failed"') + " / " + per_class("drover_spec_attempts_total"), "{{profile}} {{build}} {{class}}")],
        "speculative.md",
    ),
    Panel(
        "Bad answers", "Answers with a call that could not be used, or that went round in circles, a second.", "short",
        [Query(f"sum by (profile, build, sign) (rate(drover_spec_bad_answers_total{{{POOL}}}{WINDOW}))", "{{profile}} {{build}} {{sign}}")],
        "speculative.md",
    ),
    Panel(
        "What came out", "Answers by class of the request and what they are: nothing is decided by it.", "reqps",
        [Query(f"sum by (class, answer) (rate(drover_spec_answers_total{{{POOL}}}{WINDOW}))", "{{class}} {{answer}}")],
        "speculative.md",
    ),
    Panel(
        "Changes on backends", "Builds, models, profiles and flags that are not what they were; `/api/spec` tells what they were.", "short",
        [Query(f"sum by (backend, what) (increase(drover_backend_changes_total{{{POOL}}}[$__range]))", "{{backend}} {{what}}")], "speculative.md",
    ),
    Panel(
        "Findings", "Regressions found in the range shown; `/api/spec/findings` tells evidence, cause and remedy.", "short",
        [Query("sum by (signature) (increase(drover_spec_findings_total[$__range]))", "{{signature}}")], "speculative.md",
        thresholds=[(1, "orange")],
    ),
    Panel(
        "Wrong now", "Findings that are on, with what explains each best.", "short",
        [Query(f"drover_spec_finding{{{POOL}}} or vector(0)", "{{signature}} {{backend}}: {{explained_by}}")], "speculative.md", thresholds=[(1, "orange")],
    ),
])

WISHES = Row("Wishes", [
    Panel(
        "Asked for", "Turns that ask for a profile or for none, by who asks: the client, the setting for tool turns, a rule.", "reqps",
        [Query(f"sum by (cause) (rate(drover_spec_asked_total{{{POOL}}}{WINDOW}))", "{{cause}}")], "speculative.md",
    ),
    Panel(
        "Not met", "Those of them that were served with another profile, by what was in the way.", "reqps",
        [Query(f"sum by (reason) (rate(drover_spec_unavailable_total{{{POOL}}}{WINDOW}))", "{{reason}}")], "speculative.md",
    ),
])


def difference(metric: str, bound: str) -> Query:
    series = f'drover_rollout_difference_ratio{{{INSTANCE}, metric="{metric}", bound="{bound}"}}'
    return Query(f"max by (rollout, class, busy) ({series})", f"{bound} {{{{rollout}}}} {{{{class}}}} {{{{busy}}}} busy")


ROLLOUTS = Row("Rollouts", [
    Panel(
        "State", "Where each rollout is.", "short",
        [Query(f"max by (rollout, state) (drover_rollout_state{{{INSTANCE}}}) == 1", "{{rollout}} {{state}}")], "speculative.md",
    ),
    Panel(
        "Share of the sessions", "What the candidate has, and the control.", "percentunit",
        [Query(f"max by (rollout, arm) (drover_rollout_share_ratio{{{INSTANCE}}})", "{{rollout}} {{arm}}")], "speculative.md", top=1,
    ),
    Panel(
        "Difference of speed", "Decode tokens/s of the candidate, relative to the control: the mean, and where it is for certain.", "percentunit",
        [difference("decode_tps", bound) for bound in ("low", "mean", "high")], "speculative.md",
    ),
    Panel(
        "Difference of the first token", "Time to the first token of the candidate, relative to the control.", "percentunit",
        [difference("ttft", bound) for bound in ("low", "mean", "high")], "speculative.md",
    ),
    Panel(
        "Turns compared", "Turns of the two sides a second, and those that found no room on their side.", "reqps",
        [
            Query(f"sum by (rollout, arm) (rate(drover_rollout_turns_total{{{INSTANCE}}}{WINDOW}))", "{{rollout}} {{arm}}"),
            Query(f"sum by (rollout, arm) (rate(drover_rollout_elsewhere_total{{{INSTANCE}}}{WINDOW}))", "{{rollout}} {{arm}} elsewhere"),
        ],
        "speculative.md",
    ),
    Panel(
        "Verdicts", "Steps that were judged in the range shown.", "short",
        [Query(f"sum by (rollout, verdict) (increase(drover_rollout_verdicts_total{{{INSTANCE}}}[$__range]))", "{{rollout}} {{verdict}}")],
        "alerts.md",
    ),
    Panel(
        "Verdicts told", "To webhooks, by whether they took them.", "short",
        [Query(f"sum by (rollout, result) (increase(drover_rollout_webhooks_total{{{INSTANCE}}}[$__range]))", "{{rollout}} {{result}}")],
        "speculative.md",
    ),
])

DASHBOARD = Dashboard(
    "drover-speculation", "Drover / Speculative decoding",
    "How much of what was drafted held, and how fast it made the answers, by profile, build and backend.", [ACCEPTANCE, SPEED, CLASSES, WISHES, ROLLOUTS],
)

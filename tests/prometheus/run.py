#!/usr/bin/env python3
"""Dashboards and alerts on a real Prometheus that scrapes a gateway under the load of simulated agents.

    run.py --gateway BIN [--quiet-s N]

In a quiet time no alert may fire; then things break, every alert must fire, and every query of every panel must have
brought values. The exit code is 1 when something did not hold.
"""

import argparse
import json
import math
import re
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "dashboards")]
import llama_fleet as fleet  # noqa: E402
import scenarios  # noqa: E402
from agents import Crowd  # noqa: E402
from generate import DASHBOARDS  # noqa: E402
from source.rules import ALERTS  # noqa: E402
from world import World, promtool, shortened, world  # noqa: E402

FIRED_WITHIN_S = 60
LAST = "DroverDown"
VIEWS = re.findall(r"^export (?:const|\{) (\w+)", (ROOT / "src" / "admin" / "console" / "views.js").read_text(), re.MULTILINE)


def filled_in(expr: str, range_s: int) -> str:
    """An expression as Grafana would send it with every variable at *All*."""
    for name, value in (("$__rate_interval", "15s"), ("$__range", f"{range_s}s"), ("$instance", ".*"), ("$pool", ".*"), ("$backend", ".*")):
        expr = expr.replace(name, value)
    rest = re.sub(r"\[\d+s\]", "", expr)
    if "$" in rest:
        raise fleet.Failure(f"an unknown variable in {expr}")
    return re.sub(r"\[([\dmhd:]+)\]|offset \w+", lambda found: shortened(found[0]) if not found[0].endswith("s]") else found[0], expr)


def numbers(result: list[dict]) -> int:
    values = [value for series in result for _, value in series.get("values", [series.get("value")])]
    return sum(math.isfinite(float(value)) for value in values)


def panels_without_data(it: World, begun: float) -> list[str]:
    wrong, asked = [], 0
    now = time.time()
    for dashboard in DASHBOARDS:
        for panel in dashboard.panels():
            for query in panel.queries:
                asked += 1
                expr = filled_in(query.expr, int(now - begun))
                result = it.ask("query_range", query=expr, start=begun, end=now, step=2)["result"]
                if not numbers(result):
                    wrong.append(f"{dashboard.title}: {panel.title}: no data from {expr}")
    print(f"panels: {asked} queries, {len(wrong)} without data")
    return wrong


def exemplars_without_story(it: World, begun: float) -> list[str]:
    """From a point in a chart to the story of its request, for each series that has such points."""
    wrong = []
    for name in ("drover_request_seconds", "drover_ttft_seconds", "drover_inter_token_seconds"):
        series = it.ask("query_exemplars", query=f"{name}_bucket", start=begun, end=time.time())
        points = [point for one in series for point in one["exemplars"]]
        points.sort(key=lambda point: point["timestamp"])
        if not points:
            wrong.append(f"{name} has no exemplar")
            continue
        request = points[-1]["labels"]["request_id"]
        with urllib.request.urlopen(f"{it.admin}/api/requests/{request}", timeout=10) as answer:
            told = json.load(answer)["request"]
        print(f"exemplars: {len(points)} of {name}; the last one, {points[-1]['value']} s, is {told['outcome']} on {told.get('backend')}")
        if told["request_id"] != request:
            wrong.append(f"{name}: {request} leads to {told['request_id']}")
    return wrong


def fired_in_quiet(it: World, quiet_s: float) -> list[str]:
    result = it.ask("query", query=f'max_over_time(ALERTS{{alertstate="firing"}}[{int(quiet_s)}s])')["result"]
    return [f"{series['metric']['alertname']} fired in the quiet time: {series['metric']}" for series in result]


def wait_for(it: World, expected: set[str], seen: dict[str, list[dict]], since: float) -> None:
    """Adds the alerts that fire, each as it was when it first did."""
    deadline = time.monotonic() + FIRED_WITHIN_S
    while expected - set(seen) and time.monotonic() < deadline:
        for name, alerts in it.firing().items():
            if name not in seen:
                seen[name] = alerts
                print(f"  {name} after {time.monotonic() - since:.0f} s: {alerts[0]['annotations']['summary']}")
        time.sleep(0.5)


def leads_nowhere(alert: dict) -> str | None:
    """What is wrong with its links: each names what the alert names, and nothing else."""
    labels, links = alert["labels"], alert["annotations"]
    console = urllib.parse.urlsplit(links["console_url"])
    view, _, about = console.fragment.partition("/")
    if console.netloc != labels["instance"] or view not in VIEWS:
        return links["console_url"]
    told = dict(urllib.parse.parse_qsl(about))
    wrong = [key for key in ("pool", "backend", "profile", "build") if about and told.get(key, "") != labels.get(key, "")]
    variables = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(links["dashboard_url"]).query))
    wrong += [key for key in ("instance", "pool", "backend") if variables.get(f"var-{key}", "") != labels.get(key, "")]
    return f"{links['console_url']} and {links['dashboard_url']} do not name {wrong}" if wrong else None


def badly_worded(fired: dict[str, list[dict]]) -> list[str]:
    """Annotations whose templates did not come out, or lead nowhere."""
    page = (ROOT / "docs" / "alerts.md").read_text().lower()
    wrong = []
    for name, alerts in fired.items():
        for alert in alerts:
            texts = " ".join(alert["annotations"].values())
            if "<no value>" in texts or "<error" in texts or "http:///" in texts:
                wrong.append(f"{name} says {texts}")
        wrong += [f"{name}: {problem}" for problem in map(leads_nowhere, alerts) if problem]
        section = alerts[0]["annotations"]["runbook_url"].partition("#")[2]
        if f"## {section}\n" not in page:
            wrong.append(f"{name} leads to {section}, which docs/alerts.md does not have")
    return wrong


def run(binary: str, quiet_s: float) -> list[str]:
    promtool("check", "rules", "drover.rules.yaml")
    promtool("check", "config", str(ROOT / "conf" / "prometheus" / "prometheus.yaml"))
    promtool("test", "rules", "drover.test.yaml")
    expected = {alert.name for alert in ALERTS}
    with world(binary, scenarios.LOWER) as it:
        crowd, begun = Crowd(), time.time()
        scenarios.quiet(it, crowd)
        time.sleep(quiet_s)
        wrong = fired_in_quiet(it, quiet_s)
        print(f"quiet: {quiet_s:.0f} s, {len(wrong)} alerts")
        wrong += exemplars_without_story(it, begun)
        start = time.monotonic()
        scenarios.incidents(it, crowd)
        fired: dict[str, list[dict]] = {}
        wait_for(it, expected - {LAST}, fired, start)
        wrong += panels_without_data(it, begun)
        crowd.stop()
        scenarios.gateway_gone(it)
        wait_for(it, {LAST}, fired, start)
        wrong += [f"{name} did not fire" for name in sorted(expected - set(fired))]
        return wrong + badly_worded(fired)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gateway", required=True, help="the drover binary")
    parser.add_argument("--quiet-s", type=float, default=30, help="length of the quiet time")
    args = parser.parse_args()
    begun = time.monotonic()
    try:
        wrong = run(args.gateway, args.quiet_s)
    except fleet.Failure as failure:
        wrong = [str(failure)]
    print(f"{time.monotonic() - begun:.0f} s")
    for line in wrong:
        print(f"error: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

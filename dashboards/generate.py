#!/usr/bin/env python3
"""Writes what is generated from dashboards/source: Grafana's JSON, Prometheus' rules and their tests, docs/alerts.md.

    generate.py           writes the files
    generate.py --check   changes nothing; exit code 1 when a file differs from what would be written, a query names a
                          series that the gateway does not export, or a series of the gateway is on no dashboard

Standard library only.
"""

import argparse
import json
import re
import sys
from pathlib import Path

from source import fleet, gateway, loops, policy, prometheus, speculation
from source.grafana import json_of
from source.rules import ALERTS, RECORDINGS

ROOT = Path(__file__).resolve().parents[1]
DASHBOARDS = [module.DASHBOARD for module in (fleet, gateway, loops, policy, speculation)]
# Names of Prometheus' own, and of every process.
GIVEN = {"process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds", "process_max_fds"}


def generated() -> dict[Path, str]:
    """Every file with its contents."""
    grafana = {
        ROOT / "dashboards" / "grafana" / f"{dashboard.uid}.json": json.dumps(json_of(dashboard), indent=1) + "\n"
        for dashboard in DASHBOARDS
    }
    rules = ROOT / "dashboards" / "prometheus"
    return grafana | {
        rules / "drover.rules.yaml": prometheus.rules_yaml(),
        rules / "drover.test.yaml": prometheus.tests_yaml(),
        ROOT / "docs" / "alerts.md": prometheus.runbook(),
    }


def exported() -> set[str]:
    """The series of docs/metrics.md, which is generated from their declarations."""
    return set(re.findall(r"^### (\w+)$", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE))


def named(expr: str) -> set[str]:
    """The gateway's series that an expression reads."""
    bare = re.sub(r'"[^"]*"', "", expr)
    names = set(re.findall(r"(?<![\w:])(?:drover|gen_ai|process)_\w+", bare)) - {rule.name for rule in RECORDINGS}
    labels = {"gen_ai_request_model", "gen_ai_token_type", "gen_ai_operation_name", "gen_ai_provider_name"}
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in names - labels}


def mistakes() -> list[str]:
    """Series that are asked for and do not exist, and series that nobody would see."""
    shown = [(f"{d.uid}: {p.title}", query.expr) for d in DASHBOARDS for p in d.panels() for query in p.queries]
    ruled = [(rule.name, rule.expr) for rule in [*ALERTS, *RECORDINGS]]
    known = exported()
    wrong = [
        f"{where} reads {name}, which docs/metrics.md does not have"
        for where, expr in shown + ruled
        for name in sorted(named(expr) - known - GIVEN)
    ]
    seen = set().union(*(named(expr) for _, expr in shown))
    return wrong + [f"{name} is on no dashboard" for name in sorted(known - seen)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing")
    check = parser.parse_args().check
    wrong = mistakes()
    for path, contents in generated().items():
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(contents)
        elif not path.exists() or path.read_text() != contents:
            wrong.append(f"{path.relative_to(ROOT)} is not what dashboards/generate.py writes: run it and commit the result")
    strays = {*(ROOT / "dashboards" / "grafana").iterdir()} - set(generated())
    wrong += [f"{path.relative_to(ROOT)} comes from nowhere" for path in sorted(strays)]
    for line in wrong:
        print(f"error: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Previews of the dashboards: every panel's own queries, asked of a real Prometheus that scrapes a gateway under the load
of simulated agents, drawn in the dashboard's layout.

    preview.py --gateway BIN --out DIR [--quiet-s N] [--bad-s N]

They are drawn by matplotlib, not by Grafana: what they show is what Grafana would ask for and get, not how it looks there.
"""

import argparse
import datetime
import math
import re
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "dashboards")]
import matplotlib  # noqa: E402

matplotlib.use("Agg")
import matplotlib.dates as dates  # noqa: E402
import matplotlib.pyplot as plt  # noqa: E402
import scenarios  # noqa: E402
from agents import Crowd  # noqa: E402
from generate import DASHBOARDS  # noqa: E402
from matplotlib.ticker import FuncFormatter  # noqa: E402
from run import filled_in  # noqa: E402
from source.grafana import COLUMNS, Dashboard, Panel, _placed  # noqa: E402
from world import World, world  # noqa: E402

PAPER, INK, SOFT = "#181b1f", "#d8d9da", "#8e8e8e"
COLORS = ["#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#b877d9", "#f2495c", "#8ab8ff", "#fade2a", "#96d98d", "#ffb357"]
NAMED = {"green": "#73bf69", "orange": "#ff9830", "red": "#f2495c"}
LEGEND_ROWS, TABLE_ROWS = 5, 8
UNITS = {"s": "s", "percentunit": "%", "reqps": "/s", "cps": "/s", "bytes": "B"}


def shown(value: float, unit: str) -> str:
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    for factor, sign in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor and unit != "s":
            return f"{value / factor:.3g} {sign}{UNITS.get(unit, '')}".strip()
    if unit == "s" and 0 < abs(value) < 0.1:
        return f"{value * 1000:.3g} ms"
    return f"{value:.3g} {UNITS.get(unit, '')}".strip()


def named(legend: str, labels: dict) -> str:
    if not legend:
        return ", ".join(f"{key}={value}" for key, value in labels.items() if key not in ("__name__", "job", "instance"))
    for key, value in labels.items():
        legend = legend.replace("{{" + key + "}}", value)
    # A zero that stands for "none of them" has no labels.
    return re.sub(r"{{\w+}}", "", legend).strip() or "none"


def color_of(panel: Panel, value: float) -> str:
    color = panel.base
    for edge, name in panel.thresholds:
        color = name if value >= edge else color
    return NAMED.get(color, INK)


def series_of(it: World, panel: Panel, begun: float, now: float) -> list[tuple[str, list[tuple[float, float]]]]:
    """Each line's name and its points."""
    found = []
    for query in panel.queries:
        expr = filled_in(query.expr, int(now - begun))
        for one in it.ask("query_range", query=expr, start=begun, end=now, step=1)["result"]:
            points = [(float(at), float(value)) for at, value in one["values"] if math.isfinite(float(value))]
            if points:
                found.append((named(query.legend, one["metric"]), points))
    return sorted(found, key=lambda one: -max(value for _, value in one[1]))


def lines(axes, panel: Panel, series: list) -> None:
    base: dict[float, float] = {}
    for number, (name, points) in enumerate(series):
        color = COLORS[number % len(COLORS)]
        at = [dates.date2num(time_of(stamp)) for stamp, _ in points]
        values = [value + (base.get(stamp, 0.0) if panel.stacked else 0.0) for stamp, value in points]
        below = [base.get(stamp, 0.0) if panel.stacked else 0.0 for stamp, _ in points]
        axes.plot(at, values, color=color, linewidth=1, label=name if number < LEGEND_ROWS else None)
        axes.fill_between(at, below, values, color=color, alpha=0.25 if panel.stacked else 0.08, linewidth=0)
        base |= dict(zip((stamp for stamp, _ in points), values))
    axes.set_ylim(bottom=0, top=panel.top)
    for edge, color in panel.thresholds:
        if edge <= axes.get_ylim()[1]:
            axes.axhline(edge, color=NAMED.get(color, INK), linewidth=0.6, linestyle="--")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: shown(value, panel.unit)))
    axes.xaxis.set_major_locator(dates.AutoDateLocator(maxticks=5))
    axes.xaxis.set_major_formatter(dates.DateFormatter("%H:%M:%S"))
    axes.grid(color="#2c3235", linewidth=0.5)
    if series:
        more = f" and {len(series) - LEGEND_ROWS} more" if len(series) > LEGEND_ROWS else ""
        legend = axes.legend(loc="upper left", fontsize=5.5, frameon=False, labelcolor=INK, title=more or None, title_fontsize=5)
        legend.get_title().set_color(SOFT)


def time_of(stamp: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(stamp, datetime.UTC)


def last_values(axes, panel: Panel, series: list) -> None:
    axes.axis("off")
    if panel.kind == "stat" and len(series) == 1:
        value = series[0][1][-1][1]
        axes.text(0.5, 0.5, shown(value, panel.unit), color=color_of(panel, value), fontsize=22, ha="center", va="center")
        return
    rows = [(name, points[-1][1]) for name, points in series[:TABLE_ROWS]]
    for number, (name, value) in enumerate(rows):
        height = 0.93 - number * 0.115
        axes.text(0.0, height, name[:64], color=INK, fontsize=6, va="top", transform=axes.transAxes)
        axes.text(1.0, height, shown(value, panel.unit), color=color_of(panel, value), fontsize=6, va="top", ha="right", transform=axes.transAxes)
    if len(series) > TABLE_ROWS:
        axes.text(0.0, 0.0, f"and {len(series) - TABLE_ROWS} more", color=SOFT, fontsize=5.5, transform=axes.transAxes)


def draw(it: World, dashboard: Dashboard, begun: float, now: float, out: Path) -> None:
    placed = _placed(dashboard.rows)
    height = max(one["gridPos"]["y"] + one["gridPos"]["h"] for one in placed)
    cell = 0.32
    picture = plt.figure(figsize=(14, (height + 2) * cell), facecolor=PAPER)

    def box(position: dict, inset: tuple) -> list[float]:
        left, bottom, right, top = inset
        x, w = position["x"] / COLUMNS, position["w"] / COLUMNS
        y, h = (position["y"] + 2) / (height + 2), position["h"] / (height + 2)
        unit = 1 / (height + 2)
        return [x + left, 1 - y - h + bottom * unit, w - left - right, h - (bottom + top) * unit]

    picture.text(0.01, 1 - 0.7 / (height + 2), dashboard.title, color=INK, fontsize=14, va="center")
    picture.text(0.99, 1 - 0.7 / (height + 2), "preview: these panels' queries on a real Prometheus, not drawn by Grafana", color=SOFT, fontsize=7, ha="right", va="center")
    panels = {panel.title: panel for panel in dashboard.panels()}
    for one in placed:
        position = one["gridPos"]
        if one["type"] == "row":
            picture.text(0.01, 1 - (position["y"] + 2.6) / (height + 2), one["title"], color=INK, fontsize=9, weight="bold", va="center")
            continue
        panel = panels[one["title"]]
        axes = picture.add_axes(box(position, (0.035 if panel.kind == "timeseries" else 0.015, 1.0, 0.012, 1.4)))
        axes.set_facecolor("#1f2328")
        axes.tick_params(colors=SOFT, labelsize=5.5, length=2)
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.set_title(panel.title, color=INK, fontsize=8, loc="left", pad=3)
        series = series_of(it, panel, begun, now)
        (lines if panel.kind == "timeseries" else last_values)(axes, panel, series)
        if not series:
            axes.text(0.5, 0.5, "none yet", color=SOFT, ha="center", va="center", transform=axes.transAxes)
    picture.savefig(out / f"{dashboard.uid}.png", dpi=95, facecolor=PAPER)
    plt.close(picture)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gateway", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--quiet-s", type=float, default=60)
    parser.add_argument("--bad-s", type=float, default=40)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with world(args.gateway, scenarios.LOWER) as it:
        crowd = Crowd()
        scenarios.quiet(it, crowd)
        time.sleep(10)
        begun = time.time()
        time.sleep(args.quiet_s)
        scenarios.incidents(it, crowd)
        time.sleep(args.bad_s)
        now = time.time()
        for dashboard in DASHBOARDS:
            draw(it, dashboard, begun, now, args.out)
            print(f"{args.out}/{dashboard.uid}.png")
        crowd.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())

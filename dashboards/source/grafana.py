"""Dashboards in few words, and the Grafana JSON they become (schema 39: Grafana 10.4 and later)."""

from dataclasses import dataclass, field

# What every query is narrowed to: the variables at the top of each dashboard.
INSTANCE = 'instance=~"$instance"'
POOL = f'{INSTANCE}, pool=~"$pool"'
BACKEND = f'{INSTANCE}, backend=~"$backend"'
BOTH = f'{POOL}, backend=~"$backend"'
# Long enough for four scrapes at any zoom.
WINDOW = "[$__rate_interval]"
COLUMNS = 24
TAG = "drover"


@dataclass(frozen=True)
class Query:
    """A PromQL expression, and what its series are called (`{{label}}` is filled in)."""

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """One picture. `thresholds` are (from this value on, colour); below the first it is green, or `base`."""

    title: str
    description: str
    unit: str  # Grafana's id of a unit: s, short, percentunit, reqps, bytes …
    queries: list[Query]
    docs: str  # the page that explains it, in docs/
    kind: str = "timeseries"  # or stat, table, bargauge
    thresholds: list[tuple[float, str]] = field(default_factory=list)
    base: str = "green"
    stacked: bool = False
    top: float | None = None  # the axis ends here
    width: int = 8
    height: int = 8
    links: list[tuple[str, str]] = field(default_factory=list)  # (title, address): where a click leads


@dataclass(frozen=True)
class Row:
    """Panels under a common title."""

    title: str
    panels: list[Panel]


@dataclass(frozen=True)
class Dashboard:
    """A page of rows. The identifier is part of its address in Grafana and never changes."""

    uid: str
    title: str
    description: str
    rows: list[Row]

    def panels(self) -> list[Panel]:
        return [panel for row in self.rows for panel in row.panels]


def rate(metric: str, narrowed: str = INSTANCE, by: str = "") -> str:
    """How much of it comes in a second, summed over everything but the labels `by`."""
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped}(rate({metric}{{{narrowed}}}{WINDOW}))"


def share(part: str, whole: str) -> str:
    """A quotient that is 0, not missing, where `part` has never been seen; of two sums over everything."""
    return f"({part} or vector(0)) / {whole}"


def quantile(q: float, metric: str, narrowed: str = INSTANCE, by: str = "") -> str:
    """Of a histogram."""
    labels = ", ".join(["le", *([by] if by else [])])
    return f"histogram_quantile({q}, {rate(metric + '_bucket', narrowed, labels)})"


def quantiles(metric: str, narrowed: str = INSTANCE, of: tuple[float, ...] = (0.5, 0.95, 0.99)) -> list[Query]:
    return [Query(quantile(q, metric, narrowed), f"p{q * 100:g}") for q in of]


def json_of(dashboard: Dashboard) -> dict:
    """The dashboard as Grafana imports it."""
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.description,
        "tags": [TAG],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "timezone": "browser",
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "annotations": {"list": [_annotation()]},
        "links": _links(),
        "templating": {"list": _variables()},
        "panels": _placed(dashboard.rows),
    }


def _annotation() -> dict:
    return {
        "name": "Alerts",
        "datasource": _source(),
        "enable": True,
        "iconColor": "red",
        "expr": 'ALERTS{alertstate="firing", alertname=~"Drover.*"}',
        "titleFormat": "{{alertname}}",
        "step": "30s",
    }


def _links() -> list[dict]:
    others = {"type": "dashboards", "title": "Drover", "tags": [TAG], "asDropdown": True, "keepTime": True, "includeVars": True}
    console = {"type": "link", "title": "Requests of this time", "url": requests("latest"), "targetBlank": True}
    return [others, console]


def requests(order: str) -> str:
    """Where the requests behind a picture are listed."""
    return "${admin}/console/#requests/order=" + order + "&from=${__from}&to=${__to}"


def _source() -> dict:
    return {"type": "prometheus", "uid": "${datasource}"}


def _variables() -> list[dict]:
    def values(name: str, label: str, query: str) -> dict:
        return {
            "type": "query",
            "name": name,
            "label": label,
            "datasource": _source(),
            "query": {"query": query, "refId": name},
            "refresh": 2,
            "sort": 1,
            "multi": True,
            "includeAll": True,
            "allValue": ".*",
            "current": {"text": ["All"], "value": ["$__all"]},
        }

    return [
        {"type": "datasource", "name": "datasource", "label": "Prometheus", "query": "prometheus"},
        values("instance", "Gateway", "label_values(drover_build_info, instance)"),
        values("pool", "Pool", 'label_values(drover_backend_info{instance=~"$instance"}, pool)'),
        values("backend", "Backend", 'label_values(drover_backend_info{instance=~"$instance", pool=~"$pool"}, backend)'),
        {
            "type": "textbox",
            "name": "admin",
            "label": "Admin address",
            "query": "http://127.0.0.1:9090",
            "current": {"text": "http://127.0.0.1:9090", "value": "http://127.0.0.1:9090"},
        },
    ]


def _placed(rows: list[Row]) -> list[dict]:
    """Left to right and top to bottom, every row under its title."""
    placed: list[dict] = []
    y = 0
    for row in rows:
        placed.append(_placed_row(row.title, len(placed) + 1, y))
        x, y, tallest = 0, y + 1, 0
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                x, y, tallest = 0, y + tallest, 0
            position = {"x": x, "y": y, "w": panel.width, "h": panel.height}
            placed.append(_panel(panel, len(placed) + 1, position))
            x, tallest = x + panel.width, max(tallest, panel.height)
        y += tallest
    return placed


def _placed_row(title: str, number: int, y: int) -> dict:
    return {"type": "row", "id": number, "title": title, "collapsed": False, "panels": [], "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1}}


def _panel(panel: Panel, number: int, position: dict) -> dict:
    defaults: dict = {
        "unit": panel.unit,
        "noValue": "none yet",
        "thresholds": {"mode": "absolute", "steps": _steps(panel)},
        "links": [{"title": title, "url": url, "targetBlank": True} for title, url in panel.links],
    }
    if panel.kind == "timeseries":
        defaults |= {"min": 0, "custom": _lines(panel), "color": {"mode": "palette-classic"}}
    else:
        defaults["color"] = {"mode": "thresholds"}
    if panel.top is not None:
        defaults["max"] = panel.top
    return {
        "type": panel.kind,
        "id": number,
        "title": panel.title,
        "description": panel.description,
        "datasource": _source(),
        "gridPos": position,
        "links": [{"title": f"What it means: {panel.docs}", "url": "${admin}/docs/" + panel.docs, "targetBlank": True}],
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": _options(panel),
        "targets": [_target(panel, number, query) for number, query in enumerate(panel.queries)],
    } | _reshaped(panel)


def _steps(panel: Panel) -> list[dict]:
    return [{"value": None, "color": panel.base}, *({"value": value, "color": color} for value, color in panel.thresholds)]


def _lines(panel: Panel) -> dict:
    return {
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": 25 if panel.stacked else 8,
        "stacking": {"mode": "normal" if panel.stacked else "none"},
        "showPoints": "never",
        "thresholdsStyle": {"mode": "line" if panel.thresholds else "off"},
    }


def _options(panel: Panel) -> dict:
    last = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    match panel.kind:
        case "timeseries":
            legend = {"displayMode": "table", "placement": "bottom", "calcs": ["mean", "max"]}
            return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}
        case "stat":
            return {"reduceOptions": last, "colorMode": "value", "graphMode": "area"}
        case "bargauge":
            return {"reduceOptions": last, "orientation": "horizontal", "displayMode": "basic"}
        case "table":
            return {"showHeader": True}
    raise ValueError(f"{panel.title}: no such kind of panel: {panel.kind}")


def _target(panel: Panel, number: int, query: Query) -> dict:
    is_table = panel.kind == "table"
    return {
        "refId": chr(ord("A") + number),
        "datasource": _source(),
        "expr": query.expr,
        "legendFormat": query.legend or "__auto",
        "instant": is_table,
        "range": not is_table,
        "format": "table" if is_table else "time_series",
        # Points that name a request, where the series has them.
        "exemplar": not is_table and "_bucket" in query.expr,
    }


def _reshaped(panel: Panel) -> dict:
    """The rows of several queries of a table that are of one thing are one row."""
    if panel.kind != "table":
        return {}
    hidden = {"excludeByName": {"Time": True, "__name__": True, "job": True}}
    return {"transformations": [{"id": "merge", "options": {}}, {"id": "organize", "options": hidden}]}

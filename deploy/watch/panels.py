"""A typed builder of Grafana dashboards: what is said here once, Grafana's JSON says many times."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

_SCHEMA = 39
_COLUMNS = 24
_TAG = "livegate"
Unit = Literal["short", "s", "reqps", "percentunit", "none"]


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL expression of a panel.

    Attributes:
        expr: PromQL.
        legend: with labels in `{{ }}`.
    """

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart.

    Attributes:
        title: a noun.
        queries: what it shows.
        unit: of its values.
        width: of 24 columns.
        kind: lines over time, one number, or a table of labels.
        about: what an operator has to know to read it.
        stacked: lines add up.
    """

    title: str
    queries: Sequence[Query]
    unit: Unit = "short"
    width: int = 8
    kind: Literal["timeseries", "stat", "table"] = "timeseries"
    about: str = ""
    stacked: bool = False


@dataclass(frozen=True, slots=True)
class Variable:
    """A choice at the top of a dashboard: the values of a label.

    Attributes:
        name: in expressions, `$name`.
        expr: the series that have it.
        label: whose values.
    """

    name: str
    expr: str
    label: str


@dataclass(frozen=True, slots=True)
class Dashboard:
    """A dashboard.

    Attributes:
        uid: never changes: it is part of links.
        title: a noun.
        rows: title of a row to its panels.
        variables: choices at its top.
    """

    uid: str
    title: str
    rows: dict[str, Sequence[Panel]]
    variables: Sequence[Variable] = ()

    def expressions(self) -> list[str]:
        """Return all PromQL in it."""
        panels = [panel for row in self.rows.values() for panel in row]
        found = [query.expr for panel in panels for query in panel.queries]
        return [*found, *(variable.expr for variable in self.variables)]

    def to_json(self, datasource: str = "") -> dict[str, Any]:
        """Return it in Grafana's form.

        Args:
            datasource: uid of the Prometheus that is shown first; empty: Grafana's default.
        """
        return {
            "uid": self.uid,
            "title": self.title,
            "tags": [_TAG],
            "schemaVersion": _SCHEMA,
            "editable": True,
            "graphTooltip": 1,
            "refresh": "10s",
            "time": {"from": "now-1h", "to": "now"},
            "timezone": "",
            "annotations": {"list": [_events()]},
            "links": [_siblings()],
            "templating": {
                "list": [_source(datasource), *(_choice(each) for each in self.variables)]
            },
            "panels": self._panels(),
        }

    def _panels(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        y = 0
        for title, row in self.rows.items():
            found.append(
                {
                    "type": "row",
                    "title": title,
                    "id": len(found) + 1,
                    "collapsed": False,
                    "gridPos": {"x": 0, "y": y, "w": _COLUMNS, "h": 1},
                    "panels": [],
                }
            )
            y, x, height = y + 1, 0, 0
            for panel in row:
                if x + panel.width > _COLUMNS:
                    x, y = 0, y + height
                height = 4 if panel.kind == "stat" else 8
                place = {"x": x, "y": y, "w": panel.width, "h": height}
                found.append({**_panel(panel), "id": len(found) + 1, "gridPos": place})
                x += panel.width
            y += height
        return found


def _panel(panel: Panel) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${datasource}"}
    custom: dict[str, Any] = {}
    options: dict[str, Any] = {}
    if panel.kind == "timeseries":
        stacking = {"mode": "normal" if panel.stacked else "none"}
        fill = 30 if panel.stacked else 0
        custom = {"lineWidth": 1, "fillOpacity": fill, "showPoints": "never", "stacking": stacking}
        options = {
            "legend": {"displayMode": "list", "placement": "bottom"},
            "tooltip": {"mode": "multi"},
        }
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": source,
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": source,
                "expr": query.expr,
                "legendFormat": query.legend or "__auto",
                "instant": panel.kind == "table",
                "range": panel.kind != "table",
                "format": "table" if panel.kind == "table" else "time_series",
            }
            for index, query in enumerate(panel.queries)
        ],
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "min": 0, "custom": custom},
            "overrides": [],
        },
        "options": options,
    }


def _source(datasource: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
    }
    if datasource:
        found["current"] = {"text": datasource, "value": datasource}
    return found


def _choice(variable: Variable) -> dict[str, Any]:
    query = f"label_values({variable.expr}, {variable.label})"
    return {
        "name": variable.name,
        "type": "query",
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "query": {"query": query, "refId": variable.name},
        "definition": query,
        "refresh": 2,
        "sort": 7,
        "multi": False,
        "includeAll": False,
    }


def _events() -> dict[str, Any]:
    """Return what shows deploys, swaps and scale events on every chart."""
    return {
        "name": "Livegate",
        "enable": True,
        "iconColor": "blue",
        "datasource": {"type": "grafana", "uid": "-- Grafana --"},
        "target": {"type": "tags", "tags": [_TAG], "limit": 100, "matchAny": False},
    }


def _siblings() -> dict[str, Any]:
    return {
        "type": "dashboards",
        "title": "Livegate",
        "tags": [_TAG],
        "asDropdown": True,
        "keepTime": True,
        "includeVars": False,
    }


def rate(series: str, by: str = "") -> str:
    """Return the PromQL of a rate over a panel's interval, summed up but for some labels."""
    return f"sum{f' by ({by})' if by else ''} (rate({series}[$__rate_interval]))"

"""Writes cluster/grafana/sfray.json, the Grafana dashboard, from the metrics' definitions.

A test compares the file with what this tool would write, and asks a real Prometheus every one of
its expressions.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfray.telemetry import metrics
from sfray.telemetry.metrics import Metric

DASHBOARD = Path(__file__).parent.parent / "cluster" / "grafana" / "sfray.json"
_PANEL_WIDTH, _PANEL_HEIGHT, _COLUMNS = 8, 8, 3
_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
_OF_THE_RUN = 'job_name=~"$job_name",run_id=~"$run_id"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One graph: expressions with what their lines are called, and the unit in Grafana's words."""

    title: str
    description: str
    unit: str
    lines: tuple[tuple[str, str], ...]


def rate(metric: Metric, by: str = "") -> str:
    """A counter's increase a second, summed over all but `by`."""
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (rate({metric.exported_name}{{{_OF_THE_RUN}}}[$__rate_interval]))"


def total(metric: Metric) -> str:
    """A counter's total, summed."""
    return f"sum ({metric.exported_name}{{{_OF_THE_RUN}}})"


def now(metric: Metric, by: str = "stage") -> str:
    """A gauge's value, summed over all but `by`."""
    return f"sum by ({by}) ({metric.exported_name}{{{_OF_THE_RUN}}})"


def quantile(share: float, metric: Metric) -> str:
    """A quantile of a histogram, estimated from its buckets."""
    buckets = f"rate({metric.exported_name}_bucket{{{_OF_THE_RUN}}}[$__rate_interval])"
    return f"histogram_quantile({share}, sum by (le) ({buckets}))"


def share(part: Metric, *of: Metric) -> str:
    """The rate of a counter over the sum of others' rates."""
    return f"{rate(part)} / ({' + '.join(rate(metric) for metric in of)})"


PANELS = (
    Panel(
        title="Requests",
        description="What the run set out to answer, and what became of it.",
        unit="short",
        lines=(
            (total(metrics.REQUESTS), "requests"),
            (total(metrics.ANSWERS), "answers"),
            (now(metrics.OPEN_REQUESTS, by="job_name"), "open, {{job_name}}"),
        ),
    ),
    Panel(
        title="Throughput",
        description=metrics.VIDEOS.meaning,
        unit="ops",
        lines=((rate(metrics.ANSWERS), "answers"), (rate(metrics.VIDEOS), "clips")),
    ),
    Panel(
        title="Failures by code",
        description=metrics.FAILURES.meaning,
        unit="short",
        lines=(
            (
                f"sum by (stage, code) ({metrics.FAILURES.exported_name}{{{_OF_THE_RUN}}})",
                "{{stage}}: {{code}}",
            ),
        ),
    ),
    Panel(
        title="Stall of the model replicas",
        description=(
            "The share of their time that replicas waited for decoded videos while there were "
            "some left to decode. High: more decode workers."
        ),
        unit="percentunit",
        lines=((share(metrics.REPLICA_WAITING_SECONDS, metrics.REPLICA_SECONDS), "waiting"),),
    ),
    Panel(
        title="Replicas and workers",
        description=metrics.ACTORS.meaning,
        unit="short",
        lines=(
            (now(metrics.ACTORS), "{{stage}} up"),
            (now(metrics.BUSY_ACTORS), "{{stage}} busy"),
        ),
    ),
    Panel(
        title="Queue depth",
        description=metrics.QUEUED_BLOCKS.meaning,
        unit="short",
        lines=((now(metrics.QUEUED_BLOCKS), "{{stage}}"),),
    ),
    Panel(
        title="Where actors' time goes",
        description="Actor-seconds a second: workers fetch and decode, replicas run the model.",
        unit="short",
        lines=(
            (rate(metrics.FETCH_SECONDS), "fetch"),
            (rate(metrics.DECODE_SECONDS), "decode"),
            (rate(metrics.MODEL_BUSY_SECONDS), "model"),
        ),
    ),
    Panel(
        title="Seconds a clip",
        description="Half and 95 % of the clips take less.",
        unit="s",
        lines=(
            (quantile(0.5, metrics.DECODE_VIDEO_SECONDS), "fetch and decode, half"),
            (quantile(0.95, metrics.DECODE_VIDEO_SECONDS), "fetch and decode, 95 %"),
            (quantile(0.5, metrics.ANSWER_VIDEO_SECONDS), "model, half"),
            (quantile(0.95, metrics.ANSWER_VIDEO_SECONDS), "model, 95 %"),
        ),
    ),
    Panel(
        title="Bytes fetched",
        description=metrics.FETCHED_BYTES.meaning,
        unit="Bps",
        lines=((rate(metrics.FETCHED_BYTES), "all workers"),),
    ),
    Panel(
        title="Tokens",
        description="Generated ones, and visual ones that were computed.",
        unit="ops",
        lines=(
            (rate(metrics.GENERATED_TOKENS), "generated"),
            (rate(metrics.VISUAL_TOKENS), "visual"),
        ),
    ),
    Panel(
        title="Prefix reuse",
        description=metrics.REUSED_VISUAL_TOKENS.meaning,
        unit="percentunit",
        lines=(
            (
                share(
                    metrics.REUSED_VISUAL_TOKENS,
                    metrics.REUSED_VISUAL_TOKENS,
                    metrics.VISUAL_TOKENS,
                ),
                "of all visual tokens",
            ),
        ),
    ),
)


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana imports it."""
    return {
        "title": "sfray",
        "uid": "sfray",
        "tags": ["sfray", "ray"],
        "editable": True,
        "schemaVersion": 38,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [_datasource(), _choice("job_name"), _choice("run_id")]},
        "panels": [_panel(number, panel) for number, panel in enumerate(PANELS)],
    }


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    row, column = divmod(number, _COLUMNS)
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.description,
        "datasource": _DATASOURCE,
        "gridPos": {
            "x": column * _PANEL_WIDTH,
            "y": row * _PANEL_HEIGHT,
            "w": _PANEL_WIDTH,
            "h": _PANEL_HEIGHT,
        },
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}},
        "targets": [
            {
                "refId": chr(ord("A") + line),
                "datasource": _DATASOURCE,
                "expr": expression,
                "legendFormat": name,
            }
            for line, (expression, name) in enumerate(panel.lines)
        ],
    }


def _datasource() -> dict[str, Any]:
    return {"name": "datasource", "type": "datasource", "query": "prometheus"}


def _choice(label: str) -> dict[str, Any]:
    return {
        "name": label,
        "type": "query",
        "datasource": _DATASOURCE,
        "query": f"label_values({metrics.REQUESTS.exported_name}, {label})",
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "refresh": 2,
        "sort": 2,
        "current": {"text": "All", "value": "$__all"},
    }


def dashboard_text() -> str:
    """The file's text."""
    return json.dumps(dashboard(), indent=2) + "\n"


def main() -> None:
    DASHBOARD.parent.mkdir(parents=True, exist_ok=True)
    DASHBOARD.write_text(dashboard_text(), encoding="utf-8")


if __name__ == "__main__":
    main()

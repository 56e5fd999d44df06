"""A run's metrics through Ray, which exports them on every node for Prometheus."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from ray.util import metrics as ray_metrics

from sfray.telemetry.metrics import METRICS, RUN_LABELS, Metric, Sample, clip_seconds, samples
from sfray.telemetry.run_counters import RunCounters
from sfray.telemetry.stage_load import StageLoad


class RunMetrics:
    """Hands a run's counts to Ray. To be made, used and closed while connected to a cluster."""

    def __init__(self, job_name: str, run_id: str) -> None:
        self._run = {"job_name": job_name, "run_id": run_id}
        self._exported = {metric: _ray_metric(metric) for metric in METRICS}
        self._totals: dict[tuple[Metric, tuple[str, ...]], float] = {}

    def observe(self, clips: pa.Table) -> None:
        """Adds clips, as `RunCounters.add` returns them, to the histograms."""
        for sample in clip_seconds(clips):
            self._exported[sample.metric].observe(sample.value, self._tags(sample))

    def update(self, counters: RunCounters, load: StageLoad) -> None:
        """Exports the values of now; to be called about once a second."""
        for sample in samples(counters, load):
            if sample.metric.kind == "gauge":
                self._exported[sample.metric].set(sample.value, self._tags(sample))
                continue
            key = (sample.metric, sample.labels)
            more = sample.value - self._totals.get(key, 0.0)
            if more > 0:
                self._exported[sample.metric].inc(more, self._tags(sample))
                self._totals[key] = sample.value

    def _tags(self, sample: Sample) -> dict[str, str]:
        return self._run | dict(zip(sample.metric.labels, sample.labels, strict=True))


def _ray_metric(metric: Metric) -> Any:
    options = {"description": metric.meaning, "tag_keys": (*RUN_LABELS, *metric.labels)}
    if metric.kind == "histogram":
        return ray_metrics.Histogram(metric.name, boundaries=list(metric.buckets), **options)
    kind = ray_metrics.Counter if metric.kind == "counter" else ray_metrics.Gauge
    return kind(metric.name, **options)

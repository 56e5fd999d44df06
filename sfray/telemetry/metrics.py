"""Metrics for Prometheus: each declared as data, and their values from a run's own counts.

The driver exports them, since it sees each outcome once: counters agree with the results log.
Dashboards are made from the same definitions (`tools/make_dashboard.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from sfray.errors import FAILURE_KINDS
from sfray.telemetry.run_counters import RunCounters
from sfray.telemetry.stage_load import ANSWER_STAGE, DECODE_STAGE, StageLoad

# Every metric has them.
RUN_LABELS = ("job_name", "run_id")
_VIDEO_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric: its name without Ray's prefix, what it means, its labels beside `RUN_LABELS`.

    Attributes:
        buckets: upper bounds of a histogram's buckets.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    meaning: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def exported_name(self) -> str:
        """The name in Prometheus, where a histogram has `_bucket`, `_count` and `_sum` of it."""
        return f"ray_{self.name}"


REQUESTS = Metric(
    name="sfray_requests_total", kind="counter", meaning="requests that the run set out to answer"
)
ANSWERS = Metric(name="sfray_answers_total", kind="counter", meaning="requests answered")
FAILURES = Metric(
    name="sfray_failures_total",
    kind="counter",
    meaning="requests that failed, by stage and code",
    labels=("stage", "code"),
)
VIDEOS = Metric(name="sfray_videos_total", kind="counter", meaning="clips done, answered or failed")
GENERATED_TOKENS = Metric(
    name="sfray_generated_tokens_total", kind="counter", meaning="tokens of answers"
)
VISUAL_TOKENS = Metric(
    name="sfray_visual_tokens_total", kind="counter", meaning="visual tokens, once for each clip"
)
REUSED_VISUAL_TOKENS = Metric(
    name="sfray_reused_visual_tokens_total",
    kind="counter",
    meaning="visual tokens that further questions of a clip did not compute again",
)
FETCHED_BYTES = Metric(
    name="sfray_fetched_bytes_total", kind="counter", meaning="bytes read of videos"
)
FETCH_SECONDS = Metric(
    name="sfray_fetch_seconds_total",
    kind="counter",
    meaning="seconds that decode workers spent fetching",
)
DECODE_SECONDS = Metric(
    name="sfray_decode_seconds_total",
    kind="counter",
    meaning="seconds that decode workers spent decoding",
)
MODEL_BUSY_SECONDS = Metric(
    name="sfray_model_busy_seconds_total",
    kind="counter",
    meaning="seconds that model replicas had at least one video",
)
REPLICA_SECONDS = Metric(
    name="sfray_replica_seconds_total",
    kind="counter",
    meaning="seconds that model replicas were up while decode workers had work",
)
REPLICA_WAITING_SECONDS = Metric(
    name="sfray_replica_waiting_seconds_total",
    kind="counter",
    meaning="of these, seconds without a decoded video: the stall of the GPUs",
)
ACTORS = Metric(
    name="sfray_actors", kind="gauge", meaning="actors of a stage that are up", labels=("stage",)
)
BUSY_ACTORS = Metric(
    name="sfray_busy_actors", kind="gauge", meaning="actors of a stage at work", labels=("stage",)
)
QUEUED_BLOCKS = Metric(
    name="sfray_queued_blocks",
    kind="gauge",
    meaning="blocks that wait for an actor of a stage",
    labels=("stage",),
)
OPEN_REQUESTS = Metric(
    name="sfray_open_requests", kind="gauge", meaning="requests of the run without an outcome yet"
)
DECODE_VIDEO_SECONDS = Metric(
    name="sfray_decode_video_seconds",
    kind="histogram",
    meaning="seconds to fetch and decode a clip",
    buckets=_VIDEO_SECONDS,
)
ANSWER_VIDEO_SECONDS = Metric(
    name="sfray_answer_video_seconds",
    kind="histogram",
    meaning="seconds from a clip's frames to its last answer, among other clips",
    buckets=_VIDEO_SECONDS,
)

METRICS = (
    REQUESTS,
    ANSWERS,
    FAILURES,
    VIDEOS,
    GENERATED_TOKENS,
    VISUAL_TOKENS,
    REUSED_VISUAL_TOKENS,
    FETCHED_BYTES,
    FETCH_SECONDS,
    DECODE_SECONDS,
    MODEL_BUSY_SECONDS,
    REPLICA_SECONDS,
    REPLICA_WAITING_SECONDS,
    ACTORS,
    BUSY_ACTORS,
    QUEUED_BLOCKS,
    OPEN_REQUESTS,
    DECODE_VIDEO_SECONDS,
    ANSWER_VIDEO_SECONDS,
)


@dataclass(frozen=True, slots=True)
class Sample:
    """A counter's total so far, or a gauge's value now; labels in the metric's order."""

    metric: Metric
    value: float
    labels: tuple[str, ...] = ()


def samples(counters: RunCounters, load: StageLoad) -> Iterator[Sample]:
    """The values of all counters and gauges."""
    yield Sample(REQUESTS, counters.num_requests)
    yield Sample(ANSWERS, counters.num_answers)
    for code, number in counters.failures_by_code.items():
        yield Sample(FAILURES, number, (FAILURE_KINDS[code].stage, code))
    yield Sample(VIDEOS, counters.num_videos_done)
    yield Sample(GENERATED_TOKENS, counters.num_generated_tokens)
    yield Sample(VISUAL_TOKENS, counters.num_visual_tokens)
    yield Sample(REUSED_VISUAL_TOKENS, counters.num_reused_visual_tokens)
    yield Sample(FETCHED_BYTES, counters.bytes_fetched)
    yield Sample(FETCH_SECONDS, counters.fetch_seconds)
    yield Sample(DECODE_SECONDS, counters.decode_seconds)
    yield Sample(MODEL_BUSY_SECONDS, load.model_busy_seconds)
    yield Sample(REPLICA_SECONDS, load.replica_seconds)
    yield Sample(REPLICA_WAITING_SECONDS, load.replica_waiting_seconds)
    for stage, state in ((DECODE_STAGE, load.decode), (ANSWER_STAGE, load.answer)):
        yield Sample(ACTORS, state.num_actors, (stage,))
        yield Sample(BUSY_ACTORS, state.num_busy, (stage,))
        yield Sample(QUEUED_BLOCKS, state.num_queued, (stage,))
    yield Sample(OPEN_REQUESTS, counters.num_requests - counters.num_done)


def clip_seconds(clips: pa.Table) -> Iterator[Sample]:
    """One observation for each histogram and clip of a table that `RunCounters.add` returned."""
    for clip in clips.select(["fetch_seconds", "decode_seconds", "model_seconds"]).to_pylist():
        if clip["decode_seconds"] is not None:
            seconds = clip["fetch_seconds"] + clip["decode_seconds"]
            yield Sample(DECODE_VIDEO_SECONDS, seconds)
        if clip["model_seconds"] is not None:
            yield Sample(ANSWER_VIDEO_SECONDS, clip["model_seconds"])

from __future__ import annotations

import re

import pyarrow as pa

from sfray.telemetry.metrics import METRICS, RUN_LABELS, clip_seconds, samples
from sfray.telemetry.run_counters import RunCounters
from sfray.telemetry.stage_load import StageLoad, StageState


def test_names_and_labels_are_what_prometheus_expects() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert re.fullmatch(r"sfray_[a-z_]+[a-z]", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert bool(metric.buckets) == (metric.kind == "histogram")
        assert list(metric.buckets) == sorted(metric.buckets)
        assert not set(metric.labels) & set(RUN_LABELS)


def test_every_counter_and_gauge_has_a_value() -> None:
    counters = RunCounters(num_requests=9, num_videos=3, num_answers=4, num_failures=2)
    counters.failures_by_code.update(["not_found", "not_found"])
    load = StageLoad(answer=StageState(num_actors=2, num_busy=1, num_queued=5))
    told = list(samples(counters, load))
    assert {s.metric for s in told} == {m for m in METRICS if m.kind != "histogram"}
    assert all(len(s.labels) == len(s.metric.labels) for s in told)
    values = {(s.metric.name, *s.labels): s.value for s in told}
    assert values["sfray_failures_total", "fetch", "not_found"] == 2
    assert values["sfray_open_requests",] == 3
    assert values["sfray_queued_blocks", "answer_prompts"] == 5


def test_a_clip_without_frames_has_no_time_in_the_model() -> None:
    clips = pa.table(
        {
            "fetch_seconds": [1.0, 2.0, None],
            "decode_seconds": [0.5, 0.25, None],
            "model_seconds": [3.0, None, None],
        }
    )
    observed = [(s.metric.name, s.value) for s in clip_seconds(clips)]
    assert observed == [
        ("sfray_decode_video_seconds", 1.5),
        ("sfray_answer_video_seconds", 3.0),
        ("sfray_decode_video_seconds", 2.25),
    ]

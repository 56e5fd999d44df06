"""What a job tells Prometheus, seen by a real one, and whether the dashboard shows it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sfray.config import parse_job_spec
from sfray.runs.run import run_job
from sfray.runs.summary import RunSummary
from sfray.telemetry.metrics import METRICS
from tests.integration.fake_stages import Script
from tests.integration.local_ray import own_ray
from tests.integration.prometheus import BINARY, Prometheus, prometheus
from tests.waiting import wait_until
from tools.make_dashboard import dashboard

pytestmark = [
    pytest.mark.own_ray,
    pytest.mark.skipif(
        BINARY is None, reason="prometheus is not installed; Debian has it as a package"
    ),
]

NUM_VIDEOS = 60


@dataclass
class Seen:
    """A finished job, and the Prometheus that watched it from `start` to `end`."""

    summary: RunSummary
    prometheus: Prometheus
    start: float
    end: float


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    folder = tmp_path_factory.mktemp("metrics")
    with own_ray(
        num_cpus=2,
        include_dashboard=True,  # it writes the service discovery file
        _system_config={"metrics_report_interval_ms": 1000},
    ) as started:
        session = Path(started.address_info["session_dir"])
        with prometheus(folder, session / "prom_metrics_service_discovery.json") as server:
            start = time.time()
            summary = run_a_job(folder)
            wait_for(server, summary)
            yield Seen(summary, server, start, time.time())


def run_a_job(folder: Path) -> RunSummary:
    rows = [
        {"video_uri": f"v{video}.mp4", "question_id": f"q{number}", "question": f"what {number}"}
        for number in range(3)
        for video in range(NUM_VIDEOS)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "manifest.parquet")
    spec = parse_job_spec(
        {
            "name": "watched",
            "manifest": {"uri": str(folder / "manifest.parquet")},
            "task": "qa",
            "model": {"id": "demo"},
            "output": {"uri": str(folder / "out")},
        }
    )
    script = Script(folder=folder, missing=("v3.mp4",), seconds=0.3)
    return run_job(spec, stages=script.stages())


def wait_for(server: Prometheus, summary: RunSummary) -> None:
    """Until the last counts have been scraped."""

    def all_are_seen() -> bool:
        found = server.query("sum(ray_sfray_answers_total)")
        return bool(found) and float(found[0]["value"][1]) >= summary.num_answers

    wait_until(all_are_seen, "all answers in prometheus")


def value(seen: Seen, expression: str) -> float:
    (series,) = seen.prometheus.query(f"sum({expression})")
    return float(series["value"][1])


def test_counters_agree_with_the_summary(seen: Seen) -> None:
    summary = seen.summary
    assert summary.num_answers == 3 * (NUM_VIDEOS - 1)
    of_the_run = f'{{job_name="watched",run_id="{summary.run_id}"}}'
    expected = {
        "sfray_requests_total": 3 * NUM_VIDEOS,
        "sfray_answers_total": summary.num_answers,
        "sfray_videos_total": NUM_VIDEOS,
        "sfray_generated_tokens_total": summary.num_generated_tokens,
        "sfray_visual_tokens_total": summary.num_visual_tokens,
        "sfray_reused_visual_tokens_total": 2 * summary.num_visual_tokens,
        "sfray_fetched_bytes_total": summary.bytes_fetched,
    }
    assert {name: value(seen, f"ray_{name}{of_the_run}") for name in expected} == expected
    assert value(seen, 'ray_sfray_failures_total{stage="fetch",code="not_found"}') == 3
    decoded = NUM_VIDEOS - 1
    assert value(seen, "ray_sfray_decode_seconds_total") == pytest.approx(decoded * 0.3 * 3 / 4)
    assert value(seen, "ray_sfray_answer_video_seconds_count") == decoded


def test_gauges_end_at_nothing(seen: Seen) -> None:
    for name in ("actors", "busy_actors", "queued_blocks", "open_requests"):
        assert value(seen, f"ray_sfray_{name}") == 0


def test_replicas_were_seen_waiting(seen: Seen) -> None:
    """Two workers of 0.3 s a video starve a replica that answers 16 videos at once."""
    waited = value(seen, "ray_sfray_replica_waiting_seconds_total")
    assert 0 < waited < value(seen, "ray_sfray_replica_seconds_total")


def test_every_metric_is_exported_as_what_it_is(seen: Seen) -> None:
    for metric in METRICS:
        name = metric.exported_name + ("_bucket" if metric.kind == "histogram" else "")
        series = seen.prometheus.query_range(name, seen.start, seen.end)
        assert series, f"{name} is not there"
        assert {"job_name", "run_id", *metric.labels} <= series[0]["metric"].keys()


def test_no_line_of_the_dashboard_is_empty_after_a_job(seen: Seen) -> None:
    expressions = [t["expr"] for panel in dashboard()["panels"] for t in panel["targets"]]
    assert len(expressions) > 15
    for expression in expressions:
        asked = (
            expression.replace("$__rate_interval", "10s")
            .replace("$job_name", "watched")
            .replace("$run_id", ".*")
        )
        assert "$" not in asked
        series = seen.prometheus.query_range(asked, seen.start, seen.end)
        numbers = [float(number) for line in series for _, number in line["values"]]
        assert any(math.isfinite(number) for number in numbers), f"{asked} shows nothing"

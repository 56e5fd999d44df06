from __future__ import annotations

import re
from typing import Any

import pytest

from sfray.telemetry.bottleneck import bottleneck
from sfray.telemetry.run_counters import RunCounters
from sfray.telemetry.stage_load import StageLoad
from tests.unit.telemetry.simulated_run import simulate


def words(keyframe_seeking: bool = False, **run: Any) -> str | None:
    done = simulate(**run)
    return bottleneck(done.counters, done.load, keyframe_seeking=keyframe_seeking)


STARVED = {"workers": 6, "decode_seconds": 5.8, "replicas": 2, "model_seconds": 0.58}


def test_starved_replicas_are_told_how_many_workers_would_feed_them() -> None:
    # 2 replicas take a video every 0.29 s, 6 workers give one every 0.97 s: 70 % of the time
    # is waiting, and 2 * 5.8 / 0.58 = 20 workers would be enough.
    said = words(**STARVED, num_videos=600)
    assert said is not None
    match = re.fullmatch(
        r"model replicas waited (\d+)% of the time for decoded videos: add (\d+) decode workers, "
        r"or use keyframe seeking",
        said,
    )
    assert match, said
    assert 66 <= int(match[1]) <= 72
    assert 12 <= int(match[2]) <= 15


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("workers", "decode_seconds"), [(1, 1.0), (3, 2.0), (8, 6.0)])
def test_who_follows_the_advice_has_no_stall_left(
    workers: int, decode_seconds: float, seed: int
) -> None:
    run = {"decode_seconds": decode_seconds, "replicas": 1, "model_seconds": 0.3, "seed": seed}
    said = words(workers=workers, num_videos=400, **run)
    assert said is not None
    more = int(re.search(r"add (\d+) decode worker", said)[1])  # type: ignore[index]
    before = simulate(workers=workers, num_videos=400, **run).load
    after = simulate(workers=workers + more, num_videos=1500, **run).load
    assert before.stall_share is not None and before.stall_share > 0.3
    assert after.stall_share is not None and after.stall_share < 0.12


def test_what_is_done_already_is_not_advised() -> None:
    assert "keyframe" not in (words(**STARVED, num_videos=600, keyframe_seeking=True) or "keyframe")


def test_workers_that_mostly_fetch_are_told_so() -> None:
    said = words(**STARVED, num_videos=600, fetch_share=0.8)
    assert said is not None
    assert said.endswith("or bring the videos nearer: fetching is 80% of the workers' time")


def test_idle_workers_are_told_how_many_are_enough_and_what_would_use_them() -> None:
    # 1 replica takes a video every 1.5 s, 6 workers could give one every 0.2 s: 0.8 of a worker
    # would do, and 7.5 replicas would use them all.
    said = words(workers=6, decode_seconds=1.2, replicas=1, model_seconds=1.5, num_videos=200)
    assert said is not None
    assert said.startswith("model replicas were busy")
    match = re.search(r"add (\d+) model replicas to use all .*; (\d+) decode worker", said)
    assert match, said
    assert (int(match[1]), int(match[2])) == (6, 1)


def test_balanced_stages_are_told_so() -> None:
    said = words(workers=4, decode_seconds=2.0, replicas=1, model_seconds=0.55, num_videos=500)
    assert said is not None
    assert said.endswith("the stages are balanced, and more speed takes more of both")


@pytest.mark.parametrize("num_videos", [1, 5, 20])
@pytest.mark.parametrize("seconds", [0.1, 1.0, 5.0])
def test_a_tiny_run_is_told_nothing(num_videos: int, seconds: float) -> None:
    run = {"workers": 2, "decode_seconds": seconds, "replicas": 1, "model_seconds": seconds / 4}
    assert words(num_videos=num_videos, **run) is None


def test_a_run_without_a_look_at_its_stages_is_told_nothing() -> None:
    counters = RunCounters(num_requests=1, num_videos=1)
    assert bottleneck(counters, StageLoad(), keyframe_seeking=False) is None


def test_idle_stages_that_wait_for_something_else_are_told_nothing() -> None:
    """Half of the workers do nothing although there is work: no advice on either would help."""
    done = simulate(**STARVED, num_videos=600)
    done.load.worker_busy_seconds /= 2
    assert bottleneck(done.counters, done.load, keyframe_seeking=False) is None

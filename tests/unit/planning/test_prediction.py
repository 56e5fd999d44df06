from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfray.planning.prediction import (
    Capacity,
    ClipTimes,
    Measured,
    Prediction,
    predict,
    shares_of_time,
)
from tests.unit.telemetry.simulated_run import simulate


def clip(number: int, decode: float = 2.0, replica: float = 1.0, fetch: float = 0.0) -> ClipTimes:
    return ClipTimes(
        video_id=f"v{number}",
        fetch_seconds=fetch,
        decode_seconds=decode,
        replica_seconds=replica,
    )


def measured(clips: list[ClipTimes], replica_cores: int = 0) -> Measured:
    return Measured(
        clips=tuple(clips), replica_cores=replica_cores, startup_seconds=10.0, failures_by_code={}
    )


def gpus(num_workers: int, num_replicas: int, num_gpus: int | None = None) -> Capacity:
    return Capacity(
        num_cpus=64,
        num_gpus=num_gpus or num_replicas,
        num_workers=num_workers,
        num_replicas=num_replicas,
    )


def alike(number: int = 5) -> list[ClipTimes]:
    return [clip(n) for n in range(number)]


def test_the_slower_stage_decides() -> None:
    starved = predict(measured(alike()), 1000, gpus(num_workers=4, num_replicas=8))
    assert starved.seconds.middle == pytest.approx(10 + 1000 * 2 / 4)
    assert starved.workers_to_feed == pytest.approx(16)
    fed = predict(measured(alike()), 1000, gpus(num_workers=32, num_replicas=8))
    assert fed.seconds.middle == pytest.approx(10 + 1000 / 8)


def test_replicas_that_share_a_gpu_count_as_one() -> None:
    shared = predict(measured(alike()), 1000, gpus(32, num_replicas=4, num_gpus=2))
    assert shared.seconds.middle == pytest.approx(10 + 1000 / 2)


def test_without_a_gpu_both_stages_share_the_cores() -> None:
    """2 s of a core to decode and 1 s of 2 cores to answer are 4 core-seconds a clip."""
    on = Capacity(num_cpus=8, num_gpus=0, num_workers=7, num_replicas=1)
    seconds = predict(measured(alike(), replica_cores=2), 1000, on).seconds
    assert seconds.middle == pytest.approx(10 + 1000 * 4 / 8)


def test_waiting_for_the_network_takes_workers_but_no_cores() -> None:
    clips = [clip(n, decode=0.1, replica=0.1, fetch=8.0) for n in range(5)]
    on = Capacity(num_cpus=8, num_gpus=0, num_workers=4, num_replicas=1)
    seconds = predict(measured(clips, replica_cores=2), 1000, on).seconds
    assert seconds.middle == pytest.approx(10 + 1000 * 8.1 / 4)


def test_clips_that_are_alike_leave_no_doubt_and_others_do() -> None:
    same = predict(measured(alike(20)), 1000, gpus(4, 8)).seconds
    assert same.low == pytest.approx(same.high) == pytest.approx(same.middle)
    other = [clip(n, decode=0.5 if n % 2 else 3.5) for n in range(20)]
    unsure = predict(measured(other), 1000, gpus(4, 8)).seconds
    assert unsure.low < 0.85 * unsure.middle and unsure.high > 1.15 * unsure.middle


def test_what_is_held_is_paid() -> None:
    done = predict(measured(alike()), 7200, gpus(num_workers=16, num_replicas=2))
    hours = (10 + 7200 / 2) / 3600
    assert done.gpu_hours.middle == pytest.approx(2 * hours)
    assert done.cost(cpu_hour=0.05, gpu_hour=2.0).middle == pytest.approx(hours * (64 * 0.05 + 4))


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(
    ("workers", "decode", "replicas", "model"),
    [(4, 3.0, 1, 0.25), (8, 1.0, 2, 1.2), (2, 1.0, 1, 0.5)],
)
def test_a_sample_of_20_predicts_a_simulated_run_within_a_quarter(
    workers: int, decode: float, replicas: int, model: float, seed: int
) -> None:
    rng = random.Random(seed)
    sample = [
        clip(
            n, decode=decode * rng.uniform(2 / 3, 4 / 3), replica=model * rng.uniform(2 / 3, 4 / 3)
        )
        for n in range(20)
    ]
    predicted: Prediction = predict(measured(sample), 500, gpus(workers, replicas))
    took = simulate(
        workers=workers,
        decode_seconds=decode,
        replicas=replicas,
        model_seconds=model,
        num_videos=500,
        loading_seconds=10.0,
        seed=seed,
    ).seconds
    assert abs(predicted.seconds.middle - took) < 0.25 * took
    assert 0.9 * predicted.seconds.low < took < 1.1 * predicted.seconds.high


def test_clips_in_one_replica_at_once_share_its_time() -> None:
    assert shares_of_time([(0.0, 4.0), (1.0, 3.0)]) == [3.0, 1.0]
    assert shares_of_time([(0.0, 1.0), (5.0, 7.0)]) == [1.0, 2.0]
    assert shares_of_time([(2.0, 2.0), (0.0, 4.0)]) == [0.0, 4.0]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=12))
def test_shares_add_up_to_the_time_in_which_there_was_work(drawn: list[tuple[int, int]]) -> None:
    spans = [(float(start), float(start + length)) for start, length in drawn]
    seconds = {s for start, length in drawn for s in range(start, start + length)}
    assert sum(shares_of_time(spans)) == pytest.approx(len(seconds))

"""A run of both stages on a simulated clock, from stage times that are known."""

from __future__ import annotations

import random
from dataclasses import dataclass

from sfray.telemetry.run_counters import RunCounters
from sfray.telemetry.stage_load import StageLoad, StageState

_STEP = 0.05
# As many decoded videos wait for the model at most: then decode workers wait in turn.
_ROOM = 16


@dataclass
class SimulatedRun:
    """What a run counted, and how long it took in simulated seconds."""

    counters: RunCounters
    load: StageLoad
    seconds: float


def simulate(
    *,
    workers: int,
    decode_seconds: float,
    replicas: int,
    model_seconds: float,
    num_videos: int,
    loading_seconds: float = 20.0,
    fetch_share: float = 0.0,
    seed: int = 0,
) -> SimulatedRun:
    """Runs `num_videos` through and returns what a run would have counted.

    Every video takes its stage's seconds, more or less by up to a third. Replicas are up after
    `loading_seconds`.
    """
    rng = random.Random(seed)
    counters = RunCounters(num_requests=num_videos, num_videos=num_videos)
    load = StageLoad()
    decoding: list[tuple[float, float]] = []  # when it ends, how long it takes
    answering: list[float] = []
    left, queued, now = num_videos, 0, 0.0
    while counters.num_videos_done < num_videos:
        up = replicas if now >= loading_seconds else 0
        for ends, seconds in [video for video in decoding if video[0] <= now]:
            if queued >= _ROOM:
                break  # a worker keeps what nobody takes
            decoding.remove((ends, seconds))
            queued += 1
            counters.fetch_seconds += seconds * fetch_share
            counters.decode_seconds += seconds * (1 - fetch_share)
        counters.num_videos_done += sum(ends <= now for ends in answering)
        answering = [ends for ends in answering if ends > now]
        while left and len(decoding) < workers:
            seconds = decode_seconds * rng.uniform(2 / 3, 4 / 3)
            decoding.append((now + seconds, seconds))
            left -= 1
        while queued and len(answering) < up:
            answering.append(now + model_seconds * rng.uniform(2 / 3, 4 / 3))
            queued -= 1
        load.observe(
            StageState(workers, len(decoding), left), StageState(up, len(answering), queued), now
        )
        now += _STEP
    return SimulatedRun(counters, load, now)

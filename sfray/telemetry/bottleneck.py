"""The bottleneck of a run in words, and how many actors would balance the stages."""

from __future__ import annotations

import math

from sfray.telemetry.run_counters import RunCounters
from sfray.telemetry.stage_load import StageLoad

# With less than this nothing is said: the first videos fill the stages, the last ones drain.
_MIN_STEADY_SECONDS = 10.0
_MIN_VIDEOS_PER_ACTOR = 10
# A stage is the bottleneck if it was busy for so much of the time while the other waited.
_BUSY_SHARE = 0.8
# Actors that wait for less than this are well used.
_SMALL_STALL = 0.15
_MOSTLY_FETCHING = 0.5


def bottleneck(counters: RunCounters, load: StageLoad, *, keyframe_seeking: bool) -> str | None:
    """A sentence with advice, or None where too little was measured to say something true.

    The arithmetic: videos are decoded at W / d a second and answered at R / m, where W workers
    take d seconds a video and R replicas m, both as measured. So R * d / m workers feed all
    replicas, and W * m / d replicas use all workers.

    Args:
        keyframe_seeking: whether the job seeks by keyframes already.
    """
    if load.steady_seconds < _MIN_STEADY_SECONDS or not load.replica_seconds:
        return None
    num_workers = load.worker_seconds / load.steady_seconds
    num_replicas = load.replica_seconds / load.steady_seconds
    if counters.num_videos_done < _MIN_VIDEOS_PER_ACTOR * (num_workers + num_replicas):
        return None
    worker_seconds = counters.fetch_seconds + counters.decode_seconds
    if not worker_seconds or not load.model_busy_seconds:
        return None
    workers_to_feed = num_replicas * worker_seconds / load.model_busy_seconds
    stall = load.stall_share or 0.0
    if stall >= _SMALL_STALL:
        more = math.ceil(workers_to_feed - num_workers)
        if more < 1 or (load.worker_busy_share or 0.0) < _BUSY_SHARE:
            return None  # something else held both back, such as the driver or the object store
        waited = f"model replicas waited {stall:.0%} of the time for decoded videos"
        return (
            f"{waited}: add {_several(more, 'decode worker')}{_or_else(counters, keyframe_seeking)}"
        )
    use = workers_to_feed / num_workers
    if use > _BUSY_SHARE:
        return (
            f"decode workers and model replicas were busy {min(use, 1):.0%} and {1 - stall:.0%} of "
            "the time: the stages are balanced, and more speed takes more of both"
        )
    replicas = math.floor(num_replicas / use) - math.ceil(num_replicas)
    enough = math.ceil(workers_to_feed)
    advice = f"{_several(enough, 'decode worker')} would feed them"
    if replicas >= 1:
        advice = (
            f"add {_several(replicas, 'model replica')} to use all decode workers; {advice} now"
        )
    return (
        f"model replicas were busy {1 - stall:.0%} of the time, decode workers are needed for "
        f"{use:.0%} of theirs: {advice}"
    )


def _or_else(counters: RunCounters, keyframe_seeking: bool) -> str:
    """What else would help than more decode workers."""
    fetching = counters.fetch_seconds / (counters.fetch_seconds + counters.decode_seconds)
    if fetching >= _MOSTLY_FETCHING:
        return f", or bring the videos nearer: fetching is {fetching:.0%} of the workers' time"
    return "" if keyframe_seeking else ", or use keyframe seeking"


def _several(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"

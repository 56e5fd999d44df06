"""How long a job will take and what it will cost, from the measured times of some of its clips.

Pure arithmetic. With GPUs the stages run side by side and the slower one decides: N clips take
N * max(d / W, m / R) seconds, where W workers fetch and decode a clip in d and R replicas answer it
in m. Without GPUs both stages share the cores, so their core-seconds add up. Time on the CPU is
taken to fall in proportion to the cores. Replicas that share a GPU count as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from sfray.scoring.bootstrap import VideoBootstrap, interval


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipTimes:
    """What one clip took, alone with its stage: worker-seconds, and replica-seconds.

    Replica-seconds are the clip's share of the time in which the replica worked on it and others.
    """

    video_id: str
    fetch_seconds: float
    decode_seconds: float
    replica_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A sample of a job's clips, and where they were measured.

    Attributes:
        replica_cores: cores that the replica computed on; 0 where it had a GPU.
        startup_seconds: until workers and replicas were ready.
        failures_by_code: clips that failed; they have times too.
    """

    clips: tuple[ClipTimes, ...]
    replica_cores: int
    startup_seconds: float
    failures_by_code: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """What a job would run on."""

    num_cpus: int
    num_gpus: int
    num_workers: int
    num_replicas: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """An estimate with its 95 % interval."""

    middle: float
    low: float
    high: float

    def times(self, factor: float) -> Range:
        return Range(middle=self.middle * factor, low=self.low * factor, high=self.high * factor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What a whole job would take.

    Attributes:
        workers_to_feed: how many decode workers would keep all replicas busy.
    """

    capacity: Capacity
    num_clips: int
    seconds: Range
    workers_to_feed: float

    @property
    def gpu_hours(self) -> Range:
        return self.seconds.times(self.capacity.num_gpus / 3600)

    def cost(self, cpu_hour: float, gpu_hour: float) -> Range:
        """At the price of an hour of one CPU and of one GPU, all held for the whole run."""
        hourly = self.capacity.num_cpus * cpu_hour + self.capacity.num_gpus * gpu_hour
        return self.seconds.times(hourly / 3600)


def predict(measured: Measured, num_clips: int, capacity: Capacity) -> Prediction:
    """Predicts a run of `num_clips` clips of which `measured` is a random sample."""
    videos = [clip.video_id for clip in measured.clips]
    columns = np.array(
        [[c.fetch_seconds, c.decode_seconds, c.replica_seconds] for c in measured.clips]
    )
    resamples = VideoBootstrap(videos)
    resampled = np.stack([resamples.means(column, videos) for column in columns.T], axis=1)
    means = columns.mean(axis=0, keepdims=True)
    seconds = _run_seconds(means, measured, num_clips, capacity)
    low, high = interval(_run_seconds(resampled, measured, num_clips, capacity))
    fetch, decode, replica = means[0]
    to_feed = _effective_replicas(capacity) * (fetch + decode) / replica if replica else 0.0
    return Prediction(
        capacity=capacity,
        num_clips=num_clips,
        seconds=Range(middle=float(seconds[0]), low=low, high=high),
        workers_to_feed=float(to_feed),
    )


def _run_seconds(
    means: np.ndarray, measured: Measured, num_clips: int, capacity: Capacity
) -> np.ndarray:
    """float64 (n,) of mean fetch, decode and replica seconds a clip, float64 (n, 3)."""
    fetch, decode, replica = means.T
    a_clip = (fetch + decode) / capacity.num_workers
    if measured.replica_cores:
        core_seconds = decode + replica * measured.replica_cores
        a_clip = np.maximum(a_clip, core_seconds / capacity.num_cpus)
    else:
        a_clip = np.maximum(a_clip, replica / _effective_replicas(capacity))
    return measured.startup_seconds + num_clips * a_clip


def _effective_replicas(capacity: Capacity) -> int:
    return min(capacity.num_replicas, capacity.num_gpus) or capacity.num_replicas


def shares_of_time(spans: Sequence[tuple[float, float]]) -> list[float]:
    """What each of overlapping spans took of the time: of k at once, each takes a k-th.

    Args:
        spans: start and end in seconds.

    Returns:
        seconds for each span; together, the time in which there was at least one.
    """
    edges = sorted({edge for span in spans for edge in span})
    shares = [0.0] * len(spans)
    for low, high in pairwise(edges):
        inside = [i for i, (start, end) in enumerate(spans) if start <= low and high <= end]
        for i in inside:
            shares[i] += (high - low) / len(inside)
    return shares

"""What a run has done so far."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc


@dataclass(slots=True, kw_only=True)
class RunCounters:
    """Counts of one run; `num_requests` and `num_videos` are what it set out to do.

    A video counts once per clip. Outcomes are counted as they arrive; a clip that a retried
    task delivers twice is counted twice in `num_videos_done`, which is for display only.
    """

    num_requests: int
    num_videos: int
    num_answers: int = 0
    num_failures: int = 0
    num_videos_done: int = 0
    num_generated_tokens: int = 0
    num_visual_tokens: int = 0
    bytes_fetched: int = 0
    failures_by_code: Counter[str] = field(default_factory=Counter)
    started: float = field(default_factory=time.monotonic)

    def add(self, outcomes: pa.Table) -> None:
        """Counts a table of `outcomes_schema`, the outcomes of whole clips."""
        failed = outcomes.filter(pc.is_valid(outcomes["code"]))
        self.num_failures += failed.num_rows
        self.num_answers += outcomes.num_rows - failed.num_rows
        self.failures_by_code.update(failed["code"].to_pylist())
        self.num_generated_tokens += pc.sum(outcomes["num_generated_tokens"]).as_py() or 0
        clips = outcomes.group_by(["video_id", "start_seconds", "end_seconds"]).aggregate(
            [("num_visual_tokens", "max"), ("bytes_fetched", "max")]
        )
        self.num_videos_done += clips.num_rows
        self.num_visual_tokens += pc.sum(clips["num_visual_tokens_max"]).as_py() or 0
        self.bytes_fetched += pc.sum(clips["bytes_fetched_max"]).as_py() or 0

    @property
    def num_done(self) -> int:
        return self.num_answers + self.num_failures

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    @property
    def requests_per_second(self) -> float:
        return self.num_done / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """An estimate from the rate so far; None before the first outcome."""
        rate = self.requests_per_second
        return (self.num_requests - self.num_done) / rate if rate > 0 else None

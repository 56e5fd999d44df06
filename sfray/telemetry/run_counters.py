"""Counters of a run."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

# What the outcomes of a clip have in common, in each of their rows.
_OF_CLIPS = ("num_visual_tokens", "bytes_fetched", "fetch_seconds", "decode_seconds")
# The rate of now is that of so many seconds, or of so many arrivals where these took longer.
_RATE_SECONDS = 60.0
_RATE_ARRIVALS = 8


@dataclass(slots=True, kw_only=True)
class RunCounters:
    """Counts of one run; `num_requests` and `num_videos` are what it set out to do.

    A video counts once per clip. Outcomes are counted as they arrive; a clip that a retried
    task delivers twice is counted twice in `num_videos_done`, which is for display only.

    Attributes:
        num_visual_tokens: computed once for each clip.
        num_reused_visual_tokens: what the further questions of a clip would have cost again.
        fetch_seconds, decode_seconds: of decode workers, failed videos included.
        seconds_to_first: until the first outcome; None before it.
    """

    num_requests: int
    num_videos: int
    num_answers: int = 0
    num_failures: int = 0
    num_videos_done: int = 0
    num_generated_tokens: int = 0
    num_visual_tokens: int = 0
    num_reused_visual_tokens: int = 0
    bytes_fetched: int = 0
    fetch_seconds: float = 0.0
    decode_seconds: float = 0.0
    seconds_to_first: float | None = None
    failures_by_code: Counter[str] = field(default_factory=Counter)
    clock: Callable[[], float] = time.monotonic
    started: float = field(init=False)
    # When outcomes came lately, and how many there were by then.
    _arrivals: deque[tuple[float, int]] = field(default_factory=deque, init=False)

    def __post_init__(self) -> None:
        self.started = self.clock()

    def add(self, outcomes: pa.Table) -> pa.Table:
        """Counts a table of `outcomes_schema`, the outcomes of whole clips.

        Returns:
            a row for each clip: the columns of `_OF_CLIPS`, `model_seconds` and `num_answers`.
        """
        if self.seconds_to_first is None:
            self.seconds_to_first = self.seconds
        failed = outcomes.filter(pc.is_valid(outcomes["code"]))
        self.num_failures += failed.num_rows
        self.num_answers += outcomes.num_rows - failed.num_rows
        self.failures_by_code.update(failed["code"].to_pylist())
        self.num_generated_tokens += _sum(outcomes["num_generated_tokens"])
        self._note_arrival()
        clips = _clips(outcomes)
        computed = _sum(clips["num_visual_tokens"])
        asked = _sum(pc.multiply(clips["num_visual_tokens"], clips["num_answers"]))
        self.num_videos_done += clips.num_rows
        self.num_visual_tokens += computed
        self.num_reused_visual_tokens += asked - computed
        self.bytes_fetched += _sum(clips["bytes_fetched"])
        self.fetch_seconds += _sum(clips["fetch_seconds"])
        self.decode_seconds += _sum(clips["decode_seconds"])
        return clips

    @property
    def num_done(self) -> int:
        return self.num_answers + self.num_failures

    @property
    def seconds(self) -> float:
        return self.clock() - self.started

    @property
    def requests_per_second(self) -> float:
        """Of the whole run, its start included."""
        return self.num_done / self.seconds if self.seconds > 0 else 0.0

    @property
    def recent_rate(self) -> float | None:
        """Requests a second of late, from the first outcome on; None until there are others.

        Start-up doesn't count, and where nothing comes any more it falls.
        """
        if not self._arrivals:
            return None
        since, num_before = self._arrivals[0]
        seconds, num_done = self.clock() - since, self.num_done - num_before
        return num_done / seconds if num_done and seconds > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """An estimate from the rate of late; None where there is none."""
        rate = self.recent_rate
        return (self.num_requests - self.num_done) / rate if rate else None

    def _note_arrival(self) -> None:
        now = self.clock()
        self._arrivals.append((now, self.num_done))
        while len(self._arrivals) > _RATE_ARRIVALS and self._arrivals[1][0] < now - _RATE_SECONDS:
            self._arrivals.popleft()


def _clips(outcomes: pa.Table) -> pa.Table:
    aggregations = [(name, "max") for name in _OF_CLIPS]
    clips = outcomes.group_by(["video_id", "start_seconds", "end_seconds"]).aggregate(
        [*aggregations, ("model_seconds", "sum"), ("num_visual_tokens", "count")]
    )
    renamed = {f"{name}_max": name for name in _OF_CLIPS}
    renamed |= {"model_seconds_sum": "model_seconds", "num_visual_tokens_count": "num_answers"}
    return clips.rename_columns(renamed)


def _sum(column: pa.ChunkedArray) -> Any:
    return pc.sum(column).as_py() or 0

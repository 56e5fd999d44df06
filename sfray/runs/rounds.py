"""Retries of what is lost with a worker: all requests in bulk twice, then video by video."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Protocol, TypeAlias

import pyarrow as pa

from sfray.errors import TooManyErrorsError
from sfray.pipeline.cluster import ClusterShare
from sfray.pipeline.ray_data import EndOfStream, StageStream
from sfray.planning.work_items import clip_starts, request_ids, semi_join, work_item_blocks
from sfray.results.log import CALL_SECONDS, ResultsLog
from sfray.runs.stop_signal import StopSignal

_MAX_ITEMS_PER_BLOCK = 32
# A run stops when so many requests are lost twice: then the job is broken, and going on would
# write failures only.
_MAX_ALONE_SHARE = 0.2
_MIN_ALONE = 16
# A video that was alone so often when the driver was lost is not tried again.
_LONE_ATTEMPTS = 2


# The stream of some blocks of work, on a share of the cluster.
MakeStream: TypeAlias = Callable[[Iterable[pa.Table], ClusterShare], StageStream]


class Sink(Protocol):
    """What is done with what comes out."""

    def take(self, outcomes: pa.Table) -> None:
        """Takes rows with a `request_id` that no row had before."""

    def tick(self) -> None:
        """Is called every second or more often."""

    def round_ended(self) -> None:
        """Is called when a round has ended or is given up."""

    def lost(self, requests: pa.Table) -> pa.Table:
        """The outcomes of requests whose worker was lost each time."""


class Rounds:
    """Sends requests round until each has an outcome.

    Args:
        requests: sorted so that the requests of one clip are adjacent.
        lone_attempts: `request_id, attempts` of those that were tried alone before, without an
            outcome: the driver was lost with them.
        stop: ends the rounds when it is set.

    Attributes:
        open_ids: the requests that have no outcome yet.
        num_recomputed: outcomes that came again.
    """

    def __init__(
        self,
        requests: pa.Table,
        passthrough: pa.Schema,
        lone_attempts: pa.Table,
        log: ResultsLog,
        sink: Sink,
        stop: StopSignal,
    ) -> None:
        self._requests = requests
        self._passthrough = passthrough
        self._log = log
        self._sink = sink
        self._stop = stop
        self.open_ids = request_ids(requests)
        self.num_recomputed = 0
        lone = semi_join(lone_attempts, self.open_ids)
        self._lone_attempts: dict[str, int] = dict(
            zip(lone["request_id"].to_pylist(), lone["attempts"].to_pylist(), strict=True)
        )

    def run(self, stream: MakeStream, find_share: Callable[[], ClusterShare]) -> None:
        """Two rounds in bulk, then what was lost twice one video at a time.

        What was lost alone in a run before stays out of the bulk.

        Args:
            find_share: what of the cluster the next round takes.

        Raises:
            TooManyErrorsError: so much is lost that no single video is to blame.
        """
        for attempt in (1, 2):
            bulk = semi_join(self._requests, self.open_ids - self._lone_attempts.keys())
            if bulk.num_rows:
                self._round(bulk, attempt, stream, find_share)
            if not self.open_ids or self._stop.number is not None:
                return
        self._lost_alone(stream, find_share)

    def take(self, outcomes: pa.Table) -> None:
        """Passes on what is new; a retried task may deliver a row twice."""
        ids = outcomes["request_id"].to_pylist()
        first = {request_id: row for row, request_id in reversed(list(enumerate(ids)))}
        rows = sorted(row for request_id, row in first.items() if request_id in self.open_ids)
        fresh = outcomes.take(pa.array(rows, pa.int64()))
        self.num_recomputed += outcomes.num_rows - fresh.num_rows
        self._sink.take(fresh)
        self.open_ids.difference_update(ids)

    def _round(
        self,
        requests: pa.Table,
        attempt: int,
        stream: MakeStream,
        find_share: Callable[[], ClusterShare],
    ) -> None:
        share = find_share()
        blocks = work_item_blocks(
            requests,
            self._passthrough,
            _MAX_ITEMS_PER_BLOCK,
            attempt,
            num_workers=share.decode_actors[1],
        )
        running = stream(blocks, share)
        try:
            while self._stop.number is None:
                try:
                    outcomes = running.poll(timeout_seconds=CALL_SECONDS)
                except EndOfStream:
                    break
                if outcomes is not None and outcomes.num_rows:
                    self.take(outcomes)
                self._log.maybe_flush()
                self._sink.tick()
            # First of all: actors may take long to end, and whoever asked to stop may not wait.
            self._log.flush()
        finally:
            running.close()
            self._sink.round_ended()

    def _lost_alone(self, stream: MakeStream, find_share: Callable[[], ClusterShare]) -> None:
        """Each video that was lost twice runs alone, its attempt logged before."""
        lost = semi_join(self._requests, self.open_ids)
        if lost.num_rows > max(_MIN_ALONE, _MAX_ALONE_SHARE * self._requests.num_rows):
            raise TooManyErrorsError(
                f"{lost.num_rows} of {self._requests.num_rows} requests were lost twice with their "
                "workers: the cluster or the model is at fault, not the videos"
            )
        for low, high in pairwise([*clip_starts(lost).tolist(), lost.num_rows]):
            requests = lost.slice(low, high - low)
            ids = requests["request_id"].to_pylist()
            if max(self._lone_attempts.get(request_id, 0) for request_id in ids) < _LONE_ATTEMPTS:
                self._log.log_attempt(requests["request_id"])
                self._round(requests, 3, stream, find_share)
                if self._stop.number is not None:
                    return
            if (still := semi_join(requests, self.open_ids)).num_rows:
                self.take(self._sink.lost(still))

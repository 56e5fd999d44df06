"""How an output's requests stand, counted as `plan`, a run's summary and `verify` count them."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from sfray.config import StorageSpec
from sfray.results.partitioning import log_uris
from sfray.results.read import progress_of
from sfray.results.run_files import run_requests
from sfray.storage.folders import open_folder


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestCounts:
    """Requests by how they stand; a row of the manifest that can't be asked is a failed one.

    Attributes:
        num_answered: those with an answer.
        num_failed: those without one whose last attempt failed.
        num_open: those that were asked and have neither.
    """

    num_answered: int
    num_failed: int
    num_open: int

    @property
    def num_requests(self) -> int:
        """Each is one of the three."""
        return self.num_answered + self.num_failed + self.num_open

    def __str__(self) -> str:
        return (
            f"{self.num_requests} requests, {self.num_answered} answers, "
            f"{self.num_failed} failures, {self.num_open} to do"
        )


def count_requests(uri: str, storage: StorageSpec) -> RequestCounts:
    """Counts all that was ever asked of an output.

    Raises:
        StorageError: no run has been there, or it can't be read.
    """
    num_answered = num_failed = num_open = 0
    for log in log_uris(uri, storage):
        folder = open_folder(log, storage)
        # Asked first: what is answered meanwhile is then no longer open.
        asked = [table["request_id"] for table in run_requests(folder, ["request_id"])]
        progress = progress_of(folder)
        answered, failed = progress.answered_ids, progress.latest_failures["request_id"]
        done = pa.chunked_array([*answered.chunks, *failed.chunks], pa.string()).unique()
        everything = [done, *(c for ids in asked for c in ids.chunks)]
        num_answered += len(answered.unique())
        num_failed += len(failed)
        num_open += len(pa.chunked_array(everything, pa.string()).unique()) - len(done)
    return RequestCounts(num_answered=num_answered, num_failed=num_failed, num_open=num_open)

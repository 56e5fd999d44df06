"""How an output's requests stand, counted as `plan`, a run's summary and `verify` count them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

import pyarrow as pa
import pyarrow.compute as pc

from sfray.config import StorageSpec
from sfray.results.partitioning import log_uris
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


def requested_ids(uri: str, storage: StorageSpec) -> pa.ChunkedArray:
    """The ids of all that the runs of an output were asked.

    Raises:
        StorageError: no run has been there, or it can't be read.
    """
    logs = (open_folder(log, storage) for log in log_uris(uri, storage))
    tables = chain.from_iterable(run_requests(log, ["request_id"]) for log in logs)
    return pa.chunked_array([c for t in tables for c in t["request_id"].chunks], pa.string())


def count_requests(requested: pa.ChunkedArray, state: pa.Table) -> RequestCounts:
    """Counts all that was ever asked of an output.

    Args:
        requested: as `requested_ids`, read before the state: what is answered meanwhile is then no
            longer open.
        state: `request_id` and `code` of `current_state`.
    """
    failed = pc.is_valid(state["code"])
    answered_ids, failed_ids = (
        state["request_id"].filter(chosen).unique() for chosen in (pc.invert(failed), failed)
    )
    everything = pa.chunked_array([*state["request_id"].chunks, *requested.chunks], pa.string())
    return RequestCounts(
        num_answered=len(answered_ids),
        num_failed=len(failed_ids),
        num_open=len(everything.unique()) - len(answered_ids) - len(failed_ids),
    )

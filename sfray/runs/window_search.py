"""What comes of looking for windows: logged as it comes, failures kept for later."""

from __future__ import annotations

import logging
import time

import pyarrow as pa
import pyarrow.compute as pc

from sfray.records import FOUND_WINDOWS_SCHEMA, WINDOWS_SCHEMA, RequestFailure
from sfray.results.log import ResultsLog

logger = logging.getLogger("sfray")

# What was found is written this often, and how far the search is told.
_WRITE_SECONDS = 30.0


class WindowSearch:
    """Takes rows of `FOUND_WINDOWS_SCHEMA`, as `rounds.Taker`.

    Attributes:
        failures: by id, of clips whose windows can't be found.
    """

    def __init__(self, log: ResultsLog, num_clips: int) -> None:
        self._log = log
        self._num_clips = num_clips
        self._num_done = 0
        self._found: list[pa.Table] = []
        self._num_written = 0
        self._written_at = time.monotonic()
        self.failures: dict[str, RequestFailure] = {}

    @property
    def windows(self) -> pa.Table:
        """All that were found, of `WINDOWS_SCHEMA`."""
        return pa.concat_tables([WINDOWS_SCHEMA.empty_table(), *self._found])

    def take(self, outcomes: pa.Table) -> None:
        failed = pc.is_valid(outcomes["code"])
        for row in outcomes.filter(failed).to_pylist():
            failure = RequestFailure(code=row["code"], message=row["message"])
            self.failures[row["request_id"]] = failure
        found = outcomes.filter(pc.invert(failed)).rename_columns({"request_id": "clip_id"})
        self._found.append(found.select(WINDOWS_SCHEMA.names).cast(WINDOWS_SCHEMA))
        self._num_done += outcomes.num_rows

    def wait(self) -> None:
        if time.monotonic() - self._written_at >= _WRITE_SECONDS:
            self.pause()

    def pause(self) -> None:
        self._written_at = time.monotonic()
        if len(self._found) > self._num_written:
            self._log.write_windows(pa.concat_tables(self._found[self._num_written :]))
            self._num_written = len(self._found)
            logger.info("windows of %d of %d clips looked for", self._num_done, self._num_clips)

    def lost(self, requests: pa.Table) -> pa.Table:
        rows = [
            {
                "request_id": request_id,
                "code": "worker_lost",
                "message": "its worker was lost each time its windows were looked for",
            }
            for request_id in requests["request_id"].to_pylist()
        ]
        return pa.Table.from_pylist(rows, schema=FOUND_WINDOWS_SCHEMA)

"""Finds the windows of clips that no run has cut yet, before any is decoded for answers."""

from __future__ import annotations

import logging
import time

import pyarrow as pa
import pyarrow.compute as pc

from sfray.columns import outcomes_schema
from sfray.pipeline.placement import Placement
from sfray.pipeline.ray_data import StageStream, finding_windows
from sfray.planning.to_do import ToDo, with_found_windows
from sfray.planning.windows import clips_of
from sfray.planning.work_items import anti_join, semi_join
from sfray.records import FOUND_WINDOWS_SCHEMA, WINDOWS_SCHEMA, RequestFailure
from sfray.results.log import ResultsLog
from sfray.runs.failed_outcomes import failed_outcomes
from sfray.runs.rounds import Rounds
from sfray.runs.stop_signal import StopSignal
from sfray.telemetry.stage_load import StageLoad

logger = logging.getLogger("sfray")

# What was found is written this often, with a line in the log.
_WRITE_SECONDS = 30.0


def find_windows(
    to_do: ToDo, placed: Placement, log: ResultsLog, stop: StopSignal
) -> tuple[ToDo, pa.Table]:
    """Looks for the windows of `to_do.uncut` on decode workers.

    Returns:
        what is to do by all windows that are known now, and the outcomes of the requests on
        clips whose windows can't be found.
    """
    plan, how = to_do.plan, to_do.plan.spec.sampling.windows
    passthrough, make_stage = plan.requests.passthrough, placed.stages.make_find_windows
    if how is None or make_stage is None:
        return to_do, outcomes_schema(passthrough).empty_table()
    clips = clips_of(to_do.uncut, how)
    retried = semi_join(to_do.uncut, set() if to_do.retry is None else set(to_do.retry.to_pylist()))
    attempts = anti_join(to_do.lone_attempts, clips_of(retried, how)["request_id"])
    sink, load = WindowSink(log, clips.num_rows), StageLoad()
    Rounds(clips, passthrough, attempts, log, sink, stop).run(
        lambda blocks, share: StageStream(
            blocks, finding_windows(make_stage, share, plan.run), load
        ),
        placed.share,
    )
    failures = [sink.failures.get(clip_id) for clip_id in clips["request_id"].to_pylist()]
    failed = failed_outcomes(to_do.uncut, failures, plan.run, passthrough, attempt=1)
    return with_found_windows(to_do, sink.windows), failed


class WindowSink:
    """Takes rows of `FOUND_WINDOWS_SCHEMA`; see `rounds.Sink`. What is found is logged as it comes.

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

    def tick(self) -> None:
        if time.monotonic() - self._written_at >= _WRITE_SECONDS:
            self.round_ended()

    def round_ended(self) -> None:
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

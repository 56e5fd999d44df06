"""Compaction: an output's current state copied into few large parts, checked against its source."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from sfray.columns import TableName, outcomes_schema, table_schema
from sfray.config import StorageSpec
from sfray.errors import SchemaError, SpecError, StorageError
from sfray.records import clip_id
from sfray.results.log import ResultsLog
from sfray.results.partitioning import log_uris
from sfray.results.parts import list_parts, read_parts
from sfray.results.read import (
    ANSWERS,
    FAILURES,
    latest_rows,
    progress_of,
    read_sequence,
    widened,
)
from sfray.results.run_files import RUNS, run_requests, run_windows
from sfray.results.schema import OutputColumns, columns_of
from sfray.results.verify import VerifyReport, verify
from sfray.storage.folders import open_folder
from sfray.storage.objects import Folder

# What a part holds at most, and what of it is in memory at once.
PART_ROWS = 100_000
_PART_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactReport:
    """How many rows this call copied, and the proof of the whole copy.

    `older_than_now` is what is to be told of a copy that an older version began; else None.
    """

    num_copied: int
    proof: VerifyReport
    older_than_now: str | None


def compact(
    uri: str, to: str, storage: StorageSpec, *, part_rows: int = PART_ROWS
) -> CompactReport:
    """Copies the current state of an output to another place, where runs can go on.

    The job files of the runs go with it, so that rows can be explained and retried there.

    The partitions of an output become one log. Every part is read back and compared as it is
    written; in the end the ids of both places are compared and the copy is verified.
    Interrupted, the same call goes on where it was.

    Args:
        part_rows: what a part of the copy holds at most.

    Raises:
        SpecError: both are the same place.
        SchemaError: a later version added columns to the output, or the copy has other ones.
        OutputInUseError: a run writes to the copy.
        StorageError: the output can't be read, the copy not written, or they differ.
    """
    source, target = open_folder(uri, storage), open_folder(to, storage)
    if source.uri == target.uri:
        raise SpecError(f"{source.uri} can't be compacted into itself: name another place")
    logs = [open_folder(log, storage) for log in log_uris(uri, storage)]
    columns = columns_of(source)
    if columns.unknown:
        raise SchemaError(
            f"the output {source.uri} has columns that this version of sfray doesn't know, such as "
            f"{columns.unknown[0]!r}: copy it with the version that wrote them, or a later one"
        )
    with ResultsLog.open(
        to,
        storage,
        passthrough=columns.passthrough,
        run_id=f"compact-{uuid.uuid4().hex[:8]}",
        flush_rows=2 * part_rows,
        flush_seconds=float("inf"),
    ) as log:
        _copy_requests(logs, columns, log)
        _copy_origins(logs, target, log)
        windows = pa.concat_tables([run_windows(one) for one in logs])
        if windows.num_rows:
            log.write_windows(windows)
        copies = [_Copy(one, target, log, columns, part_rows) for one in logs]
        failed = [ids for copy in copies for ids in copy.failures().chunks]
        answered = [ids for copy in copies for ids in copy.answers().chunks]
    _compare_ids(
        source,
        target,
        pa.chunked_array(answered, pa.string()),
        pa.chunked_array(failed, pa.string()),
    )
    num_copied = sum(copy.num_copied for copy in copies)
    return CompactReport(
        num_copied=num_copied,
        proof=verify(to, storage),
        older_than_now=log.columns.older_than_now,
    )


class _Copy:
    """The rows of a source's log on their way to the log of a target."""

    def __init__(
        self,
        source: Folder,
        target: Folder,
        log: ResultsLog,
        columns: OutputColumns,
        part_rows: int,
    ) -> None:
        self._source = source
        self._target = target
        self._log = log
        self._columns = columns
        self._part_rows = part_rows
        self.num_copied = 0

    def failures(self) -> pa.ChunkedArray:
        """Copies the failures that stand; returns the ids of all in the source.

        They come before the answers: what is answered meanwhile has both, and the answer counts.
        """
        rows = read_sequence(self._source, FAILURES, self._columns.schema_of(FAILURES))
        rows = latest_rows(rows, progress_of(self._source).answered_ids)
        keys = pa.schema([("request_id", pa.string()), ("run_id", pa.string())])
        there = _joined(read_sequence(self._target, FAILURES, keys))
        fresh = rows.filter(pc.invert(pc.is_in(_joined(rows), value_set=there)))
        if fresh.num_rows:
            self._write(fresh, FAILURES)
        return rows["request_id"]

    def answers(self) -> pa.ChunkedArray:
        """Copies the answers; returns the ids of all in the source."""
        there = self._log.answered_ids()
        ids: list[pa.Array] = []
        for rows in self._large_tables():
            ids += rows["request_id"].chunks
            fresh = rows.filter(pc.invert(pc.is_in(rows["request_id"], value_set=there)))
            if fresh.num_rows:
                self._write(fresh, ANSWERS)
        return pa.chunked_array(ids, pa.string())

    def _large_tables(self) -> Iterator[pa.Table]:
        schema = self._columns.schema_of(ANSWERS)
        waiting: list[pa.Table] = []
        num_rows = num_bytes = 0
        for table in read_parts(self._source, list_parts(self._source, ANSWERS), schema.names):
            waiting.append(widened(table, schema))
            num_rows += table.num_rows
            num_bytes += table.nbytes
            if num_rows >= self._part_rows or num_bytes >= _PART_BYTES:
                yield pa.concat_tables(waiting)
                waiting, num_rows, num_bytes = [], 0, 0
        if num_rows:
            yield pa.concat_tables(waiting)

    def _write(self, stored: pa.Table, name: TableName) -> None:
        """Writes a part and reads it back."""
        schema = outcomes_schema(self._columns.passthrough)
        rows = self._columns.from_stored(stored, schema)
        if not self._columns.has("clip_id"):
            rows = _with_clip_ids(rows)
        self._log.append(rows)
        self._log.flush()
        part = list_parts(self._target, name)[-1]
        wanted = self._log.columns.to_stored(rows, name)
        (written,) = read_parts(self._target, [part], wanted.schema.names)
        if not _same(written.cast(wanted.schema), wanted):
            raise StorageError(f"{self._target.uri}/{part.info.key} is not what was written")
        self.num_copied += rows.num_rows


def _same(one: pa.Table, other: pa.Table) -> bool:
    """Whether two tables of one schema hold the same; a NaN, which Arrow finds equal to nothing, is
    that of the other."""
    return all(
        a.equals(b) or repr(a.to_pylist()) == repr(b.to_pylist())
        for a, b in zip(one.columns, other.columns, strict=True)
    )


def _with_clip_ids(rows: pa.Table) -> pa.Table:
    """The ids that an output of an older version lacks follow from what it has."""
    index = rows.schema.get_field_index("clip_id")
    keys = (rows[name].to_pylist() for name in ("video_id", "start_seconds", "end_seconds"))
    ids = [clip_id(*key) for key in zip(*keys, strict=True)]
    return rows.set_column(index, rows.schema.field(index), pa.array(ids, pa.string()))


def _copy_requests(logs: Sequence[Folder], columns: OutputColumns, log: ResultsLog) -> None:
    """What all runs were asked becomes what the copy was asked, once each."""
    stored = [table for source in logs for table in run_requests(source)]
    schema = table_schema("requests", columns.passthrough)
    tables = [columns.from_stored(table, schema) for table in stored]
    if not tables:
        return
    log.write_requests(latest_rows(pa.concat_tables(tables), pa.chunked_array([], pa.string())))


def _copy_origins(logs: Sequence[Folder], target: Folder, log: ResultsLog) -> None:
    """What the rows come from: each run's job file and versions, where the copy lacks them."""
    for source in logs:
        for run_id in source.list_folders(RUNS):
            for name in ("spec.yaml", "versions.yaml"):
                key = f"{RUNS}{run_id}/{name}"
                body = source.read(key)
                if body is not None and target.read(key) is None:
                    log.write_run_file(run_id, name, body)


def _joined(rows: pa.Table) -> pa.ChunkedArray:
    """A failure's identity: a run has at most one of a request."""
    return pc.binary_join_element_wise(rows["request_id"], rows["run_id"], " ")


def _compare_ids(
    source: Folder, target: Folder, answered: pa.ChunkedArray, failed: pa.ChunkedArray
) -> None:
    there = progress_of(target)
    failed_there = there.latest_failures["request_id"]
    known = pa.chunked_array([*there.answered_ids.chunks, *failed_there.chunks], pa.string())
    for ids, others in ((answered, there.answered_ids), (failed, known)):
        missing = ids.filter(pc.invert(pc.is_in(ids, value_set=others)))
        if len(missing):
            raise StorageError(
                f"{len(missing)} requests of {source.uri} are missing in {target.uri}, such as "
                f"{missing[0]}"
            )

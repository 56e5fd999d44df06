"""The results log, append-only: what was asked, answered and failed, by one writer at a time.

`answers/` and `failures/` are sequences of Parquet parts, whole or absent, exact at any moment.
What is in the log is done; there is no other ledger or checkpoint to resume from, and a request is
logged once however often it is delivered (deduplicated by its id). A writer that was replaced is
fenced off: its next part's number is taken. Everything else of a run is under `_sfray/`.
"""

from __future__ import annotations

import json
import os
import socket
import time
import uuid
from collections.abc import Sequence
from types import TracebackType

import pyarrow as pa
import pyarrow.compute as pc

from sfray.config import StorageSpec
from sfray.errors import OutputInUseError, StorageError
from sfray.partition import Partition
from sfray.results.partitioning import fix_log, fix_output
from sfray.results.parts import PartSequence, encode_part
from sfray.results.read import (
    ANSWERS,
    ATTEMPTS,
    ATTEMPTS_SCHEMA,
    FAILURES,
    Progress,
    progress_of,
)
from sfray.results.run_files import run_windows, windows_name
from sfray.results.schema import OutputColumns, freeze_columns
from sfray.storage.folders import open_folder
from sfray.storage.objects import Folder, KeyTakenError, Lease
from sfray.storage.s3_terms import S3Terms
from sfray.storage.uris import join

# `maybe_flush` is to be called so often.
CALL_SECONDS = 1.0


class ResultsLog:
    """The one writer of an output. Use `open`, as a context manager.

    Attributes:
        columns: those of the output.
        before: what it held when it was opened.
    """

    def __init__(
        self,
        folder: Folder,
        lease: Lease,
        columns: OutputColumns,
        *,
        run_id: str,
        flush_rows: int,
        flush_seconds: float,
    ) -> None:
        self._folder = folder
        self._lease = lease
        self.run_id = run_id
        self._flush_rows = flush_rows
        self._flush_seconds = flush_seconds
        self._writer = uuid.uuid4().hex
        self.columns = columns
        self._answers = self._sequence(ANSWERS, columns.schema_of("answers"))
        self._failures = self._sequence(FAILURES, columns.schema_of("failures"))
        self._attempts = self._sequence(ATTEMPTS, ATTEMPTS_SCHEMA)
        self._answers.fence()
        self._failures.fence()
        self._attempts.fence()
        self.before: Progress = progress_of(folder)
        self._num_rows = self.before.num_rows
        self._answered_now: list[pa.ChunkedArray] = []
        # Bytes in place of text: a third less memory for a million ids.
        before = self.before.answered_ids.to_pylist()
        self._logged = {request_id.encode() for request_id in before}
        self._waiting: list[pa.Table] = []
        self._waiting_since = 0.0
        self._num_windows_files = 0
        self._broken = False

    @classmethod
    def open(
        cls,
        uri: str,
        storage: StorageSpec,
        *,
        partition: Partition | None = None,
        passthrough: pa.Schema,
        needed: Sequence[str] = (),
        run_id: str,
        flush_rows: int,
        flush_seconds: float,
        wait_for_lease: bool = True,
        terms: S3Terms = S3Terms(),
    ) -> ResultsLog:
        """Takes an output for writing and reads what it holds.

        The lease comes first, then an empty part in each sequence: a writer of before that is
        still alive finds its number taken and ends. Only then the parts are listed.

        Args:
            uri: a local folder or `s3://bucket/prefix`; created where it doesn't exist.
            partition: of a job that is split, the part that is written; its log is below `uri`.
            passthrough: the manifest's columns in the results.
            needed: columns of the results that an output of an older version may not lack.
            flush_rows: so many rows are written as a part.
            flush_seconds: rows wait no longer than this.
            wait_for_lease: on S3, watch another run's lease for one term before giving up.
            terms: how long S3 is waited for.

        Raises:
            OutputInUseError: another run writes to it.
            SchemaError: it holds results with other columns, or of another part of a job.
            StorageError: it can't be read or written.
        """
        columns = OutputColumns.of_today(passthrough)
        if partition is not None:  # all partitions have the columns of the first
            root = open_folder(uri, storage, terms)
            fix_output(root, partition)
            columns = freeze_columns(root, columns, needed)
            uri = join(uri, partition.folder)
        folder = open_folder(uri, storage, terms)
        owner = f"run {run_id} (process {os.getpid()} on {socket.gethostname()})"
        lease = folder.take_lease(owner, wait_for_lease)
        try:
            fix_log(folder, partition)
            return cls(
                folder,
                lease,
                freeze_columns(folder, columns, needed),
                run_id=run_id,
                flush_rows=flush_rows,
                flush_seconds=flush_seconds,
            )
        except BaseException:
            lease.release()
            raise

    def __enter__(self) -> ResultsLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def answered_ids(self) -> pa.ChunkedArray:
        """The requests that have an answer, of this run and all before."""
        chunks = [c for ids in (self.before.answered_ids, *self._answered_now) for c in ids.chunks]
        return pa.chunked_array(chunks, pa.string())

    @property
    def num_lost_before(self) -> int:
        """Outcomes that the last writer had taken in, but not written when it was lost."""
        return max(0, self._lease.num_rows_before - self.before.num_rows)

    def append(self, outcomes: pa.Table) -> None:
        """Takes outcomes; they are on disk after the next flush, which may be now.

        A request that has an answer, or any outcome in this run, is dropped: tasks that are
        retried deliver rows again.

        Args:
            outcomes: rows of `outcomes_schema`.
        """
        fresh = []
        for request_id in outcomes["request_id"].to_pylist():
            known = request_id.encode() in self._logged
            fresh.append(not known)
            if not known:
                self._logged.add(request_id.encode())
        rows = outcomes.filter(pa.array(fresh, pa.bool_()))
        if not rows.num_rows:
            return
        if not self._waiting:
            self._waiting_since = time.monotonic()
        self._waiting.append(rows)
        self._num_rows += rows.num_rows
        self._lease.note(self._num_rows)
        if sum(table.num_rows for table in self._waiting) >= self._flush_rows:
            self.flush()
        else:
            self.maybe_flush()

    def maybe_flush(self) -> None:
        """Writes what would else wait longer than `flush_seconds`; to be called every second.

        Raises:
            OutputInUseError: another run has taken over, whether or not something waits: a run
                that can write nothing is not to hold its workers any longer.
        """
        self._check_lease()
        waited = time.monotonic() - self._waiting_since
        if self._waiting and waited >= self._flush_seconds - CALL_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Writes all that waits: it is durable when this returns.

        Raises:
            OutputInUseError: another run has taken over; nothing can be written any more.
            StorageError: the output can't be written.
        """
        if not self._waiting:
            return
        # True until all is written: a flush that is cut short, by a signal too, is not repeated,
        # since a part of it may be in the log.
        self._broken = True
        rows = pa.concat_tables(self._waiting)
        failed = pc.is_valid(rows["code"])
        answers, failures = rows.filter(pc.invert(failed)), rows.filter(failed)
        if answers.num_rows:
            self._append_to(self._answers, self.columns.to_stored(answers, "answers"))
            self._answered_now.append(answers["request_id"])
        if failures.num_rows:
            self._append_to(self._failures, self.columns.to_stored(failures, "failures"))
        self._waiting = []
        self._broken = False

    def log_attempt(self, request_ids: pa.ChunkedArray | pa.Array) -> None:
        """Says, before it happens, that these requests are tried alone."""
        ids = pa.chunked_array([request_ids]) if isinstance(request_ids, pa.Array) else request_ids
        run_ids = pa.repeat(self.run_id, len(ids))
        self._append_to(self._attempts, pa.table({"request_id": ids, "run_id": run_ids}))

    def write_run_file(self, run_id: str, name: str, content: bytes | pa.Table) -> None:
        """Writes `_sfray/runs/RUN/NAME`, a table as Parquet; it must not exist."""
        body = content if isinstance(content, bytes) else encode_part(content, {})
        key = f"_sfray/runs/{run_id}/{name}"
        try:
            self._folder.put_new(key, body, self._writer)
        except KeyTakenError as error:
            raise StorageError(f"{self._folder.uri}/{key} exists already") from error

    def write_requests(self, requests: pa.Table) -> None:
        """Logs what this run is asked, before its first answer: it proves completeness later.

        Args:
            requests: with the columns of requests and the passthrough columns.
        """
        rows = self.columns.to_stored(requests, "requests")
        self.write_run_file(self.run_id, "requests.parquet", rows)

    def windows(self) -> pa.Table:
        """The windows that were found of clips before, of `WINDOWS_SCHEMA`."""
        return run_windows(self._folder)

    def write_windows(self, windows: pa.Table) -> None:
        """Keeps windows that were found; of one clip they are found alike by any run."""
        self.write_run_file(self.run_id, windows_name(self._num_windows_files), windows)
        self._num_windows_files += 1

    def close(self) -> None:
        """Flushes, says where the log ends, and gives the output free."""
        try:
            if not self._broken:
                self.flush()
                self.write_run_file(self.run_id, "end.json", self._end())
        finally:
            self._lease.release()

    def _end(self) -> bytes:
        """Where this writer stopped, from which a missing end is told."""
        ends = {
            sequence.name: {"parts": sequence.next_number, "last_sha256": sequence.last_sha256}
            for sequence in (self._answers, self._failures, self._attempts)
        }
        return json.dumps(ends, indent=2).encode()

    def _append_to(self, sequence: PartSequence, rows: pa.Table) -> None:
        self._check_lease()
        sequence.append(rows)

    def _check_lease(self) -> None:
        if self._lease.lost:
            self._broken = True
            raise OutputInUseError(f"another run has taken over the output {self._folder.uri}")

    def _sequence(self, name: str, schema: pa.Schema) -> PartSequence:
        return PartSequence(self._folder, name, schema, self._writer, self.run_id)

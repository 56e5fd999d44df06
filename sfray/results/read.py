"""What an output holds, read at any moment, also while a run writes to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from sfray.columns import COLUMNS, TableName
from sfray.config import StorageSpec
from sfray.errors import StorageError
from sfray.results.partitioning import log_uris
from sfray.results.parts import list_parts, read_parts
from sfray.results.schema import columns_of
from sfray.storage.faults import storage_faults
from sfray.storage.folders import open_folder
from sfray.storage.objects import Folder
from sfray.storage.uris import join, open_filesystem

# Sequences of parts; those of answers and failures are called as their tables.
ANSWERS: TableName = "answers"
FAILURES: TableName = "failures"
ATTEMPTS = "_sfray/attempts"
ATTEMPTS_SCHEMA = pa.schema(
    [
        pa.field("request_id", pa.string(), nullable=False),
        pa.field("run_id", pa.string(), nullable=False),
    ]
)
_FAILURE_COLUMNS = pa.schema(
    [
        ("request_id", pa.string()),
        ("code", pa.string()),
        ("transient", pa.bool_()),
        ("attempts", pa.int32()),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What is done.

    Attributes:
        answered_ids: string, the requests that have an answer.
        latest_failures: `request_id, code, transient, attempts` of those that have none.
        lone_attempts: `request_id, attempts`: how often a request was tried alone, over all runs.
        num_rows: how many answers and failures were logged, over all runs.
    """

    answered_ids: pa.ChunkedArray
    latest_failures: pa.Table
    lone_attempts: pa.Table
    num_rows: int


def read_progress(uri: str, storage: StorageSpec) -> Progress:
    """What is done in an output; nothing, where no run has been.

    Raises:
        StorageError: the output can't be read.
    """
    return progress_of(open_folder(uri, storage))


def progress_of(folder: Folder) -> Progress:
    """What is done. Failures are read first: an answer that comes meanwhile wins over them."""
    failures = read_sequence(folder, FAILURES, _FAILURE_COLUMNS)
    answered = read_sequence(folder, ANSWERS, pa.schema([("request_id", pa.string())]))[
        "request_id"
    ]
    attempts = read_sequence(folder, ATTEMPTS, pa.schema([("request_id", pa.string())]))
    counts = attempts.group_by("request_id").aggregate([([], "count_all")])
    return Progress(
        answered_ids=answered,
        latest_failures=latest_rows(failures, answered),
        lone_attempts=counts.rename_columns(["request_id", "attempts"]),
        num_rows=len(answered) + failures.num_rows,
    )


def read_answers(uri: str, storage: StorageSpec) -> ds.Dataset:
    """All answers; see `Progress` for errors."""
    return _dataset(uri, storage, ANSWERS)


def read_failures(uri: str, storage: StorageSpec) -> ds.Dataset:
    """All failures ever, in the order in which they were logged."""
    return _dataset(uri, storage, FAILURES)


def current_state(uri: str, storage: StorageSpec, columns: Sequence[str] | None = None) -> pa.Table:
    """One row a request: its answer if it has one, else its latest failure (`code` is set).

    Args:
        columns: those that are wanted, of the results or passed through; None for all of the
            output. Null is what an output of an older version lacks.
    """
    logs = log_uris(uri, storage)
    there = columns_of(open_folder(uri, storage))
    fields = {f.name: f for f in there.fields}
    lacking = [n for n in columns or () if n in COLUMNS and not there.has(n)]
    wanted = [n for n in columns or fields if n not in lacking]
    needed = pa.schema([fields[name] for name in dict.fromkeys(["request_id", *wanted])])
    states = [widened(pa.table({}), needed)]
    for log in logs:
        folder = open_folder(log, storage)
        failures = read_sequence(folder, FAILURES, needed)
        answers = read_sequence(folder, ANSWERS, needed)
        states += [answers, latest_rows(failures, answers["request_id"])]
    state = pa.concat_tables(states)
    for name in lacking:
        state = state.append_column(COLUMNS[name].field, pa.nulls(len(state), COLUMNS[name].type))
    return state.select(list(columns or fields))


def latest_rows(failures: pa.Table, answered_ids: pa.ChunkedArray) -> pa.Table:
    """The last failure of each request without an answer, in the order of the log."""
    open_ones = failures.filter(pc.invert(pc.is_in(failures["request_id"], value_set=answered_ids)))
    rows = pa.array(range(open_ones.num_rows), pa.int64())
    last = (
        pa.table({"request_id": open_ones["request_id"], "row": rows})
        .group_by("request_id")
        .aggregate([("row", "max")])
    )
    return open_ones.take(last["row_max"].sort())


def read_sequence(folder: Folder, name: str, schema: pa.Schema) -> pa.Table:
    """The columns of `schema` of all parts of a sequence; those that it lacks are null."""
    parts = list_parts(folder, name)
    tables = []
    for part, table in zip(parts, read_parts(folder, parts, schema.names), strict=True):
        _check_ids(table, f"{folder.uri}/{part.info.key}")
        tables.append(widened(table, schema))
    return pa.concat_tables(tables) if tables else widened(pa.table({}), schema)


def _check_ids(part: pa.Table, name: str) -> None:
    """Refuses files that are called as parts are, but come from elsewhere."""
    ids = part["request_id"] if "request_id" in part.column_names else None
    if ids is None or ids.type != pa.string() or ids.null_count:
        raise StorageError(
            f"{name} is no part of sfray's results, having no request_id in each row: move it "
            "elsewhere, or use another output"
        )


def widened(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The columns of `schema` of a table, all nullable; those that it lacks are null."""
    columns = [
        table[f.name].cast(f.type)
        if f.name in table.column_names
        else pa.nulls(table.num_rows, f.type)
        for f in schema
    ]
    return pa.table(columns, names=schema.names)


def _dataset(uri: str, storage: StorageSpec, name: TableName) -> ds.Dataset:
    logs = log_uris(uri, storage)
    folder = open_folder(uri, storage)
    schema = columns_of(folder).schema_of(name)
    filesystem, _ = open_filesystem(uri, storage)
    paths = []
    for log in logs:
        _, root = open_filesystem(log, storage)
        parts = list_parts(open_folder(log, storage), name)
        paths += [join(root, part.info.key) for part in parts]
    with storage_faults(StorageError, f"the output {folder.uri} can't be read"):
        return ds.dataset(paths, schema=schema, format="parquet", filesystem=filesystem)

"""Integrity check: reads an output back and proves that nothing is lost, doubled or damaged."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sfray.config import StorageSpec
from sfray.errors import StorageError
from sfray.results.partitioning import log_uris, num_partitions
from sfray.results.parts import Part, list_parts, part_key
from sfray.results.read import ANSWERS, ATTEMPTS, ATTEMPTS_SCHEMA, FAILURES
from sfray.results.run_files import run_ends, run_requests
from sfray.results.schema import OutputColumns, columns_of
from sfray.storage.faults import explain
from sfray.storage.folders import open_folder
from sfray.storage.objects import Folder

# Each holds one part in memory.
_NUM_READERS = 4
_NUM_EXAMPLES = 3
_STAGES_OF_PLANNING = ("manifest", "prompt")


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """What was found, over all logs; `problems` are sentences, none if all is well.

    Attributes:
        num_requested: all that was asked, rows of the manifest that could not be asked included,
            and what the manifest asks for now; each is answered, failed or still open.
    """

    num_requested: int
    num_answered: int
    num_failed: int
    num_parts: int
    num_bytes: int
    problems: tuple[str, ...]

    @property
    def num_open(self) -> int:
        """Requests that have no outcome."""
        return self.num_requested - self.num_answered - self.num_failed

    @property
    def ok(self) -> bool:
        """Whether the output is complete and undamaged."""
        return not self.problems


@dataclass(frozen=True, slots=True)
class _CheckedPart:
    part: Part
    sha256: str
    previous_sha256: str
    keys: pa.Table | None
    problems: tuple[str, ...]


def verify(
    uri: str, storage: StorageSpec, manifest_ids: pa.ChunkedArray | pa.Array | None = None
) -> VerifyReport:
    """Reads every part and compares with what the runs were asked.

    Args:
        manifest_ids: request ids of the manifest as it is now, which must have an outcome too.

    Raises:
        StorageError: no results are there, or they can't be listed.
    """
    root = open_folder(uri, storage)
    folders = [open_folder(log, storage) for log in log_uris(uri, storage)]
    columns = columns_of(root)
    logs = [_check_log(folder, columns) for folder in folders]
    problems: list[str] = []
    if (number := num_partitions(root)) is not None:
        problems += _compare_partitions(root, folders, logs, number)
    for folder, log in zip(folders, logs, strict=True):
        where = "" if number is None else f"{folder.uri}: "
        problems += [where + problem for problem in log.problems]
    num_more = 0
    if manifest_ids is not None:
        done = pa.chunked_array([c for log in logs for c in log.done.chunks], pa.string())
        missing = _without(manifest_ids, done)
        problems.append(_listed(missing, "requests of the manifest have no outcome yet"))
        asked = pa.chunked_array([c for log in logs for c in log.requested.chunks], pa.string())
        num_more = len(_without(missing.unique(), asked))
    return VerifyReport(
        num_requested=sum(len(log.requested) for log in logs) + num_more,
        num_answered=sum(log.num_answered for log in logs),
        num_failed=sum(log.num_failed for log in logs),
        num_parts=sum(log.num_parts for log in logs),
        num_bytes=sum(log.num_bytes for log in logs),
        problems=tuple(problem for problem in problems if problem),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _CheckedLog:
    """One log; `done` are the ids of all its outcomes, `requested` these and what has none."""

    done: pa.ChunkedArray
    requested: pa.ChunkedArray
    num_answered: int
    num_failed: int
    num_parts: int
    num_bytes: int
    problems: tuple[str, ...]


def _compare_partitions(
    root: Folder, folders: Sequence[Folder], logs: Sequence[_CheckedLog], number: int
) -> Iterator[str]:
    """What is wrong between the partitions of one job."""
    if len(folders) < number:
        yield f"{number - len(folders)} of the {number} partitions of {root.uri} have not run"
    ids = pa.chunked_array([c for log in logs for c in log.done.chunks], pa.string())
    twice = _repeated(pa.table({"request_id": ids}), ["request_id"])
    yield _listed(twice, "requests are in more than one partition")


def _check_log(folder: Folder, columns: OutputColumns) -> _CheckedLog:
    """Reads one log and compares it with what its runs were asked."""
    ends = list(run_ends(folder))
    asked = [table["request_id"] for table in run_requests(folder, ["request_id"])]
    # Failures first: a request that is answered meanwhile is then found among the answers.
    checked_failures = _check_sequence(folder, FAILURES, columns.schema_of(FAILURES), ends)
    checked_answers = _check_sequence(folder, ANSWERS, columns.schema_of(ANSWERS), ends)
    checked_attempts = _check_sequence(folder, ATTEMPTS, ATTEMPTS_SCHEMA, ends)
    failures, answers = _keys(checked_failures[0]), _keys(checked_answers[0])
    problems = [*checked_answers[1], *checked_failures[1], *checked_attempts[1]]
    requested = pa.chunked_array([c for ids in asked for c in ids.chunks], pa.string()).unique()
    done = pa.chunked_array(
        [*answers["request_id"].chunks, *failures["request_id"].chunks], pa.string()
    )
    problems += _compare_ids(requested, answers, failures, done)
    failed = _without(failures["request_id"].unique(), answers["request_id"])
    parts = [*checked_answers[0], *checked_failures[0], *checked_attempts[0]]
    return _CheckedLog(
        done=pa.chunked_array([done.unique()]),
        requested=pa.chunked_array(
            [pa.chunked_array([*done.chunks, requested], pa.string()).unique()]
        ),
        num_answered=pc.count_distinct(answers["request_id"]).as_py(),
        num_failed=len(failed),
        num_parts=len(parts),
        num_bytes=sum(checked.part.info.num_bytes for checked in parts),
        problems=tuple(problems),
    )


def _check_sequence(
    folder: Folder,
    name: str,
    schema: pa.Schema,
    ends: Sequence[tuple[str, dict[str, tuple[int, str]]]],
) -> tuple[list[_CheckedPart], list[str]]:
    """Every part of a sequence, and what is wrong with them and between them."""
    parts = list_parts(folder, name)
    own = {part.info.key for part in parts}
    problems = [
        f"{info.key} is no part of the log, but readers of {name}/ take it for one"
        for info in folder.list_objects(f"{name}/")
        if info.key not in own
    ]
    with ThreadPoolExecutor(_NUM_READERS) as pool:
        checked = list(pool.map(lambda part: _check_part(folder, name, part, schema), parts))
    by_number = {part.part.number: part for part in checked}
    numbers = range(max(by_number, default=-1) + 1)
    problems += [f"{part_key(name, n)} is missing" for n in numbers if n not in by_number]
    for part in checked:
        problems += part.problems
        before = by_number.get(part.part.number - 1)
        if before and part.keys is not None and part.previous_sha256 != before.sha256:
            problems.append(f"{before.part.info.key} was changed after it was written")
    for run_id, end in ends:
        num_parts, sha256 = end[name]
        last = by_number.get(num_parts - 1)
        if last is None:
            problems.append(
                f"{part_key(name, num_parts - 1)}, the last part of run {run_id}, is missing"
            )
        elif last.sha256 != sha256:
            problems.append(f"{last.part.info.key} was changed after run {run_id} wrote it")
    return checked, list(dict.fromkeys(problems))


def _check_part(folder: Folder, name: str, part: Part, schema: pa.Schema) -> _CheckedPart:
    key = part.info.key
    try:
        body = folder.read(key)
        if body is None:
            return _CheckedPart(part, "", "", None, (f"{key} is missing",))
        file = pq.ParquetFile(pa.BufferReader(body), page_checksum_verification=True)
        table = file.read(use_threads=False)
    except (pa.ArrowException, OSError, StorageError) as error:
        return _CheckedPart(part, "", "", None, (f"{key} can't be read: {explain(error)}",))
    about = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
    problems = []
    if not table.schema.equals(schema):
        problems.append(f"{key} has other columns than the output: {_difference(table, schema)}")
    if about.get("sfray.number") != str(part.number):
        problems.append(f"{key} was written as part {about.get('sfray.number')}")
    keys = ["request_id", "run_id", *(["stage"] if name == FAILURES else [])]
    return _CheckedPart(
        part,
        hashlib.sha256(body).hexdigest(),
        about.get("sfray.previous_sha256", ""),
        table.select(keys) if not problems else None,
        tuple(problems),
    )


def _difference(table: pa.Table, schema: pa.Schema) -> str:
    # Compared as types: Parquet calls the items of a list otherwise, which means nothing.
    found, wanted = table.schema, schema
    lacking = [f"{f.name} ({f.type})" for f in wanted if not _has(found, f)]
    foreign = [f"{f.name} ({f.type}) too much" for f in found if not _has(wanted, f)]
    return ", ".join(lacking + foreign) or "their order or what may be null"


def _has(schema: pa.Schema, field: pa.Field) -> bool:
    index = schema.get_field_index(field.name)
    return index >= 0 and schema.field(index).type == field.type


def _keys(checked: Sequence[_CheckedPart]) -> pa.Table:
    tables = [part.keys.replace_schema_metadata() for part in checked if part.keys is not None]
    if not tables:
        names = ("request_id", "run_id", "stage")
        return pa.table({name: pa.array([], pa.string()) for name in names})
    return pa.concat_tables(tables)


def _compare_ids(
    requested: pa.Array,
    answers: pa.Table,
    failures: pa.Table,
    done: pa.ChunkedArray,
) -> list[str]:
    problems = [
        _listed(_repeated(answers, ["request_id"]), "requests are answered more than once"),
        _listed(
            _repeated(failures, ["request_id", "run_id"]),
            "requests have more than one failure of one run",
        ),
    ]
    problems.append(
        _listed(_without(requested, done), "requests have neither an answer nor a failure")
    )
    # What fails in planning was never a request.
    planned = pc.is_in(failures["stage"], value_set=pa.array(_STAGES_OF_PLANNING))
    of_manifest = failures.filter(planned)["request_id"]
    unasked = _without(_without(done.unique(), requested), of_manifest)
    problems.append(_listed(unasked, "outcomes are of requests that no run was asked for"))
    return [problem for problem in problems if problem]


def _repeated(table: pa.Table, key: list[str]) -> pa.ChunkedArray:
    counts = table.group_by(key).aggregate([([], "count_all")])
    return counts.filter(pc.greater(counts["count_all"], 1))["request_id"]


def _without(ids: pa.Array | pa.ChunkedArray, others: pa.Array | pa.ChunkedArray) -> pa.Array:
    return ids.filter(pc.invert(pc.is_in(ids, value_set=others)))


def _listed(ids: pa.Array | pa.ChunkedArray, what: str) -> str:
    if not len(ids):
        return ""
    examples = ", ".join(ids.slice(0, _NUM_EXAMPLES).to_pylist())
    return f"{len(ids)} {what}, such as {examples}"

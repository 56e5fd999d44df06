"""What each run left under `_sfray/runs/`: its spec, its requests, where its log ended."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from sfray.config import StorageSpec
from sfray.errors import StorageError
from sfray.records import WINDOWS_SCHEMA
from sfray.results.parts import list_parts, part_key, read_parts
from sfray.storage.folders import open_folder
from sfray.storage.objects import Folder

RUNS = "_sfray/runs/"


def run_ids(uri: str, storage: StorageSpec) -> list[str]:
    """The runs of an output, sorted by id."""
    return open_folder(uri, storage).list_folders(RUNS)


def read_run_file(uri: str, storage: StorageSpec, run_id: str, name: str) -> bytes | None:
    """The file `name` of a run, such as `spec.yaml`; None where the run left none."""
    return open_folder(uri, storage).read(f"{RUNS}{run_id}/{name}")


def run_requests(folder: Folder, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """What each run was asked, run by run."""
    for run_id in folder.list_folders(RUNS):
        key = f"{RUNS}{run_id}/requests.parquet"
        body = folder.read(key)
        if body is None:
            continue
        try:
            file = pq.ParquetFile(pa.BufferReader(body))
            yield file.read(columns=None if columns is None else list(columns))
        except (pa.ArrowException, OSError) as error:
            raise StorageError(f"{folder.uri}/{key} can't be read: {error}") from error


def windows_name(number: int) -> str:
    """The name of a run's file of windows, numbered from 0."""
    return part_key("windows", number)


def run_windows(folder: Folder) -> pa.Table:
    """The windows that all runs have found, of `WINDOWS_SCHEMA`; a clip may come several times."""
    tables = [WINDOWS_SCHEMA.empty_table()]
    for run_id in folder.list_folders(RUNS):
        parts = list_parts(folder, f"{RUNS}{run_id}/windows")
        tables += read_parts(folder, parts, WINDOWS_SCHEMA.names)
    return pa.concat_tables([table.cast(WINDOWS_SCHEMA) for table in tables])


def run_ends(folder: Folder) -> Iterator[tuple[str, dict[str, tuple[int, str]]]]:
    """Where each run that was closed left the log.

    Yields:
        the run, and by sequence the number of parts and the SHA-256 of the last.
    """
    for run_id in folder.list_folders(RUNS):
        body = folder.read(f"{RUNS}{run_id}/end.json")
        if body is not None:
            ends = json.loads(body)
            yield run_id, {n: (end["parts"], end["last_sha256"]) for n, end in ends.items()}

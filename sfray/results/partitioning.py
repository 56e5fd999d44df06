"""Partitions of an output: one log, or one for each shard of the job, fixed by the first run.

An output is one log, or has one in a folder of its own for each partition of the job. A request
that was answered under one way of splitting would be answered again under another, so that
every log and every output of several says in `_sfray/partitioning.json` what it is.
"""

from __future__ import annotations

import json
import uuid
from contextlib import suppress

from sfray.config import StorageSpec
from sfray.errors import SchemaError, StorageError
from sfray.partition import Partition
from sfray.results.schema import read_columns
from sfray.storage.folders import open_folder
from sfray.storage.objects import Folder, KeyTakenError
from sfray.storage.uris import join

_KEY = "_sfray/partitioning.json"
# `{}` is a job in one piece, `{"num_partitions": 16}` the output of a job in 16 partitions,
# `{"partition": "3/16"}` the log of one of them.
Split = dict[str, int | str]


def fix_log(folder: Folder, partition: Partition | None) -> None:
    """Says that this folder is the log of a partition, or of a whole job.

    Raises:
        SchemaError: it is something else.
    """
    _fix(folder, _log_of(partition))


def fix_output(folder: Folder, partition: Partition) -> None:
    """Says that this folder is of a job split as `partition` is; raises `SchemaError` if not."""
    _fix(folder, _split_as(partition))


def check_output(folder: Folder, partition: Partition | None) -> None:
    """Raises `SchemaError` if a run of this partition could not write here; writes nothing."""
    _check(folder, _split_as(partition))


def check_log(folder: Folder, partition: Partition | None) -> None:
    """Raises `SchemaError` if this is no log of this partition; writes nothing."""
    _check(folder, _log_of(partition))


def num_partitions(folder: Folder) -> int | None:
    """Into how many partitions an output is split; None for one log."""
    number = (_read(folder) or {}).get("num_partitions")
    return None if number is None else int(number)


def log_uris(uri: str, storage: StorageSpec) -> list[str]:
    """The logs of an output: its own, or those of the partitions that have begun.

    Raises:
        StorageError: no run has been there.
    """
    root = open_folder(uri, storage)
    if read_columns(root) is None:
        raise StorageError(f"the output {root.uri} holds no results")
    number = num_partitions(root)
    if number is None:
        return [uri]
    there = set(root.list_folders(""))
    names = (Partition(index=i, num_partitions=number).folder for i in range(number))
    logs = [join(uri, name) for name in names if name in there]
    return [log for log in logs if read_columns(open_folder(log, storage)) is not None]


def _split_as(partition: Partition | None) -> Split:
    return {} if partition is None else {"num_partitions": partition.num_partitions}


def _log_of(partition: Partition | None) -> Split:
    return {} if partition is None else {"partition": str(partition)}


def _check(folder: Folder, ours: Split) -> None:
    found = _read(folder)
    if found is not None:
        _compare(folder, found, ours)


def _fix(folder: Folder, ours: Split) -> None:
    found = _read(folder)
    if found is None:
        with suppress(KeyTakenError):  # another run was a moment faster
            folder.put_new(_KEY, json.dumps(ours).encode(), uuid.uuid4().hex)
        found = _read(folder)
        if found is None:
            raise StorageError(f"{folder.uri}/{_KEY} was written but can't be read")
    _compare(folder, found, ours)


def _read(folder: Folder) -> Split | None:
    body = folder.read(_KEY)
    if body is None:  # an output that has results all the same is older than this file
        return None if read_columns(folder) is None else {}
    try:
        split: Split = json.loads(body)
    except ValueError as error:
        raise StorageError(f"{folder.uri}/{_KEY} is damaged: {error}") from error
    return split


def _compare(folder: Folder, found: Split, ours: Split) -> None:
    if found != ours:
        raise SchemaError(
            f"the output {folder.uri} was begun as {_words(found)}, not as {_words(ours)}: go on "
            "as it was begun, or use another output"
        )


def _words(split: Split) -> str:
    if "num_partitions" in split:
        return f"a job in {split['num_partitions']} partitions"
    return f"partition {split['partition']}" if split else "a job in one piece"

"""The columns of an output, frozen by its first run."""

from __future__ import annotations

import uuid
from contextlib import suppress

import pyarrow as pa

from sfray.errors import SchemaError, StorageError
from sfray.records import outcomes_schema
from sfray.storage.objects import Folder, KeyTakenError

_KEY = "_sfray/schema.arrow"


def freeze_schema(folder: Folder, passthrough: pa.Schema) -> pa.Schema:
    """Freezes the output's columns, or checks that they are those of before.

    Returns:
        the passthrough columns in the order in which the first run had them.

    Raises:
        SchemaError: the output has other columns.
        StorageError: the server overwrites where it must not.
    """
    ours = outcomes_schema(passthrough.remove_metadata())
    body = folder.read(_KEY)
    if body is None:
        with suppress(KeyTakenError):  # another run was a moment faster: its columns count
            folder.put_new(_KEY, ours.serialize().to_pybytes(), uuid.uuid4().hex)
        body = folder.read(_KEY)
        if body is None:
            raise StorageError(f"{folder.uri}/{_KEY} was written but can't be read")
    _check_exclusive(folder, body)
    frozen = pa.ipc.read_schema(pa.py_buffer(body))
    _compare(frozen, ours, folder.uri)
    return passthrough_of(frozen)


def read_frozen_schema(folder: Folder) -> pa.Schema | None:
    """The columns of answers and failures together; None where no run has been."""
    body = folder.read(_KEY)
    return None if body is None else pa.ipc.read_schema(pa.py_buffer(body))


def frozen_schema(folder: Folder) -> pa.Schema:
    """As `read_frozen_schema`; raises `StorageError` where no run has been."""
    frozen = read_frozen_schema(folder)
    if frozen is None:
        raise StorageError(f"the output {folder.uri} holds no results")
    return frozen


def passthrough_of(frozen: pa.Schema) -> pa.Schema:
    """The passthrough columns of an output's columns, which are the last."""
    return pa.schema(list(frozen)[len(outcomes_schema(pa.schema([]))) :])


def _check_exclusive(folder: Folder, body: bytes) -> None:
    """Some servers ignore the condition of a put and overwrite: no log can stand on them."""
    try:
        folder.put_new(_KEY, body, uuid.uuid4().hex)
    except KeyTakenError:
        return
    raise StorageError(
        f"the server of {folder.uri} ignores `If-None-Match` and overwrites objects, so two runs "
        "could destroy each other's results: use a server with conditional puts"
    )


def _compare(frozen: pa.Schema, ours: pa.Schema, uri: str) -> None:
    advice = "use another output, or the same passthrough columns as before"
    for field in ours:
        index = frozen.get_field_index(field.name)
        if index < 0:
            raise SchemaError(f"the output {uri} has no column {field.name!r}: {advice}")
        if frozen.field(index).type != field.type:
            raise SchemaError(
                f"the column {field.name!r} of the output {uri} has the type "
                f"{frozen.field(index).type}, not {field.type}: {advice}"
            )
    for name in frozen.names:
        if name not in ours.names:
            raise SchemaError(f"the output {uri} has the column {name!r}, this job not: {advice}")

"""The columns of an output, frozen by its first run, and the format that it is written in.

All parts of one output have the same columns, since most readers take the first file's for those of
all. So an output that an older version began keeps its columns for ever; `sfray compact` copies it
into one that has today's.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import pyarrow as pa

from sfray.columns import (
    COLUMNS,
    OUTPUT_FORMAT,
    TABLES,
    TableName,
    described,
    manifest_name,
    outcomes_schema,
    passthrough_field,
    passthrough_name,
    tables_of,
)
from sfray.errors import SchemaError, StorageError
from sfray.results import dataset_card
from sfray.storage.objects import Folder, KeyTakenError

_COLUMNS_KEY = "_sfray/schema.arrow"
# The number, `{"format": 2}`, for people and for what a later version has to say. What counts is
# the one in the metadata of the columns, which come in one piece with it; format 1 has none.
_FORMAT_KEY = "_sfray/format.json"
_FORMAT = b"sfray.format"
logger = logging.getLogger("sfray")
_COMPACT = "`sfray compact OUTPUT --to NEW` copies it into one that has all, where runs go on"


@dataclass(frozen=True, slots=True)
class OutputColumns:
    """The columns of one output.

    Attributes:
        format: the format of the output.
        fields: of answers and failures together, as `sfray.columns.outcomes_schema` describes them;
            those of a later version too.
    """

    format: int
    fields: pa.Schema

    @classmethod
    def of_today(cls, passthrough: pa.Schema) -> OutputColumns:
        """Those of an output that begins now."""
        return cls(OUTPUT_FORMAT, outcomes_schema(passthrough))

    def serialized(self) -> bytes:
        """The columns with the number of the format, one thing to be put."""
        metadata = {_FORMAT: str(self.format)} if self.format > 1 else {}
        body: bytes = self.fields.with_metadata(metadata).serialize().to_pybytes()
        return body

    @property
    def unknown(self) -> list[str]:
        """The columns that a later version added."""
        mine = (f.name for f in self.fields if manifest_name(f) is None)
        return [name for name in mine if name not in COLUMNS]

    @property
    def passthrough(self) -> pa.Schema:
        """The passthrough columns, as a job calls them that runs now."""
        named = [(manifest_name(f), f.type) for f in self.fields]
        return pa.schema(passthrough_field(name, kind) for name, kind in named if name is not None)

    @property
    def older_than_now(self) -> str | None:
        """What is to be told of an output that an older version began; None of others."""
        lacking = [name for name in COLUMNS if not self.has(name)]
        if not lacking:
            return None
        return (
            f"the output was begun by an older version and keeps its columns, without "
            f"{', '.join(lacking)}; {_COMPACT}"
        )

    @property
    def renamed(self) -> dict[str, str]:
        """The passthrough columns that have another name than in the manifest."""
        named = {manifest_name(f): f.name for f in self.fields}
        return {old: new for old, new in named.items() if old is not None and old != new}

    def has(self, name: str) -> bool:
        """Whether the output has a column of the results, no passthrough column in its place."""
        index = self.fields.get_field_index(name)
        return index >= 0 and manifest_name(self.fields.field(index)) is None

    def schema_of(self, table: TableName) -> pa.Schema:
        """The columns of each part of a table, in their order."""
        known = [COLUMNS[name].field for name in TABLES[table] if self.has(name)]
        others = [f for f in self.fields if f.name not in COLUMNS or not self.has(f.name)]
        passthrough = [f for f in others if manifest_name(f) is not None]
        later = [f for f in others if table in tables_of(f)]
        return pa.schema([f.remove_metadata() for f in (*known, *later, *passthrough)])

    def to_stored(self, rows: pa.Table, table: TableName) -> pa.Table:
        """Rows of a run as the output's table has them: names, order and types.

        Args:
            rows: of `outcomes_schema` or of requests, passthrough columns called as of now.
        """
        return _taken(rows, self.schema_of(table), {f.name: _name_now(f) for f in self.fields})

    def from_stored(self, rows: pa.Table, schema: pa.Schema) -> pa.Table:
        """Rows of this output as a run of now has them.

        Args:
            schema: of outcomes or of requests, with `passthrough`; what the output lacks is null.
        """
        return _taken(rows, schema, {_name_now(f): f.name for f in self.fields})


def _name_now(field: pa.Field) -> str:
    name = manifest_name(field)
    return field.name if name is None else passthrough_name(name)


def _taken(rows: pa.Table, schema: pa.Schema, names: dict[str, str]) -> pa.Table:
    """The columns of a schema, each from the rows' column of another name, or null."""
    columns = []
    for field in schema:
        name = names.get(field.name)
        if name in rows.column_names:
            columns.append(rows[name].cast(field.type))
        else:
            columns.append(pa.nulls(rows.num_rows, field.type))
    return pa.table(columns, schema=schema)


def freeze_columns(
    folder: Folder, ours: OutputColumns, needed: Sequence[str] = ()
) -> OutputColumns:
    """Freezes the output's columns, or checks that they are those of before.

    Args:
        ours: the columns that this run would begin the output with.
        needed: columns of the results without which the job's answers would be lost.

    Returns:
        the output's columns.

    Raises:
        SchemaError: the output has other passthrough columns, lacks a needed one, or is of a
            format that this version doesn't know.
        StorageError: the server overwrites where it must not.
    """
    frozen = read_columns(folder)
    if frozen is None:
        _put_new(folder, _COLUMNS_KEY, ours.serialized())
        frozen = read_columns(folder)
        if frozen is None:
            raise StorageError(f"{folder.uri}/{_COLUMNS_KEY} was written but can't be read")
    if frozen.format > 1 and folder.read(_FORMAT_KEY) is None:
        _put_new(folder, _FORMAT_KEY, json.dumps({"format": frozen.format}).encode())
        _put_card(folder)
    _check_exclusive(folder)
    _compare(frozen, ours, folder.uri)
    lacking = [name for name in needed if not frozen.has(name)]
    if lacking:
        raise SchemaError(
            f"the output {folder.uri} was begun by an older version and lacks the column "
            f"{lacking[0]!r}, which this job needs: {_COMPACT}"
        )
    return frozen


def check_columns(folder: Folder, ours: OutputColumns) -> OutputColumns:
    """The columns that a run of `ours` would write here; as `freeze_columns`, but writes nothing.

    Raises:
        SchemaError, StorageError: as `freeze_columns`.
    """
    frozen = read_columns(folder)
    if frozen is None:
        return ours
    _compare(frozen, ours, folder.uri)
    return frozen


def read_columns(folder: Folder) -> OutputColumns | None:
    """The columns of an output; None where no run has been.

    Raises:
        SchemaError: it is of a format that this version doesn't know.
        StorageError: what says so is damaged.
    """
    if (body := folder.read(_FORMAT_KEY)) is not None:
        _check_known(_number(folder, body), folder)
    body = folder.read(_COLUMNS_KEY)
    if body is None:
        return None
    try:
        fields = pa.ipc.read_schema(pa.py_buffer(body))
        number = int((fields.metadata or {}).get(_FORMAT, b"1"))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise StorageError(f"{folder.uri}/{_COLUMNS_KEY} is damaged: {error}") from error
    _check_known(number, folder)
    fields = fields.remove_metadata()
    return OutputColumns(number, described(fields) if number == 1 else fields)


def columns_of(folder: Folder) -> OutputColumns:
    """As `read_columns`; raises `StorageError` where no run has been."""
    columns = read_columns(folder)
    if columns is None:
        raise StorageError(f"the output {folder.uri} holds no results")
    return columns


def _check_known(number: int, folder: Folder) -> None:
    if number > OUTPUT_FORMAT:
        raise SchemaError(
            f"the output {folder.uri} has the format {number}, but this version of sfray knows "
            f"formats up to {OUTPUT_FORMAT}: use the version that wrote it, or a later one"
        )


def _number(folder: Folder, body: bytes) -> int:
    try:
        number = json.loads(body)["format"]
    except (ValueError, KeyError, TypeError):
        number = None
    if type(number) is not int or number < 1:
        raise StorageError(
            f'{folder.uri}/{_FORMAT_KEY} is damaged: it must be like {{"format": 2}}'
        )
    return number


def _put_new(folder: Folder, key: str, body: bytes) -> None:
    with suppress(KeyTakenError):  # another run was a moment faster: what it wrote counts
        folder.put_new(key, body, uuid.uuid4().hex)


def _put_card(folder: Folder) -> None:
    """Without it the output is as good, but for Hugging Face's way to name a whole folder."""
    try:
        folder.put_new(dataset_card.KEY, dataset_card.CARD.encode(), uuid.uuid4().hex)
    except (KeyTakenError, StorageError):
        logger.info(
            "the output %s keeps its own %s; for `datasets.load_dataset` of the whole folder it "
            "would begin with: %s",
            folder.uri,
            dataset_card.KEY,
            dataset_card.CONFIGS,
        )


def _check_exclusive(folder: Folder) -> None:
    """Some servers ignore the condition of a put and overwrite: no log can stand on them."""
    try:
        folder.put_new(_COLUMNS_KEY, folder.read(_COLUMNS_KEY) or b"", uuid.uuid4().hex)
    except KeyTakenError:
        return
    raise StorageError(
        f"the server of {folder.uri} ignores `If-None-Match` and overwrites objects, so two runs "
        "could destroy each other's results: use a server with conditional puts"
    )


def _compare(frozen: OutputColumns, ours: OutputColumns, uri: str) -> None:
    advice = "use another output, or the same passthrough columns as before"
    there = {manifest_name(f): f.type for f in frozen.passthrough}
    wanted = {manifest_name(f): f.type for f in ours.passthrough}
    for name, kind in wanted.items():
        if name not in there:
            raise SchemaError(f"the output {uri} has no column {name!r}: {advice}")
        if there[name] != kind:
            raise SchemaError(
                f"the column {name!r} of the output {uri} has the type {there[name]}, not {kind}: "
                f"{advice}"
            )
    for name in there:
        if name not in wanted:
            raise SchemaError(f"the output {uri} has the column {name!r}, this job not: {advice}")

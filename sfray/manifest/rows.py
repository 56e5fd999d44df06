"""The manifest: rows of videos and questions in one flat form, whatever they are written in.

Required is `video_uri`. Optional are `video_id`, `start_seconds`, `end_seconds` and questions,
flat (`question_id`, `question`, `options`, `answer`) or nested (`prompts`). `manifest.columns`
maps these names to those of the files.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pyarrow as pa

from sfray.columns import COLUMNS, manifest_name, passthrough_field
from sfray.config import ManifestSpec, StorageSpec
from sfray.errors import ManifestError
from sfray.manifest.columns import AS_FLAT, ROW_FIELDS, explode_prompts, plain_type
from sfray.manifest.files import (
    BLOCK_BYTES,
    ManifestFile,
    column_types,
    find_files,
    read_tables,
)

_QUESTION_COLUMNS = ("question_id", "question", "options", "answer")
_MAPPABLE = (*AS_FLAT, "prompts")
# What no passthrough column may be called. One that is called as a later column of the results
# goes under another name there.
_TAKEN = frozenset(column.name for column in COLUMNS.values() if column.since == 1) | {
    "row_number",
    "fetch_uri",
}
_NUM_READERS = 8


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The rows of all files.

    Attributes:
        passthrough_schema: the columns that reach the results, all nullable, as they are called
            there; `sfray.columns.manifest_name` says how the files call them.
        extra_columns: further columns of the files that `batches` carries.
        block_bytes: text is read so much at a time.
    """

    spec: ManifestSpec
    files: tuple[ManifestFile, ...]
    passthrough_schema: pa.Schema
    extra_columns: tuple[str, ...]
    block_bytes: int
    # Holds copies of files that came over http; it goes away with this object.
    scratch: tempfile.TemporaryDirectory[str] = field(repr=False)

    @property
    def columns(self) -> dict[str, str]:
        """Name in the files by sfray's name."""
        return {name: self.spec.columns.get(name, name) for name in _MAPPABLE}

    def batches(self) -> Iterator[pa.Table]:
        """The rows in the order of the files.

        Yields:
            tables of `ROW_FIELDS`, the passthrough and the extra columns, these as the files call
            them; `row_number` counts rows of the manifest from 0, and a nested question has that of
            its row.

        Raises:
            ManifestError: a file can't be read or a column has a type of no use.
        """
        wanted = [*self.columns.values(), *self._named]
        row_number = 0
        for file in self.files:
            for table in read_tables(file, tuple(dict.fromkeys(wanted)), self.block_bytes):
                numbers = pa.array(range(row_number, row_number + table.num_rows), pa.int64())
                row_number += table.num_rows
                yield self._flat(table, numbers, file.name)

    def _flat(self, table: pa.Table, row_numbers: pa.Array, file_name: str) -> pa.Table:
        arrays = {"row_number": row_numbers}
        for name, column in self.columns.items():
            if column in table.column_names:
                arrays[name] = table[column]
        for name in self._named:
            if name in table.column_names:
                arrays.setdefault(name, table[name])
        rows = pa.table(arrays)
        if "prompts" in arrays:
            rows = explode_prompts(rows, self.columns["prompts"], file_name)
        flat = [self._flat_column(f, rows, file_name) for f in ROW_FIELDS]
        kinds = {manifest_name(f): f.type for f in self.passthrough_schema}
        further = {
            name: self._further_column(name, kinds.get(name), rows, file_name)
            for name in self._named
            if name not in AS_FLAT
        }
        names = [*(f.name for f in ROW_FIELDS), *further]
        return pa.table([*flat, *further.values()], names=names)

    @property
    def _named(self) -> tuple[str, ...]:
        """The columns of the files that the job names, besides those of sfray."""
        passed = [str(manifest_name(f)) for f in self.passthrough_schema]
        return tuple(dict.fromkeys((*passed, *self.extra_columns)))

    def _flat_column(self, column: pa.Field, rows: pa.Table, file_name: str) -> pa.ChunkedArray:
        if column.name == "row_number":
            return rows["row_number"]
        if column.name not in rows.column_names:
            return pa.nulls(rows.num_rows, column.type)
        return AS_FLAT[column.name](rows[column.name], self.columns[column.name], file_name)

    def _further_column(
        self, name: str, kind: pa.DataType | None, rows: pa.Table, file_name: str
    ) -> pa.ChunkedArray:
        """A column that is none of sfray's, as `kind`, or as a plain type of its own."""
        if name not in rows.column_names:  # a block of JSON lines in which no row has it
            return pa.nulls(rows.num_rows, kind or pa.string())
        column = rows[name]
        kind = kind or plain_type(column.type)
        try:
            return column.cast(kind)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise ManifestError(
                f"the column {name!r} of {file_name} has the type {column.type}, which does not "
                f"become {kind} as in the other files: {error}"
            ) from error


def read_manifest(
    manifest: ManifestSpec,
    storage: StorageSpec,
    extra_columns: Sequence[str] = (),
    block_bytes: int = BLOCK_BYTES,
) -> Manifest:
    """Finds the manifest's files and checks their columns; rows are read by `batches`.

    Args:
        extra_columns: columns that prompts name, carried besides the passthrough columns.
        block_bytes: text is read so much at a time, in which one row must fit.

    Raises:
        ManifestError: a file is missing or unreadable, or lacks a column that is asked for.
        StorageError: the URI's scheme is unknown.
    """
    _check_names(manifest)
    scratch = tempfile.TemporaryDirectory(prefix="sfray-manifest-")
    files = find_files(manifest.uris, storage, Path(scratch.name))
    # The types of JSON lines are known after reading them; without such columns they don't matter.
    whole = bool(manifest.columns or manifest.passthrough or extra_columns)
    with ThreadPoolExecutor(_NUM_READERS) as pool:
        types = partial(column_types, whole=whole, block_bytes=block_bytes)
        schemas = list(pool.map(types, files))
    for file, schema in zip(files, schemas, strict=True):
        _check_columns(manifest, extra_columns, file.name, schema.names)
    return Manifest(
        spec=manifest,
        files=tuple(files),
        passthrough_schema=_passthrough_schema(manifest, files, schemas),
        extra_columns=tuple(extra_columns),
        block_bytes=block_bytes,
        scratch=scratch,
    )


def _check_names(manifest: ManifestSpec) -> None:
    for name in manifest.columns:
        if name not in _MAPPABLE:
            raise ManifestError(
                f"manifest.columns: {name!r} is no column of sfray; allowed: "
                f"{', '.join(_MAPPABLE)} (each maps to the name that the manifest uses)"
            )
    for name in manifest.passthrough:
        if name in _TAKEN:
            raise ManifestError(
                f"manifest.passthrough: {name!r} is the name of a column of the results; "
                "rename it in the manifest"
            )
        if name in _QUESTION_COLUMNS and manifest.columns.get(name, name) != name:
            raise ManifestError(
                f"manifest.passthrough: {name!r} means the column "
                f"{manifest.columns[name]!r} here, by manifest.columns; pass that one through"
            )


def _check_columns(
    manifest: ManifestSpec, extra_columns: Sequence[str], file_name: str, present: Sequence[str]
) -> None:
    """Raises if a column that the job names is missing or ambiguous."""
    flat = {name: manifest.columns.get(name, name) for name in _MAPPABLE}
    needed = {
        column: f"manifest.columns maps {name} to it"
        for name, column in flat.items()
        if name in manifest.columns
    }
    needed |= dict.fromkeys(manifest.passthrough, "manifest.passthrough names it")
    needed |= {flat.get(name, name): "a prompt names it" for name in extra_columns}
    needed.setdefault(flat["video_uri"], "every manifest needs it; see manifest.columns")
    for column, why in needed.items():
        if column not in present:
            raise ManifestError(
                f"the manifest {file_name} has no column {column!r} ({why}); "
                f"its columns are: {', '.join(present) or 'none'}"
            )
    for column in {*needed, *flat.values()}:
        if list(present).count(column) > 1:
            raise ManifestError(f"the manifest {file_name} has several columns {column!r}")
    flat_questions = [flat[n] for n in _QUESTION_COLUMNS if flat[n] in present]
    if flat["prompts"] in present and flat_questions:
        raise ManifestError(
            f"the manifest {file_name} has questions twice: nested in {flat['prompts']!r} and "
            f"flat in {', '.join(map(repr, flat_questions))}"
        )


def _passthrough_schema(
    manifest: ManifestSpec, files: Sequence[ManifestFile], schemas: Sequence[pa.Schema]
) -> pa.Schema:
    """The types that hold the values of all files."""
    united = pa.schema([(name, pa.null()) for name in manifest.passthrough])
    for file, schema in zip(files, schemas, strict=True):
        own = pa.schema([(name, schema.field(name).type) for name in manifest.passthrough])
        plain = pa.schema(
            [f if pa.types.is_null(f.type) else f.with_type(plain_type(f.type)) for f in own]
        )
        try:
            united = pa.unify_schemas([united, plain], promote_options="permissive")
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise ManifestError(
                f"passthrough columns of {file.name} have other types than those of the files "
                f"before it: {error}"
            ) from error
    labels = {name: pa.string() for name in _QUESTION_COLUMNS}
    return pa.schema(
        passthrough_field(f.name, labels.get(f.name, plain_type(f.type))) for f in united
    )

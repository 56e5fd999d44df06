"""The files of a manifest: found by file, glob or folder, read batch by batch in any format."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import fsspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem

from sfray.config import StorageSpec
from sfray.errors import ManifestError
from sfray.redaction import identity_uri, redact, redact_text
from sfray.storage.faults import storage_faults
from sfray.storage.uris import open_filesystem, scheme_of

FORMATS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
# What files of videos are called; none of these is a manifest.
VIDEO_EXTENSIONS = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".wmv", ".asf", ".flv", ".f4v", ".mpg"),
    *(".mpeg", ".m2v", ".ts", ".mts", ".m2ts", ".3gp", ".3g2", ".ogv", ".vob", ".mxf", ".y4m"),
)
BATCH_ROWS = 50_000
# One row must fit into a block of text.
BLOCK_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """One file; `name` is how messages call it."""

    filesystem: AbstractFileSystem
    path: str
    name: str
    format: str


def find_files(uris: Sequence[str], storage: StorageSpec, scratch: Path) -> list[ManifestFile]:
    """The files that the URIs stand for, in their order, those of a glob or folder sorted.

    Args:
        scratch: a folder for copies of files that come over http, where not every server can
            serve ranges.

    Raises:
        ManifestError: a file does not exist, a glob or folder holds none, an unknown extension.
    """
    files: list[ManifestFile] = []
    for uri in uris:
        with storage_faults(ManifestError, f"the manifest {redact(uri)} can't be read"):
            files += _find(uri, storage, scratch)
    return files


def _find(uri: str, storage: StorageSpec, scratch: Path) -> list[ManifestFile]:
    name = redact(uri)
    filesystem, path = open_filesystem(uri, storage)
    if scheme_of(uri) in ("http", "https"):
        form = _format_of(urlsplit(identity_uri(uri)).path, name)
        with tempfile.NamedTemporaryFile(dir=scratch, delete=False) as copy:
            filesystem.get_file(path, copy.name)
        return [ManifestFile(fsspec.filesystem("file"), copy.name, name, form)]
    if filesystem.isfile(path):
        return [ManifestFile(filesystem, path, name, _format_of(path, name))]
    if filesystem.isdir(path):
        everything = filesystem.find(path)
        found = [p for p in everything if _is_visible_data(p, path)]
        if not found and any(p.lower().endswith(VIDEO_EXTENSIONS) for p in everything):
            raise ManifestError(
                f"the manifest folder {name} holds videos, but no manifest of them: `sfray "
                f"manifest {shlex.quote(name)} --output manifest.parquet` makes one"
            )
        if not found:
            raise ManifestError(
                f"the manifest folder {name} holds no {_extensions()} file; "
                "name a file, a glob or another folder in manifest.uri"
            )
    elif any(sign in path for sign in "*?["):
        found = [p for p in filesystem.glob(path) if filesystem.isfile(p)]
        if not found:
            raise ManifestError(f"no file matches the manifest {name}")
    else:
        where = f": {path}" if scheme_of(uri) == "file" and path != name else ""
        raise ManifestError(f"the manifest {name} does not exist{where}")
    prefix = "" if scheme_of(uri) == "file" else f"{scheme_of(uri)}://"
    return [
        ManifestFile(filesystem, p, prefix + p, _format_of(p, prefix + p)) for p in sorted(found)
    ]


def _is_visible_data(path: str, folder: str) -> bool:
    """Writers of tables leave `_SUCCESS`, `_temporary/` and `.crc` files beside their parts."""
    parts = PurePosixPath(path).relative_to(PurePosixPath(folder)).parts
    hidden = any(part.startswith(("_", ".")) for part in parts)
    return not hidden and PurePosixPath(path).suffix.lower() in FORMATS


def _format_of(path: str, name: str) -> str:
    suffix = PurePosixPath(path).suffix.lower()
    if suffix not in FORMATS:
        raise ManifestError(
            f"the manifest {name} ends in {suffix or 'no extension'!r}; allowed are {_extensions()}"
        )
    return FORMATS[suffix]


def _extensions() -> str:
    return ", ".join(FORMATS)


@contextmanager
def _readable(file: ManifestFile) -> Iterator[None]:
    """Turns what can go wrong with the content of a file into a `ManifestError`."""
    what = f"the manifest {file.name} can't be read"
    try:
        with storage_faults(ManifestError, what):
            yield
    except (pa.ArrowException, UnicodeDecodeError) as error:
        reason = " ".join(redact_text(str(error)).split())
        raise ManifestError(f"{what} as {file.format}: {reason}") from error


def column_types(file: ManifestFile, whole: bool, block_bytes: int) -> pa.Schema:
    """The columns of a file.

    The cells of CSV are text. JSON lines have their types in the values alone: with `whole` all
    rows are read to know them, else the first block.
    """
    with _readable(file), file.filesystem.open(file.path, "rb") as stream:
        if file.format == "parquet":
            return pq.ParquetFile(stream).schema_arrow
        if file.format == "csv":
            names = _open_csv(stream, [], block_bytes).schema.names
            return pa.schema([(name, pa.string()) for name in names])
        schema = pa.schema([])
        for table in _json_blocks(stream, block_bytes):
            schema = pa.unify_schemas([schema, table.schema], promote_options="permissive")
            if not whole:
                break
        return schema


def read_tables(file: ManifestFile, columns: Sequence[str], block_bytes: int) -> Iterator[pa.Table]:
    """The rows of a file, batch by batch, with those of `columns` that it has."""
    with _readable(file), file.filesystem.open(file.path, "rb") as stream:
        if file.format == "parquet":
            parquet = pq.ParquetFile(stream)
            present = [name for name in columns if name in parquet.schema_arrow.names]
            for batch in parquet.iter_batches(BATCH_ROWS, columns=present):
                yield pa.Table.from_batches([batch])
        elif file.format == "csv":
            names = _open_csv(stream, [], block_bytes).schema.names
            stream.seek(0)
            present = [name for name in columns if name in names]
            for batch in _open_csv(stream, present, block_bytes):
                yield pa.Table.from_batches([batch])
        else:
            for table in _json_blocks(stream, block_bytes):
                yield table.select([name for name in columns if name in table.column_names])


def _open_csv(
    stream: object, columns: Sequence[str], block_bytes: int
) -> pyarrow.csv.CSVStreamingReader:
    """A reader of text cells; an empty cell is null, an empty cell in quotes is empty text."""
    return pyarrow.csv.open_csv(
        stream,
        read_options=pyarrow.csv.ReadOptions(block_size=block_bytes),
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(
            include_columns=list(columns),
            column_types=dict.fromkeys(columns, pa.string()),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )


def _json_blocks(stream: object, block_bytes: int) -> Iterator[pa.Table]:
    """Blocks of whole lines, each with types of its own."""
    for block in _line_blocks(stream, block_bytes):
        options = pyarrow.json.ReadOptions(block_size=len(block))
        table = pyarrow.json.read_json(pa.BufferReader(block), options)
        # The parser takes text that looks like a date for a timestamp; text it shall stay.
        textual = pa.schema([f.with_type(_without_timestamps(f.type)) for f in table.schema])
        if textual != table.schema:
            parse = pyarrow.json.ParseOptions(explicit_schema=textual)
            table = pyarrow.json.read_json(pa.BufferReader(block), options, parse)
        yield table


def _line_blocks(stream: object, block_bytes: int) -> Iterator[bytes]:
    rest = b""
    while chunk := stream.read(block_bytes):  # type: ignore[attr-defined]
        lines, newline, rest_of_chunk = chunk.rpartition(b"\n")
        if not newline:
            rest += chunk
            continue
        if (block := rest + lines).strip():
            yield block + b"\n"
        rest = rest_of_chunk
    if rest.strip():
        yield rest


def _without_timestamps(data_type: pa.DataType) -> pa.DataType:
    if pa.types.is_timestamp(data_type):
        return pa.string()
    if pa.types.is_list(data_type):
        return pa.list_(_without_timestamps(data_type.value_type))
    if pa.types.is_struct(data_type):
        return pa.struct([f.with_type(_without_timestamps(f.type)) for f in data_type])
    return data_type

"""`sfray manifest`: a manifest of the videos below a folder or prefix, of any number."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem

from sfray.config import StorageSpec
from sfray.errors import SpecError, StorageError
from sfray.manifest.files import VIDEO_EXTENSIONS
from sfray.redaction import redact
from sfray.sources.listing import ListedFile, iter_files
from sfray.storage.faults import storage_faults
from sfray.storage.uris import open_filesystem, scheme_of
from sfray.video.content import HEAD_BYTES, begins_as_video

_COLUMNS = pa.schema(
    [
        pa.field("video_uri", pa.string()),
        pa.field("size_bytes", pa.int64()),
        pa.field("etag", pa.string()),
    ]
)
_WRITERS = {".parquet": pq.ParquetWriter, ".csv": pyarrow.csv.CSVWriter}
# Each waits for the first bytes of one file.
_NUM_READERS = 32


@dataclass(frozen=True, slots=True)
class VideosFound:
    """What a manifest lists so far."""

    num_videos: int = 0
    num_bytes: int = 0

    def and_of(self, rows: pa.Table) -> VideosFound:
        """With further rows."""
        num_bytes = self.num_bytes + sum(rows["size_bytes"].to_pylist())
        return VideosFound(self.num_videos + rows.num_rows, num_bytes)


def make_manifest(
    prefix: str,
    output: str,
    storage: StorageSpec,
    *,
    extensions: Sequence[str] | None,
    by_content: bool,
    force: bool,
    show: Callable[[VideosFound], None],
    batch_rows: int = 10_000,
) -> VideosFound:
    """Writes `video_uri, size_bytes, etag` of each video, in the order of the listing.

    Hidden files and folders (`.name`) are left out: systems leave things there that are called as
    videos. The manifest is there whole or not at all.

    Args:
        output: a .parquet or .csv file, local or on S3 or Google Cloud Storage.
        extensions: of videos, with or without their dot; None for those that are usual.
        by_content: go by the first bytes of each file, one small read each, not by its name.
        force: write over an output that is there.
        show: is told how far it is.
        batch_rows: so many are written at a time.

    Raises:
        SpecError: the output can't be a manifest, is there, or a choice makes no sense.
        StorageError: nothing is found, or can't be listed, read or written.
    """
    if by_content and extensions:
        raise SpecError("--by-content looks at no names: leave --extension out, or it")
    suffix = PurePosixPath(output).suffix.lower()
    if suffix not in _WRITERS:
        allowed = " or ".join(_WRITERS)
        raise SpecError(f"the manifest {redact(output)} has to end in {allowed}")
    filesystem, path = _place_of(output, storage, force)
    endings = tuple(f".{e.lower().lstrip('.')}" for e in extensions or VIDEO_EXTENSIONS)
    files = (file for file in iter_files(prefix, storage) if not _is_hidden(file))
    videos = (
        _by_content(files, storage)
        if by_content
        else (file for file in files if file.path.lower().endswith(endings))
    )
    tables = _tables(videos, batch_rows)
    first = next(tables, None)
    if first is None:
        looked = "their first bytes" if by_content else f"names that end in {', '.join(endings)}"
        raise StorageError(f"no videos were found below {redact(prefix)}, by {looked}")
    found = VideosFound()
    with _written(filesystem, path, output, suffix) as write:
        for table in chain([first], tables):
            write(table)
            found = found.and_of(table)
            show(found)
    return found


def _is_hidden(file: ListedFile) -> bool:
    return any(part.startswith(".") for part in file.path.split("/"))


def _place_of(output: str, storage: StorageSpec, force: bool) -> tuple[AbstractFileSystem, str]:
    if scheme_of(output) not in ("file", "s3", "gs"):
        raise SpecError(
            f"the manifest {redact(output)} can't be written: allowed are a local path, s3:// and "
            "gs://"
        )
    filesystem, path = open_filesystem(output, storage)
    with storage_faults(StorageError, f"the manifest {redact(output)} can't be written"):
        if filesystem.isdir(path):
            raise SpecError(f"{redact(output)} is a folder: name a file")
        if not force and filesystem.exists(path):
            raise SpecError(f"{redact(output)} is there already: --force writes over it")
    return filesystem, path


def _tables(videos: Iterator[ListedFile], batch_rows: int) -> Iterator[pa.Table]:
    while batch := list(islice(videos, batch_rows)):
        rows = {
            "video_uri": [video.uri for video in batch],
            "size_bytes": [video.size_bytes for video in batch],
            "etag": [video.etag for video in batch],
        }
        try:
            yield pa.table(rows, schema=_COLUMNS)
        except UnicodeEncodeError as error:
            raise StorageError(
                f"the name of the file {error.object!r} is no UTF-8, so that no manifest can hold "
                "it: rename the file"
            ) from error


@contextmanager
def _written(
    filesystem: AbstractFileSystem, path: str, output: str, suffix: str
) -> Iterator[Callable[[pa.Table], None]]:
    """What writes rows into a file that appears once all of it is written."""
    with storage_faults(StorageError, f"the manifest {redact(output)} can't be written"):
        if scheme_of(output) == "file":  # on S3 it would make a bucket
            filesystem.makedirs(str(PurePosixPath(path).parent), exist_ok=True)
        with (
            filesystem.transaction,
            filesystem.open(path, "wb") as stream,
            _WRITERS[suffix](stream, _COLUMNS) as writer,
        ):
            yield writer.write_table


def _by_content(files: Iterator[ListedFile], storage: StorageSpec) -> Iterator[ListedFile]:
    """The files that begin as videos do, in order, read a few ahead."""

    def is_video(file: ListedFile, filesystem: AbstractFileSystem, path: str) -> bool:
        with storage_faults(StorageError, f"{redact(file.uri)} can't be read"):
            end = min(HEAD_BYTES, file.size_bytes)
            return begins_as_video(filesystem.cat_file(path, start=0, end=end))

    waiting: deque[tuple[ListedFile, Future[bool]]] = deque()
    with ThreadPoolExecutor(_NUM_READERS) as readers:
        for file in files:
            if not file.size_bytes:
                continue
            # Opened here, since fsspec has one for each thread.
            place = open_filesystem(file.uri, storage)
            waiting.append((file, readers.submit(is_video, file, *place)))
            if len(waiting) > 2 * _NUM_READERS:
                earliest, answer = waiting.popleft()
                if answer.result():
                    yield earliest
        yield from (file for file, answer in waiting if answer.result())

"""A numbered sequence of Parquet parts, each put whole and only where none is.

Parts are numbered from 0 without gaps. Each names its writer and holds the SHA-256 of the part
before it, so that what is missing or changed is found out by reading.
"""

from __future__ import annotations

import hashlib
import re
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from sfray.errors import OutputInUseError, StorageError
from sfray.storage.faults import explain
from sfray.storage.objects import Folder, KeyTakenError, ObjectInfo

_PART = re.compile(r".*/part-(\d{8})\.parquet")
_NUM_READERS = 16
_FENCE_TRIES = 100


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a sequence."""

    number: int
    info: ObjectInfo


def part_key(name: str, number: int) -> str:
    """The key of a part of the sequence `name`."""
    return f"{name}/part-{number:08d}.parquet"


def list_parts(folder: Folder, name: str) -> list[Part]:
    """The parts that exist, in order; other files beside them are ignored."""
    found = [(_PART.fullmatch(info.key), info) for info in folder.list_objects(f"{name}/")]
    return sorted(
        (Part(int(match[1]), info) for match, info in found if match), key=lambda part: part.number
    )


def read_parts(folder: Folder, parts: Sequence[Part], columns: Sequence[str]) -> Iterator[pa.Table]:
    """The named columns of each part as far as it has them; only their bytes are read."""

    def read(part: Part) -> pa.Table:
        try:
            with folder.open(part.info) as file:
                return pq.ParquetFile(file).read(columns=list(columns), use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise StorageError(
                f"{folder.uri}/{part.info.key} can't be read: {explain(error)}"
            ) from error

    # Only a few parts are read ahead of who takes them.
    with ThreadPoolExecutor(_NUM_READERS) as pool:
        ahead = deque(pool.submit(read, part) for part in parts[:_NUM_READERS])
        for part in [*parts[_NUM_READERS:], *[None] * len(ahead)]:
            table = ahead.popleft().result()
            if part:
                ahead.append(pool.submit(read, part))
            yield table


def encode_part(table: pa.Table, about: dict[str, str]) -> bytes:
    """A table as a Parquet file with checksummed pages; `about` goes into its metadata.

    One without rows has no row group either: readers choke on a group of no rows.
    """
    sink = pa.BufferOutputStream()
    table = table.replace_schema_metadata(about)
    with pq.ParquetWriter(
        sink, table.schema, compression="zstd", write_page_checksum=True
    ) as writer:
        if table.num_rows:
            writer.write_table(table)
    return sink.getvalue().to_pybytes()


class PartSequence:
    """The writing end of a sequence."""

    def __init__(
        self, folder: Folder, name: str, schema: pa.Schema, writer: str, run_id: str
    ) -> None:
        self.name = name
        self.schema = schema
        self.next_number = 0
        self.last_sha256 = ""
        self._folder = folder
        self._writer = writer
        self._run_id = run_id

    def fence(self) -> None:
        """Puts an empty part at the next free number, which ends any writer of before.

        Raises:
            StorageError: so many others write that no number could be had.
        """
        for _ in range(_FENCE_TRIES):
            self._find_end()
            try:
                self._put(self.schema.empty_table(), "fence")
                return
            except KeyTakenError:
                continue  # a writer of before was just faster: the number after it, then
        raise StorageError(f"the output {self._folder.uri} is written by others all the time")

    def _find_end(self) -> None:
        """Goes on after the last part that exists."""
        parts = list_parts(self._folder, self.name)
        if not parts:
            return
        last = parts[-1]
        body = self._folder.read(last.info.key)
        if body is None:
            raise StorageError(f"{self._folder.uri}/{last.info.key} was deleted while in use")
        self.next_number = last.number + 1
        self.last_sha256 = hashlib.sha256(body).hexdigest()

    def append(self, table: pa.Table) -> None:
        """Puts the next part; it is durable when this returns.

        Raises:
            OutputInUseError: another writer put a part of this number.
        """
        try:
            self._put(table.cast(self.schema), "rows")
        except KeyTakenError as error:
            raise OutputInUseError(
                f"another run has taken over the output {self._folder.uri}: this one ends, "
                "what it had logged stays"
            ) from error

    def _put(self, table: pa.Table, kind: str) -> None:
        about = {
            "sfray.kind": kind,
            "sfray.number": str(self.next_number),
            "sfray.writer": self._writer,
            "sfray.run_id": self._run_id,
            "sfray.previous_sha256": self.last_sha256,
        }
        body = encode_part(table, about)
        self._folder.put_new(part_key(self.name, self.next_number), body, self._writer)
        self.next_number += 1
        self.last_sha256 = hashlib.sha256(body).hexdigest()

"""Reads answers as a stranger does: every Parquet file of the folder, nothing else known."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from sfray.config import StorageSpec


@dataclass(frozen=True, slots=True)
class Place:
    """A folder of Parquet files, local or on S3."""

    uri: str
    storage: StorageSpec

    def files(self) -> list[bytes]:
        """The content of every file, in order of name."""
        options: dict[str, Any] = {}
        if self.uri.startswith("s3://"):
            options = {
                "client_kwargs": {"endpoint_url": self.storage.endpoint_url},
                "config_kwargs": {"s3": {"addressing_style": "path"}},
                "use_listings_cache": False,
                "skip_instance_cache": True,
            }
        system, path = fsspec.core.url_to_fs(self.uri, **options)
        if not system.exists(path):
            return []
        return [system.cat_file(name) for name in sorted(system.ls(path, detail=False))]


def read_rows(place: Place, column: str) -> list[tuple[str, str]]:
    """`request_id` and a column of all rows; raises where a file is no whole Parquet file."""
    rows: list[tuple[str, str]] = []
    for body in place.files():
        file = pq.ParquetFile(pa.BufferReader(body), page_checksum_verification=True)
        table = file.read(["request_id", column])
        rows += zip(table["request_id"].to_pylist(), table[column].to_pylist(), strict=True)
    return rows


def num_doubled(rows: list[tuple[str, str]]) -> int:
    """Rows of ids that are there already."""
    return sum(count - 1 for count in Counter(request_id for request_id, _ in rows).values())


@dataclass
class Reader:
    """Reads the answers again and again while a job runs, in a thread of its own."""

    place: Place
    num_reads: int = 0
    complaints: list[str] = field(default_factory=list)

    def __enter__(self) -> Reader:
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._read_until_ended, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _read_until_ended(self) -> None:
        seen: dict[str, str] = {}
        while not self._ended.wait(0.5):
            try:
                rows = read_rows(self.place, "text")
            except (pa.ArrowException, OSError) as error:
                self.complaints.append(f"a part could not be read: {error}")
                continue
            if doubled := num_doubled(rows):
                self.complaints.append(f"{doubled} rows were there twice")
            now = dict(rows)
            if gone := [i for i, text in seen.items() if now.get(i) != text]:
                self.complaints.append(f"{len(gone)} answers went away or changed")
            seen = now
            self.num_reads += 1

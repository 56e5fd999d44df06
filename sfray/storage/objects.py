"""A folder of write-once objects, put if absent: the ground of the results log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa


class KeyTakenError(Exception):
    """The key holds an object that another writer put."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object of a listing."""

    key: str
    num_bytes: int


class Lease(Protocol):
    """The right to write to a folder, held by one writer at a time as long as all goes well."""

    @property
    def lost(self) -> bool:
        """Whether another writer is known to have taken it."""
        ...

    @property
    def num_rows_before(self) -> int:
        """What the last holder noted; 0 where there was none."""
        ...

    def note(self, num_rows: int) -> None:
        """Leaves word for the next holder of how many rows the log has once all that this one has
        taken in is written."""
        ...

    def release(self) -> None:
        """Gives it back, so that the next writer need not wait."""
        ...


class Folder(Protocol):
    """Objects by key, each whole or absent. Every method raises `StorageError` on a fault."""

    uri: str

    def put_new(self, key: str, body: bytes, writer: str) -> None:
        """Puts an object where none is; durable when this returns.

        Putting the same body by the same writer again succeeds, since a reply can be lost.

        Raises:
            KeyTakenError: another writer's object is there.
        """
        ...

    def list_objects(self, prefix: str) -> list[ObjectInfo]:
        """The objects whose key begins with `prefix`, a folder's name with its slash, sorted."""
        ...

    def list_folders(self, prefix: str) -> list[str]:
        """The names of the folders right below `prefix`, a folder's name with its slash, sorted."""
        ...

    def read(self, key: str) -> bytes | None:
        """An object's body; None where there is none."""
        ...

    def open(self, info: ObjectInfo) -> pa.NativeFile:
        """A seekable file that reads only what is asked for."""
        ...

    def check_writable(self) -> None:
        """Raises `StorageError` if nothing could be written, as far as that can be told without
        writing anything."""
        ...

    def take_lease(self, owner: str, wait: bool) -> Lease:
        """Takes the lease; `owner` says in messages who holds it.

        Raises:
            OutputInUseError: another writer holds it.
        """
        ...

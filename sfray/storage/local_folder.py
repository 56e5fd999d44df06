"""Write-once files in a local folder: whole or absent, and still there after a power cut."""

from __future__ import annotations

import errno
import fcntl
import os
import uuid
from pathlib import Path

import pyarrow as pa

from sfray.errors import OutputInUseError, StorageError
from sfray.storage.faults import storage_faults
from sfray.storage.objects import KeyTakenError, ObjectInfo

_TEMPORARY = "_sfray/tmp"
_LOCK = "_sfray/lock"


class LocalFolder:
    """A `Folder` on a file system with hard links."""

    def __init__(self, path: Path) -> None:
        self.uri = str(path)
        self._root = path

    def put_new(self, key: str, body: bytes, writer: str) -> None:
        """See `Folder`. A link fails where a file exists; a rename would overwrite it."""
        target = self._root / key
        with storage_faults(StorageError, f"the output {self.uri} can't be written"):
            self._make_folder(target.parent)
            self._make_folder(self._root / _TEMPORARY)
            temporary = self._root / _TEMPORARY / uuid.uuid4().hex
            try:
                _write_durably(temporary, body)
                try:
                    os.link(temporary, target)
                except FileExistsError:
                    # Over NFS the link may be made and the reply lost.
                    if not target.samefile(temporary):
                        raise KeyTakenError(key) from None
                _sync_folder(target.parent)
            finally:
                temporary.unlink(missing_ok=True)

    def list_objects(self, prefix: str) -> list[ObjectInfo]:
        """See `Folder`."""
        folder = self._root / prefix
        with storage_faults(StorageError, f"the output {self.uri} can't be read"):
            if not folder.is_dir():
                return []
            with os.scandir(folder) as entries:
                files = [e for e in entries if e.is_file()]
                found = [ObjectInfo(prefix + e.name, e.stat().st_size) for e in files]
        return sorted(found, key=lambda info: info.key)

    def list_folders(self, prefix: str) -> list[str]:
        """See `Folder`."""
        folder = self._root / prefix
        with storage_faults(StorageError, f"the output {self.uri} can't be read"):
            return sorted(p.name for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []

    def read(self, key: str) -> bytes | None:
        """See `Folder`."""
        with storage_faults(StorageError, f"the output {self.uri} can't be read"):
            try:
                return (self._root / key).read_bytes()
            except FileNotFoundError:
                return None

    def open(self, info: ObjectInfo) -> pa.NativeFile:
        """See `Folder`."""
        with storage_faults(StorageError, f"the output {self.uri} can't be read"):
            return pa.OSFile(str(self._root / info.key))

    def check_writable(self) -> None:
        """See `Folder`."""
        there = next(path for path in (self._root, *self._root.parents) if _exists(path))
        with storage_faults(StorageError, f"the output {self.uri} can't be written"):
            if not there.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, "", str(there))
            if os.statvfs(there).f_flag & os.ST_RDONLY:
                raise OSError(errno.EROFS, "", str(there))
            if not os.access(there, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, "", str(there))

    def take_lease(self, owner: str, wait: bool) -> FileLock:
        """See `Folder`. A lock goes with its process, so there is nothing to wait for."""
        with storage_faults(StorageError, f"the output {self.uri} can't be written"):
            self._make_folder(self._root / "_sfray")
            lock = os.open(self._root / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                _, holder = _read_lock(lock)
                os.close(lock)
                raise OutputInUseError(
                    f"the output {self.uri} is in use by {holder or 'another run'}"
                ) from error
            num_rows, _ = _read_lock(lock)
            os.ftruncate(lock, 0)
            os.pwrite(lock, _lock_content(num_rows, owner), 0)
            self._drop_leftovers()
        return FileLock(lock, num_rows)

    def _drop_leftovers(self) -> None:
        """Temporary files of writers that died; a writer that wakes up without its file fails."""
        folder = self._root / _TEMPORARY
        if folder.is_dir():
            for leftover in folder.iterdir():
                leftover.unlink(missing_ok=True)

    def _make_folder(self, folder: Path) -> None:
        if folder.is_dir():
            return
        self._make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)


class FileLock:
    """The lease of a local folder."""

    lost = False

    def __init__(self, descriptor: int, num_rows_before: int) -> None:
        self._descriptor = descriptor
        self.num_rows_before = num_rows_before

    def note(self, num_rows: int) -> None:
        """See `Lease`. Outlives the process, not the machine."""
        with storage_faults(StorageError, "the lock of the output can't be written"):
            os.pwrite(self._descriptor, _lock_content(num_rows), 0)

    def release(self) -> None:
        """See `Lease`."""
        os.close(self._descriptor)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # below a file, or in a folder that may not be looked into
        return False


def _lock_content(num_rows: int, owner: str = "") -> bytes:
    """What the holder noted, always as long, then who it is."""
    return f"{num_rows:012d} {owner}".encode()


def _read_lock(descriptor: int) -> tuple[int, str]:
    """What the holder noted, and who it is."""
    number, _, owner = os.pread(descriptor, 1000, 0).decode("utf-8", "replace").partition(" ")
    return (int(number), owner) if number.isdigit() else (0, "")


def _write_durably(path: Path, body: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        rest = memoryview(body)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

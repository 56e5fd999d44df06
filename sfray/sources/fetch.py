"""The bytes of one video, wherever they are: within what the job allows, and no more than needed.

Local files are read in place. Small remote files are fetched whole into a nameless scratch file,
which the kernel removes even after a crash. Long ones are read by range through a block cache.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import tempfile
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from sfray.config import StorageSpec, VideosSpec
from sfray.errors import RequestError
from sfray.process import path_of_descriptor
from sfray.redaction import redact
from sfray.sources.remote import FetchTerms, RemoteFile, scratch_space, video_changed
from sfray.storage.uris import is_remote, local_path, scheme_of

_CACHED_BLOCKS = 128
# So many are fetched at once at most: of what is expected to be read, and else more from one
# consecutive miss to the next.
_MAX_READ_AHEAD_BLOCKS = 16


class FetchedFile:
    """One file that is open for reading.

    Attributes:
        size: in bytes.
        etag: of the object or answer; None where the storage gives none.
        sha256: of the content, where all of it was fetched; else None.
        descriptor: read-only; None where bytes are read by range.
        bytes_fetched: over the network so far.
        fetch_seconds: spent waiting for the storage so far.
    """

    def __init__(
        self,
        size: int,
        *,
        descriptor: int | None = None,
        remote: RemoteFile | None = None,
        sha256: str | None = None,
        terms: FetchTerms = FetchTerms(),
    ) -> None:
        self.size = size
        self.etag = remote.etag if remote else None
        self.sha256 = sha256
        self.descriptor = descriptor
        self.fetch_seconds = 0.0
        self._remote = remote
        self._block_bytes = terms.block_bytes
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._last_block = -1
        self._read_ahead = 1
        self._counted = (0, 0.0)

    @property
    def bytes_fetched(self) -> int:
        return self._remote.bytes_fetched if self._remote else 0

    def count(self) -> tuple[int, float]:
        """Bytes fetched and seconds spent on it since the last call."""
        before, now = self._counted, (self.bytes_fetched, self.fetch_seconds)
        self._counted = now
        return now[0] - before[0], now[1] - before[1]

    def read(self, offset: int, length: int, expected_end: int = 0) -> bytes:
        """At most `length` bytes from `offset` on; less at the end of the file only.

        Args:
            expected_end: up to where the reader knows that it will go on; 0 where it doesn't.

        Raises:
            RequestError: the storage doesn't deliver, or the file has changed.
        """
        length = max(0, min(length, self.size - offset))
        if self.descriptor is not None:
            return os.pread(self.descriptor, length, offset)
        if self._remote is None:
            raise ValueError("a file without a descriptor is a remote one")
        first, last = (at // self._block_bytes for at in (offset, offset + length - 1))
        expected = (expected_end - 1) // self._block_bytes
        blocks = (
            self._block(self._remote, index, last, expected) for index in range(first, last + 1)
        )
        data = b"".join(blocks)
        start = offset - first * self._block_bytes
        return data[start : start + length]

    def close(self) -> None:
        if self.descriptor is not None:
            os.close(self.descriptor)
        if self._remote:
            self._remote.close()

    def _block(self, remote: RemoteFile, index: int, last_wanted: int, expected: int) -> bytes:
        if index not in self._blocks:
            self._fetch_blocks(remote, index, last_wanted, expected)
        self._blocks.move_to_end(index)
        return self._blocks[index]

    def _fetch_blocks(
        self, remote: RemoteFile, index: int, last_wanted: int, expected: int
    ) -> None:
        """Fetches a missing block and those after it that are expected to be read; where nothing
        is known and reading goes on in sequence, some."""
        in_sequence = index == self._last_block + 1
        self._read_ahead = min(self._read_ahead * 2, _MAX_READ_AHEAD_BLOCKS) if in_sequence else 1
        ahead = expected if expected >= index else index + self._read_ahead - 1
        last = max(last_wanted, ahead)
        step = self._block_bytes
        last = min(last, (self.size - 1) // step, index + _MAX_READ_AHEAD_BLOCKS - 1)
        began = time.monotonic()
        low, high = index * step, min((last + 1) * step, self.size)
        data = remote.read(low, high - low)
        self.fetch_seconds += time.monotonic() - began
        for number in range(index, last + 1):
            start = (number - index) * step
            self._blocks[number] = data[start : start + step]
        self._last_block = last
        while len(self._blocks) > _CACHED_BLOCKS:
            self._blocks.popitem(last=False)


class Fetcher:
    """Opens files within the limits of a job, one at a time.

    The last remote file is kept, since the clips of a video come one after the other.
    """

    def __init__(
        self, videos: VideosSpec, storage: StorageSpec, terms: FetchTerms = FetchTerms()
    ) -> None:
        self._videos = videos
        self._storage = storage
        self._terms = terms
        self._kept: tuple[str, FetchedFile] | None = None

    @contextmanager
    def open(self, uri: str, *, whole: bool = False) -> Iterator[FetchedFile]:
        """Opens a file by its resolved URI.

        Args:
            whole: fetch the file whole, whatever its size.

        Raises:
            RequestError: with the code of what stands in the way.
            StorageError: the bucket or the credentials are wrong, which concerns the whole job.
        """
        self._check_scheme(uri)
        if not is_remote(uri):
            file = self._open_local(uri)
            try:
                yield file
            finally:
                file.close()
            return
        if self._kept is None or self._kept[0] != uri:
            self.close()
            self._kept = (uri, self._open_remote(uri, whole))
        try:
            yield self._kept[1]
        except BaseException:
            # It may have changed, or be what is broken.
            self.close()
            raise

    def close(self) -> None:
        """Lets the kept file go."""
        kept, self._kept = self._kept, None
        if kept is not None:
            kept[1].close()

    def _check_scheme(self, uri: str) -> None:
        scheme, allowed = scheme_of(uri), self._videos.allowed_schemes
        if scheme not in allowed:
            raise RequestError(
                "uri_refused",
                f"the scheme {scheme!r} is not among videos.allowed_schemes: {', '.join(allowed)}",
            )
        self._check_stays_in_root(uri)

    def _check_stays_in_root(self, uri: str) -> None:
        root = self._videos.root
        if root and _lies_under(root, uri) and ".." in uri[len(root) :].split("/"):
            raise RequestError("uri_refused", f"{redact(uri)!r} leaves videos.root")

    def _check_size(self, size: int) -> None:
        if size > self._videos.max_file_bytes:
            raise RequestError(
                "file_too_large",
                f"the file has {size} bytes, more than the {self._videos.max_file_bytes} of"
                " videos.max_file_bytes",
            )

    def _open_local(self, uri: str) -> FetchedFile:
        path = local_path(uri)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (OSError, ValueError) as error:
            raise _local_failure(error) from error
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise RequestError("uri_refused", "the path leads to no regular file")
            self._check_inside_local_root(uri, descriptor)
            self._check_size(status.st_size)
        except BaseException:
            os.close(descriptor)
            raise
        return FetchedFile(status.st_size, descriptor=descriptor)

    def _check_inside_local_root(self, uri: str, descriptor: int) -> None:
        root = self._videos.root
        if not root or is_remote(root) or not _lies_under(root, uri):
            return
        if not _real_path(uri, descriptor).is_relative_to(local_path(root).resolve()):
            raise RequestError("uri_refused", "a symbolic link leads out of videos.root")

    def _open_remote(self, uri: str, whole: bool) -> FetchedFile:
        began = time.monotonic()
        remote = open_remote(uri, self._videos, self._storage, self._terms)
        try:
            self._check_size(remote.size)
            descriptor, sha256 = None, remote.sha256
            if whole or remote.size <= self._terms.whole_file_bytes:
                descriptor, sha256 = self._copy_to_scratch(remote)
        except BaseException:
            remote.close()
            raise
        file = FetchedFile(
            remote.size, descriptor=descriptor, remote=remote, sha256=sha256, terms=self._terms
        )
        file.fetch_seconds = time.monotonic() - began
        return file

    def _copy_to_scratch(self, remote: RemoteFile) -> tuple[int, str]:
        """A read-only descriptor of a nameless file with the whole content, and its SHA-256."""
        step = _MAX_READ_AHEAD_BLOCKS * self._terms.block_bytes
        digest = hashlib.sha256()
        with scratch_space(), _scratch_file() as (scratch, descriptor):
            for offset in range(0, remote.size, step):
                data = remote.read(offset, min(step, remote.size - offset))
                digest.update(data)
                scratch.write(data)
            scratch.flush()
        return descriptor, digest.hexdigest()


def open_remote(
    uri: str, videos: VideosSpec, storage: StorageSpec, terms: FetchTerms
) -> RemoteFile:
    """The file behind a URI with the scheme s3, gs, http or https.

    Raises:
        RequestError: the file is missing, forbidden, refused, or doesn't come.
        StorageError: the bucket is missing or the credentials are wrong.
    """
    # Each way brings libraries of its own along.
    scheme = scheme_of(uri)
    if scheme == "s3":
        from sfray.sources.s3 import S3File

        return S3File(uri, storage, terms)
    if scheme in ("http", "https"):
        from sfray.sources.web import WebFile

        return WebFile(uri, videos, terms)
    from sfray.sources.gs import GsFile

    return GsFile(uri, storage)


@contextmanager
def _scratch_file() -> Iterator[tuple[BinaryIO, int]]:
    """A nameless file to write to, and a read-only descriptor of it that stays after the block.

    Where the block fails, both are closed.
    """
    writable, path = tempfile.mkstemp(prefix="sfray-")
    with os.fdopen(writable, "wb") as scratch:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        finally:
            Path(path).unlink()
        try:
            yield scratch, descriptor
        except BaseException:
            os.close(descriptor)
            raise


def _real_path(uri: str, descriptor: int) -> Path:
    """Where a file lies that was opened by its path: not what the path leads to by now."""
    link = path_of_descriptor(descriptor)
    if link is not None:
        return link.readlink()
    try:
        real = local_path(uri).resolve()
        if not os.path.samestat(real.stat(), os.fstat(descriptor)):
            raise video_changed()
    except OSError as error:
        raise video_changed() from error
    return real


def _lies_under(root: str, uri: str) -> bool:
    return uri.startswith(root if root.endswith("/") else f"{root}/")


def _local_failure(error: OSError | ValueError) -> RequestError:
    if isinstance(error, PermissionError):
        return RequestError("access_denied", "permission denied")
    if isinstance(error, FileNotFoundError | NotADirectoryError | ValueError):
        return RequestError("not_found", "the file does not exist")
    if error.errno == errno.ENAMETOOLONG:
        return RequestError("not_found", "the path is too long to exist")
    if error.errno == errno.ELOOP:
        return RequestError("not_found", "the path is a loop of symbolic links")
    return RequestError(
        "fetch_failed", f"the file can't be opened: {os.strerror(error.errno or 0)}"
    )

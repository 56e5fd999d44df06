"""Files on object stores and web servers, read by range.

Each is one version of a file: a change while it is read is noticed. What servers say is sorted:
a missing or forbidden file concerns its requests, a missing bucket or a wrong key the whole job.
"""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from sfray.errors import RequestError
from sfray.storage.patience import Patience


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchTerms:
    """How much is fetched at a time, and how long it is waited for.

    Attributes:
        whole_file_bytes: up to this size a file is fetched whole: fewer round trips cost less than
            bytes.
        block_bytes: a longer file is read in multiples of it.
        first_bytes: the first request brings so much along, which is all of a small file.
        read_seconds: for the next bytes of an answer.
        patience: of one read of the storage.
    """

    whole_file_bytes: int = 16 * 2**20
    block_bytes: int = 256 * 2**10
    first_bytes: int = 2**20
    read_seconds: float = 30.0
    # A hiccup is over by then. Whatever takes longer costs this video an answer that a later round
    # or run gets; its worker goes on with another video, which may be elsewhere. A dead link holds
    # a worker for so long, too.
    patience: Patience = Patience(seconds=5.0, max_wait_seconds=2.0)


class RemoteFile(Protocol):
    """One version of one file. `bytes_fetched` counts all bytes that came.

    `etag` is None where the storage gives none; `sha256` is that of a file that came whole.
    """

    size: int
    etag: str | None
    sha256: str | None
    bytes_fetched: int

    def read(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes, which the file must have; raises `RequestError`."""
        ...

    def close(self) -> None: ...


def plain_etag(etag: str | None) -> str | None:
    """An ETag without its quotes, as listings have it."""
    return etag.strip('"') if etag else None


@contextmanager
def scratch_space() -> Iterator[None]:
    """Tells of a full scratch disk as what it is."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise RequestError(
            "scratch_full", f"no space is left in {tempfile.gettempdir()} to hold the file"
        ) from error


def video_changed() -> RequestError:
    return RequestError("video_changed", "the file changed while it was read")

"""Files on object stores and web servers, read by range.

Each is one version of a file: a change while it is read is noticed. What servers say is sorted:
a missing or forbidden file concerns its requests, a missing bucket or a wrong key the whole job.
"""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from sfray.errors import RequestError

CONNECT_SECONDS = 10
READ_SECONDS = 30
# The first request brings so much along, which is all of a small file.
FIRST_BYTES = 2**20

_ATTEMPTS = 5
_MAX_WAIT_SECONDS = 8


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


def plain_etag(told: str | None) -> str | None:
    """An ETag without its quotes, as listings have it."""
    return told.strip('"') if told else None


class ShortReadError(Exception):
    """An answer ended before all of its bytes had come."""


def with_retries(attempt: Callable[[], Any], is_passing: Callable[[BaseException], bool]) -> Any:
    """The result of `attempt`, tried again with backoff and jitter where that may help."""
    return Retrying(
        retry=retry_if_exception(is_passing),
        stop=stop_after_attempt(_ATTEMPTS),
        wait=wait_random_exponential(multiplier=0.2, max=_MAX_WAIT_SECONDS),
        reraise=True,
    )(attempt)


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

"""One video, fetched, looked at before a demuxer is, and read again where it changes meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from sfray.errors import RequestError
from sfray.records import VideoSource
from sfray.sources.fetch import FetchedFile, Fetcher
from sfray.video.content import HEAD_BYTES, check_content

T = TypeVar("T")

_READS_OF_CHANGING_FILE = 3


class Meter:
    """What reading one video took, over all reads of its file, from this object's making on.

    `source` is what the file was when it was read last.
    """

    def __init__(self) -> None:
        self._began = time.monotonic()
        self.bytes_fetched = 0
        self.fetch_seconds = 0.0
        self.source = VideoSource()

    @property
    def other_seconds(self) -> float:
        """Those that went to something else than fetching."""
        return max(0.0, time.monotonic() - self._began - self.fetch_seconds)

    def add(self, file: FetchedFile) -> None:
        bytes_fetched, fetch_seconds = file.count()
        self.bytes_fetched += bytes_fetched
        self.fetch_seconds += fetch_seconds
        self.source = VideoSource(size_bytes=file.size, etag=file.etag, sha256=file.sha256)


def read_video(
    fetcher: Fetcher,
    uri: str,
    read: Callable[[FetchedFile], T],
    *,
    whole: bool = False,
    meter: Meter | None = None,
) -> T:
    """What `read` makes of a video.

    Args:
        whole: fetch the file whole, whatever its size.

    Raises:
        RequestError: the file can't be fetched or is no video, or `read` raises it.
        StorageError: the bucket or the credentials are wrong, which concerns the whole job.
    """
    for reads_left in reversed(range(_READS_OF_CHANGING_FILE)):
        try:
            with fetcher.open(uri, whole=whole) as file:
                try:
                    check_content(file.read(0, HEAD_BYTES), file.size)
                    return read(file)
                finally:
                    if meter:
                        meter.add(file)
        except RequestError as error:
            if error.code != "video_changed" or not reads_left:
                raise
    raise AssertionError("the last read returns or raises")

"""The stage that finds the windows of a clip: opens a video, decodes it for scenes only."""

from __future__ import annotations

from sfray.config import DecodeSpec, StorageSpec, VideosSpec, WindowsSpec
from sfray.errors import RequestError
from sfray.records import ClipWindows, RequestFailure, WorkItem
from sfray.sources.fetch import FetchedFile, Fetcher
from sfray.stages.read_video import read_video
from sfray.video.sandbox.parent import Sandbox


class FindWindows:
    """Takes work items to the windows of their clips; not thread-safe.

    Args:
        videos: where files may come from.
        storage: how object stores are reached.
        decode: the limits of the process that decodes.
        windows: what clips are cut into.
    """

    def __init__(
        self, videos: VideosSpec, storage: StorageSpec, decode: DecodeSpec, windows: WindowsSpec
    ) -> None:
        self._fetcher = Fetcher(videos, storage)
        self._sandbox = Sandbox(decode, num_frames=1, image_size=1)
        self._windows = windows

    def __call__(self, item: WorkItem) -> ClipWindows | RequestFailure:
        """The windows, or the failure that stands in their place.

        Raises:
            StorageError: the bucket or the credentials are wrong, which concerns the whole job.
        """

        def find(file: FetchedFile) -> ClipWindows:
            return tuple(
                self._sandbox.find_windows(
                    file,
                    self._windows,
                    start_seconds=item.start_seconds,
                    end_seconds=item.end_seconds,
                )
            )

        try:
            return read_video(self._fetcher, item.fetch_uri, find)
        except RequestError as error:
            return RequestFailure.of(error)

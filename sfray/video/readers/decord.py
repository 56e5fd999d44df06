"""Reads the frames of a clip with decord, among all coded frames as decord counts them.

decord is right for closed groups of pictures in mp4, Matroska and WebM; elsewhere it gives other
frames without a word (see `selection`), and it repeats frames on damage.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from sfray.errors import RequestError
from sfray.process import path_of_descriptor
from sfray.video.container import check_num_frames
from sfray.video.pixels import squash
from sfray.video.readers.pyav import ClipRequest
from sfray.video.timeline import Timeline

# So many frames are held at their full size at once.
_BATCH_FRAMES = 4


class DecordReader:
    """Reads clips of one file given by a file descriptor."""

    def __init__(self, descriptor: int) -> None:
        import decord  # only where it is asked for: its libraries take their time to load

        decord.logging.set_level(decord.logging.QUIET)
        self._error: type[Exception] = decord.DECORDError
        try:
            # A descriptor has no name of its own; reading it whole would cost its size in memory.
            # Systems other than Linux open it where it was read last.
            os.lseek(descriptor, 0, os.SEEK_SET)
            path = path_of_descriptor(descriptor) or f"/dev/fd/{descriptor}"
            self._video: Any = decord.VideoReader(str(path), num_threads=1)
        except (decord.DECORDError, AssertionError, RuntimeError) as error:
            raise RequestError("decode_failed", "decord can't open the video") from error

    def __len__(self) -> int:
        return len(self._video)

    def timeline(self, max_frames: int) -> Timeline:
        """The timeline by decord's own timestamps."""
        check_num_frames(len(self), max_frames)
        spans = np.atleast_2d(self._video.get_frame_timestamp(range(len(self))))
        last_seconds = float(spans[-1, 1] - spans[-1, 0])
        return Timeline.of(
            list(spans[:, 0].astype(np.float64)), self._video.get_avg_fps(), last_seconds
        )

    def frames(self, indices: np.ndarray, request: ClipRequest) -> Iterator[tuple[int, np.ndarray]]:
        """Pairs of frame index and uint8 (image_size, image_size, 3).

        Raises:
            RequestError: `decode_failed` where decord gives up.
        """
        unique = np.unique(indices)
        for low in range(0, len(unique), _BATCH_FRAMES):
            part = unique[low : low + _BATCH_FRAMES].tolist()
            try:
                batch_THWC = self._video.get_batch(part).asnumpy()
            except (self._error, RuntimeError) as error:
                raise RequestError("decode_failed", "decord can't decode the frames") from error
            for index, rgb_HWC in zip(part, batch_THWC, strict=True):
                yield index, squash(rgb_HWC, request.image_size)

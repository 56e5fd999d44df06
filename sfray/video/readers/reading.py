"""One clip of one file, whichever reader delivers it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from sfray.errors import RequestError
from sfray.video.container import Opener, RandomAccess, open_video
from sfray.video.readers.decord import DecordReader
from sfray.video.readers.probe import describe, first_frame
from sfray.video.readers.pyav import ClipRequest, PyavReader
from sfray.video.readers.selection import choose_reader


def read_clip(
    source: int | RandomAccess,
    request: ClipRequest,
    *,
    reader: str,
    max_substituted_ratio: float,
    frames_THWC: np.ndarray,
) -> dict[str, Any]:
    """Reads the sampled frames of a clip into `frames_THWC`, from its start on.

    Args:
        frames_THWC: uint8 (num_frames, image_size, image_size, 3), written to.

    Returns:
        frame_indices, pts_seconds, facts, reader, reader_reason and num_substituted_frames, as
        `sfray.records.DecodedVideo` has them, in plain lists and dictionaries.

    Raises:
        RequestError: the clip can't be read.
    """
    opener = partial(
        open_video,
        source,
        max_frame_pixels=request.max_frame_pixels,
        max_frames=request.max_frames,
    )
    choice = choose_reader(reader, has_descriptor=isinstance(source, int))
    if choice.reader == "decord" and isinstance(source, int):
        clip = _read_with_decord(source, opener, request, frames_THWC)
    else:
        clip = _read_with_pyav(opener, request, frames_THWC)
    num_damaged, num_frames = clip["num_substituted_frames"], len(clip["frame_indices"])
    if num_damaged > max_substituted_ratio * num_frames:
        raise RequestError(
            "too_many_substituted",
            f"{num_damaged} of {num_frames} frames are damaged, more than the share of"
            f" {max_substituted_ratio:g} that decode.max_substituted_ratio allows",
        )
    return clip | {"reader": choice.reader, "reader_reason": choice.reason}


def _read_with_pyav(
    opener: Opener,
    request: ClipRequest,
    frames_THWC: np.ndarray,
) -> dict[str, Any]:
    clip = PyavReader(opener).read(request)
    _place(iter(clip.frames.items()), clip.indices, frames_THWC)
    return {
        "frame_indices": clip.indices.tolist(),
        "pts_seconds": clip.timeline.pts_seconds[clip.indices].tolist(),
        "facts": describe(clip.stream, clip.first, clip.timeline),
        "num_substituted_frames": clip.num_damaged,
    }


def _read_with_decord(
    descriptor: int,
    opener: Opener,
    request: ClipRequest,
    frames_THWC: np.ndarray,
) -> dict[str, Any]:
    # First with PyAV, which opens what its lists allow and nothing else.
    first = first_frame(opener)
    with opener() as video:
        stream = video.facts
    decord_reader = DecordReader(descriptor)
    timeline = decord_reader.timeline(request.max_frames)
    indices = request.indices(timeline)
    _place(decord_reader.frames(indices, request), indices, frames_THWC)
    return {
        "frame_indices": indices.tolist(),
        "pts_seconds": timeline.pts_seconds[indices].tolist(),
        "facts": describe(stream, first, timeline),
        "num_substituted_frames": 0,
    }


def _place(
    frames: Iterator[tuple[int, np.ndarray]], indices: np.ndarray, frames_THWC: np.ndarray
) -> None:
    """Copies each frame to all places of its index; an index may come twice."""
    for index, frame_HWC in frames:
        frames_THWC[: len(indices)][indices == index] = frame_HWC

"""The facts of a video, from its container, its first frame and its timeline."""

from __future__ import annotations

from typing import Any

import av

from sfray.errors import RequestError
from sfray.video.container import Opener, StreamFacts
from sfray.video.packets import PacketTable, read_table
from sfray.video.pixels import orientation_of_frame
from sfray.video.readers.pyav import decoded_frames, prove_timeline
from sfray.video.timeline import Timeline

# Frame counts are proven by decoding where that takes seconds at most, as pixels in all.
_MAX_PROOF_PIXELS = 10**9
_MAX_FPS_ERROR = 0.01


def describe(
    stream: StreamFacts, first: av.VideoFrame, timeline: Timeline
) -> dict[str, str | int | float | None]:
    """The values of `sfray.records.VideoFacts`."""
    orientation = orientation_of_frame(first)
    # Players widen or narrow what has pixels that are not square.
    width, height = max(1, round(first.width * stream.pixel_ratio)), first.height
    if orientation.swaps_sides:
        width, height = height, width
    return {
        "container": stream.container,
        "codec": stream.codec,
        "pixel_format": first.format.name,
        "width": width,
        "height": height,
        "rotation_degrees": orientation.rotation_degrees,
        "fps": _fps(stream.fps, timeline.fps),
        "duration_seconds": timeline.duration_seconds,
        "num_frames": len(timeline),
        "declared_duration_seconds": stream.declared_duration_seconds,
    }


def _fps(claimed: float | None, measured: float | None) -> float | None:
    """The rate that the container claims where the frames bear it out, else the frames' own."""
    if claimed and measured and abs(claimed - measured) > _MAX_FPS_ERROR * measured:
        return measured
    return claimed or measured


def first_frame(opener: Opener) -> av.VideoFrame:
    """Raises `RequestError` where there is none."""
    with opener() as video:
        for frame in decoded_frames(video):
            return frame
    raise RequestError("no_frames", "not one frame could be decoded")


def probe(opener: Opener) -> dict[str, Any]:
    """The facts of a file.

    Raises:
        RequestError: the file can't be opened or has no frame.
    """
    table = read_table(opener)
    first = first_frame(opener)
    return describe(table.stream, first, proven_timeline(opener, table, first))


def proven_timeline(opener: Opener, table: PacketTable, first: av.VideoFrame) -> Timeline:
    """The timeline that packets announce. Short videos are decoded through, since headers and
    packets may lie."""
    if first.width * first.height * table.num_packets <= _MAX_PROOF_PIXELS:
        return prove_timeline(opener)
    return table.timeline

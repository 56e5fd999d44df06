"""What a container's packets tell of a video without decoding them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import av
import numpy as np

from sfray.video.container import OpenVideo, StreamFacts, translated_errors
from sfray.video.timeline import Timeline

# Where a packet holds one displayed frame and seeking leads to a keyframe, by demuxer and codec.
_SEEKABLE_FORMATS = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"}
_SEEKABLE_CODECS = {
    *("h264", "hevc", "vp9", "av1", "mpeg4", "mpeg2video", "mpeg1video"),
    *("mjpeg", "prores", "dnxhd", "ffv1", "huffyuv", "ffvhuff", "png", "rawvideo"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PacketTable:
    """The displayed frames as the packets announce them, in display order.

    Attributes:
        pts: int64 (N,) in units of the stream's time base; empty where packets lack timestamps.
        is_keyframe: bool (N,).
        seekable: whether a frame may be looked for by its timestamp after a seek.
        num_packets: of the video stream, hidden ones included.
    """

    stream: StreamFacts
    timeline: Timeline
    pts: np.ndarray
    is_keyframe: np.ndarray
    seekable: bool
    num_packets: int


def packets_of(video: OpenVideo) -> Iterator[av.Packet]:
    """The stream's packets from where the container stands. Damage in the container ends them."""
    packets = video.container.demux(video.stream)
    with translated_errors("decode_failed", "the container can't be read"):
        while True:
            try:
                packet = next(packets, None)
            except av.error.MemoryError:
                raise
            except av.FFmpegError:
                return  # as ffmpeg does: what came so far is the video
            if packet is None or not packet.size:
                return
            yield packet


def scan_packets(video: OpenVideo) -> PacketTable:
    """Reads all packets of the stream.

    Packets that an edit list hides (marked to be discarded) count as no frame.
    """
    pts: list[int | None] = []
    durations: list[int] = []
    keys: list[bool] = []
    num_packets = 0
    for packet in packets_of(video):
        num_packets += 1
        if packet.is_discard:
            continue
        pts.append(packet.pts)
        durations.append(packet.duration or 0)
        keys.append(packet.is_keyframe)
    return _table(video, pts, durations, keys, num_packets)


def _table(
    video: OpenVideo,
    pts: list[int | None],
    durations: list[int],
    keys: list[bool],
    num_packets: int,
) -> PacketTable:
    stream = video.facts
    is_keyframe = np.array(keys, dtype=bool)
    if any(one is None for one in pts):
        return PacketTable(
            stream=stream,
            timeline=Timeline.of([None] * len(pts), stream.fps, None),
            pts=np.empty(0, dtype=np.int64),
            is_keyframe=is_keyframe,
            seekable=False,
            num_packets=num_packets,
        )
    units = np.array(pts, dtype=np.int64)
    order = np.argsort(units, kind="stable")
    units = units[order]
    last_seconds = durations[order[-1]] * video.time_base if len(order) else None
    return PacketTable(
        stream=stream,
        timeline=Timeline.of(list(units * video.time_base), stream.fps, last_seconds),
        pts=units,
        is_keyframe=is_keyframe[order],
        seekable=stream.container in _SEEKABLE_FORMATS
        and stream.codec in _SEEKABLE_CODECS
        and bool((np.diff(units) > 0).all()),
        num_packets=num_packets,
    )

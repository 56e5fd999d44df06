"""What a container tells of a video without decoding it: by its index, or by its packets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice

import av
import numpy as np

from sfray.video.container import Opener, OpenVideo, StreamFacts, check_num_frames
from sfray.video.timeline import Timeline

_MOV = "mov,mp4,m4a,3gp,3g2,mj2"
_MATROSKA = "matroska,webm"
# Of these, in the containers above, a packet holds one displayed frame.
_PLAIN_CODECS = {
    *("h264", "hevc", "vp9", "av1", "mpeg4", "mpeg2video", "mpeg1video"),
    *("mjpeg", "prores", "dnxhd", "ffv1", "huffyuv", "ffvhuff", "png", "rawvideo"),
}
# What is displayed first is among so many packets.
_MAX_REORDERED_PACKETS = 32


class PredictionFailedError(Exception):
    """A frame did not come where the container said it would."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PacketTable:
    """The displayed frames as the container announces them, in display order.

    Attributes:
        pts: int64 (N,), strictly increasing, in units of the stream's time base; empty where
            timestamps are missing or useless.
        key_indices: int64 (K,), ascending, of keyframes. By the index of a container these are
            lower bounds: in open groups of pictures a keyframe is shown some frames later.
        is_seekable: whether a seek leads to a keyframe, and frames are known by timestamp.
        num_packets: of the stream, hidden ones included.
    """

    stream: StreamFacts
    timeline: Timeline
    pts: np.ndarray
    key_indices: np.ndarray
    is_seekable: bool
    num_packets: int


def read_table(opener: Opener) -> PacketTable:
    """The table by the container's index where that says enough, else by all packets."""
    with opener() as video:
        table = _table_of_index(video)
    if table is None:
        with opener() as video:
            table = _table_of_packets(video)
    return table


def packets_of(video: OpenVideo) -> Iterator[av.Packet]:
    """The stream's packets from where the container stands. Damage in the container ends them."""
    packets = video.container.demux(video.stream)
    for number in count(1):
        try:
            packet = next(packets, None)
        except av.FFmpegError:
            # As ffmpeg does: what came so far is the video. That goes for a lack of memory too,
            # which a size that no file has leads to.
            return
        if packet is None or not packet.size:
            return
        check_num_frames(number, video.max_frames)
        yield packet


def _table_of_index(video: OpenVideo) -> PacketTable | None:
    """The table of a mov or mp4 file by the index in its header; None where that is not enough.

    The index holds decoding times. Where these are evenly spaced, so are the times of display,
    which begin at the least one of the first packets.
    """
    stream = video.facts
    if stream.container != _MOV or stream.codec not in _PLAIN_CODECS:
        return None
    check_num_frames(len(video.stream.index_entries), video.max_frames)
    entries = list(video.stream.index_entries)
    if not entries or len(entries) != video.stream.frames:
        return None
    if max(entry.pos + entry.size for entry in entries) > video.container.size:
        return None  # truncated
    shown = [entry for entry in entries if not entry.is_discard]
    dts = np.array([entry.timestamp for entry in shown], dtype=np.int64)
    steps = np.unique(np.diff(dts))
    first_pts = _first_pts(video)
    if len(steps) != 1 or steps[0] <= 0 or first_pts is None:
        return None
    pts = first_pts + steps[0] * np.arange(len(shown))
    keys = np.array([i for i, entry in enumerate(shown) if entry.is_keyframe], dtype=np.int64)
    last_seconds = float(steps[0]) * video.time_base
    return PacketTable(
        stream=stream,
        timeline=Timeline.of(list(pts * video.time_base), stream.fps, last_seconds),
        pts=pts,
        key_indices=keys,
        is_seekable=True,
        num_packets=len(entries),
    )


def _first_pts(video: OpenVideo) -> int | None:
    """The least timestamp of a displayed packet, which is the first one without reordering."""
    num_packets = _MAX_REORDERED_PACKETS if video.stream.codec_context.has_b_frames else 1
    shown = (p.pts for p in packets_of(video) if not p.is_discard and p.pts is not None)
    return min(islice(shown, num_packets), default=None)


def _table_of_packets(video: OpenVideo) -> PacketTable:
    """The table by reading all packets. Those that an edit list hides count as no frame."""
    stream = video.facts
    num_packets = 0
    shown: list[tuple[int | None, int, bool]] = []
    for packet in packets_of(video):
        num_packets += 1
        if not packet.is_discard:
            shown.append((packet.pts, packet.duration or 0, packet.is_keyframe))
    known = sorted((one for one in shown if one[0] is not None), key=lambda one: one[0] or 0)
    pts = np.array([one[0] for one in known], dtype=np.int64)
    if len(known) < len(shown) or (np.diff(pts) <= 0).any():
        nothing = np.empty(0, dtype=np.int64)
        return PacketTable(
            stream=stream,
            timeline=Timeline.of([None] * len(shown), stream.fps, None),
            pts=nothing,
            key_indices=nothing,
            is_seekable=False,
            num_packets=num_packets,
        )
    keys = [index for index, one in enumerate(known) if one[2]]
    last_seconds = known[-1][1] * video.time_base if known else None
    return PacketTable(
        stream=stream,
        timeline=Timeline.of(list(pts * video.time_base), stream.fps, last_seconds),
        pts=pts,
        key_indices=np.array(keys, dtype=np.int64),
        is_seekable=stream.container in (_MOV, _MATROSKA) and stream.codec in _PLAIN_CODECS,
        num_packets=num_packets,
    )

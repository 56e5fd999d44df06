"""Reads the frames of a clip with PyAV.

The frame at index i is the i-th that the decoder puts out: what a viewer sees. The packets
predict how many there are and when; what is then decoded is held against the prediction, and a
prediction that fails is replaced by what decoding through the file has shown.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TypeAlias

import av
import numpy as np

from sfray.errors import RequestError
from sfray.video.container import Opener, OpenVideo, StreamFacts, translated_errors
from sfray.video.packets import PacketTable, PredictionFailedError, packets_of, read_table
from sfray.video.pixels import RgbConverter, squash
from sfray.video.sampling import sample_frame_indices
from sfray.video.timeline import Timeline

Frames: TypeAlias = Generator[av.VideoFrame, None, None]

# A seek costs about as much as decoding so many frames.
_SEEK_COST_FRAMES = 6
# Decoding through also proves how many frames there are, so seeking has to save this share.
_MIN_SEEK_SAVING = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipRequest:
    """Which frames are wanted, and how they are delivered."""

    start_seconds: float | None
    end_seconds: float | None
    num_frames: int
    image_size: int
    seek: str
    max_frame_pixels: int
    max_frames: int

    @property
    def is_whole_video(self) -> bool:
        return self.start_seconds is None and self.end_seconds is None

    def indices(self, timeline: Timeline) -> np.ndarray:
        """int64 (T,), ascending, counted from the start of the video.

        Raises:
            RequestError: `no_frames` for an empty timeline, or `clip_out_of_range`.
        """
        if not len(timeline):
            raise RequestError("no_frames", "not one frame could be decoded")
        low, high = timeline.clip(self.start_seconds, self.end_seconds)
        return low + sample_frame_indices(high - low, self.num_frames)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """Frames that were read.

    Attributes:
        indices: int64 (T,), ascending.
        frames: uint8 (image_size, image_size, 3) by frame index.
        first: the first frame that was decoded, for the facts that only a frame tells.
    """

    indices: np.ndarray
    timeline: Timeline
    stream: StreamFacts
    first: av.VideoFrame
    frames: dict[int, np.ndarray]
    num_damaged: int


class FrameTimes:
    """The times of frames as a decoder puts them out."""

    def __init__(self) -> None:
        self._pts_seconds: list[float | None] = []
        self._last_frame_seconds: float | None = None

    def add(self, frame: av.VideoFrame, time_base: float) -> None:
        """Adds the next frame."""
        self._pts_seconds.append(None if frame.pts is None else frame.pts * time_base)
        self._last_frame_seconds = (frame.duration or 0) * time_base

    @property
    def last_seconds(self) -> float | None:
        """When the last frame was shown, from the first one on; None where timestamps lack."""
        first, last = self._pts_seconds[0], self._pts_seconds[-1]
        return None if first is None or last is None else last - first

    def timeline(self, fps: float | None) -> Timeline:
        """Of all frames that were added."""
        return Timeline.of(self._pts_seconds, fps, self._last_frame_seconds)


class _Pass:
    """What one pass through a file gave: the times of all frames, and those that were wanted."""

    def __init__(self, wanted: np.ndarray, request: ClipRequest) -> None:
        self._wanted = set(wanted.tolist())
        self._request = request
        self._convert = RgbConverter(request.max_frame_pixels)
        self._first: av.VideoFrame | None = None
        self._times = FrameTimes()
        self._damaged: set[int] = set()
        self.frames: dict[int, np.ndarray] = {}

    @property
    def first(self) -> av.VideoFrame:
        if self._first is None:
            raise RequestError("no_frames", "not one frame could be decoded")
        return self._first

    def add(self, index: int, frame: av.VideoFrame, time_base: float) -> None:
        if self._first is None:
            self._first = frame
        self._times.add(frame, time_base)
        if index in self._wanted:
            self.frames[index] = squash(self._convert(frame), self._request.image_size)
            if frame.is_corrupt:
                self._damaged.add(index)

    def timeline(self, fps: float | None) -> Timeline:
        """Of all frames that were added."""
        return self._times.timeline(fps)

    def clip(self, indices: np.ndarray, timeline: Timeline, stream: StreamFacts) -> Clip:
        missing = [index for index in indices.tolist() if index not in self.frames]
        if missing:
            raise RequestError("decode_failed", f"frame {missing[0]} can't be decoded")
        return Clip(
            indices=indices,
            timeline=timeline,
            stream=stream,
            first=self.first,
            frames=self.frames,
            num_damaged=len(self._damaged & set(indices.tolist())),
        )


class PyavReader:
    """Reads clips of one file, which `opener` opens as often as needed."""

    def __init__(self, opener: Opener) -> None:
        self._opener = opener

    def read(self, request: ClipRequest) -> Clip:
        """The sampled frames of a clip, each in its exact place.

        Raises:
            RequestError: the file, or what was asked of it, doesn't allow it.
        """
        table = read_table(self._opener)
        predicted = np.empty(0, dtype=np.int64)
        if len(table.timeline):
            predicted = request.indices(table.timeline)
        try:
            if request.seek == "keyframe":
                return self._read_keyframes(request, table, predicted)
            if table.is_seekable and _seeking_saves(table, predicted):
                return self._seek_through(request, table, predicted)
        except PredictionFailedError:
            pass  # then all of it is decoded, which needs no prediction
        return self._decode_through(request, table, predicted)

    def _decode_through(
        self, request: ClipRequest, table: PacketTable, predicted: np.ndarray
    ) -> Clip:
        """Decodes from the start on, once if the prediction holds, else once more."""
        fps = table.stream.fps
        if not request.is_whole_video and len(predicted):
            last = int(predicted[-1])
            part = self._pass(request, predicted, stop_after=last)
            if _is_prefix(part.timeline(fps), table.timeline, last + 1):
                return part.clip(predicted, table.timeline, table.stream)
        whole = self._pass(request, predicted)
        timeline = whole.timeline(fps)
        indices = request.indices(timeline)
        if not set(indices.tolist()) <= whole.frames.keys():
            whole = self._pass(request, indices, stop_after=int(indices[-1]))
        return whole.clip(indices, timeline, table.stream)

    def _pass(
        self, request: ClipRequest, indices: np.ndarray, stop_after: int | None = None
    ) -> _Pass:
        """Decodes the file from its start, to its end or up to and with one frame."""
        run = _Pass(indices, request)
        with self._opener() as video:
            for index, frame in enumerate(decoded_frames(video)):
                run.add(index, frame, video.time_base)
                if index == stop_after:
                    break
        return run

    def _seek_through(self, request: ClipRequest, table: PacketTable, indices: np.ndarray) -> Clip:
        """Jumps to the last keyframe before each frame, where that lies ahead."""
        run = _Pass(indices, request)
        with self._opener() as video:
            for stretch in _stretches(table, indices):
                if stretch.key is None:
                    packets = packets_of(video)
                    video.expect(int(table.pts[0]), int(table.pts[stretch.targets[-1]]))
                else:
                    packets = _jump(video, table, stretch.key, stretch.targets)
                needed = _needed(video, packets, table.pts[stretch.targets])
                frames = decoded_frames(video, needed)
                for target in stretch.targets:
                    frame = _frame_at(frames, int(table.pts[target]))
                    if frame.is_corrupt:
                        raise PredictionFailedError
                    run.add(target, frame, video.time_base)
                frames.close()
        return run.clip(indices, table.timeline, table.stream)

    def _read_keyframes(
        self, request: ClipRequest, table: PacketTable, indices: np.ndarray
    ) -> Clip:
        """For each frame the nearest keyframe of the clip in its stead.

        Raises:
            PredictionFailedError: keyframes can't be told or sought, or the clip has none.
        """
        keys = np.arange(len(table.key_indices))
        if len(indices):
            low, high = table.timeline.clip(request.start_seconds, request.end_seconds)
            keys = keys[(table.key_indices >= low) & (table.key_indices < high)]
        if not table.is_seekable or not len(keys) or not len(indices):
            raise PredictionFailedError
        distances = np.abs(table.key_indices[keys][None, :] - indices[:, None])
        nearest = keys[distances.argmin(axis=1)]
        shown_at = {}
        run = _Pass(np.arange(len(table.pts)), request)
        with self._opener() as video:
            for key in np.unique(nearest).tolist():
                frame = _keyframe(video, table, key)
                index = int(np.searchsorted(table.pts, frame.pts))
                if index == len(table.pts) or table.pts[index] != frame.pts or frame.is_corrupt:
                    raise PredictionFailedError
                run.add(index, frame, video.time_base)
                shown_at[key] = index
        taken = np.array([shown_at[key] for key in nearest.tolist()], dtype=np.int64)
        return run.clip(taken, table.timeline, table.stream)


def prove_timeline(opener: Opener) -> Timeline:
    """The exact timeline of a file, by decoding all of its frames."""
    times = FrameTimes()
    with opener() as video:
        for frame in decoded_frames(video):
            times.add(frame, video.time_base)
        return times.timeline(video.facts.fps)


def decoded_frames(video: OpenVideo, packets: Iterable[av.Packet] | None = None) -> Frames:
    """The frames of packets, by default all from where the container stands, in display order.

    Packets that can't be decoded are passed over, as ffmpeg does. The frames that the decoder
    still holds at the end come last.
    """
    with translated_errors("decode_failed", "the video can't be decoded"):
        for packet in packets_of(video) if packets is None else packets:
            yield from _decode(video, packet)
        yield from _decode(video, None)


def _decode(video: OpenVideo, packet: av.Packet | None) -> list[av.VideoFrame]:
    try:
        return video.stream.codec_context.decode(packet)
    except av.error.MemoryError:
        raise
    except av.FFmpegError:
        return []


def _jump(
    video: OpenVideo, table: PacketTable, key: int, targets: list[int]
) -> Iterator[av.Packet]:
    """The packets from a keyframe on that is shown at or before the first of some frames.

    Where the keyframe turns out to be shown after the frame, the one before it is taken: frames
    that come before a keyframe though they follow it in the file lean on what was skipped.
    """
    for candidate in range(key, -1, -1):
        first = _land(video, table, candidate, targets[-1])
        if first.pts <= table.pts[targets[0]]:
            return chain([first], packets_of(video))
    raise PredictionFailedError


def _land(video: OpenVideo, table: PacketTable, key: int, last: int) -> av.Packet:
    """The keyframe's packet that a seek leads to; up to and with the last frame will be read."""
    timestamp = int(table.pts[table.key_indices[key]])
    video.expect(timestamp, int(table.pts[last]))
    with translated_errors("decode_failed", "the container can't be read"):
        video.container.seek(timestamp, stream=video.stream, backward=True)
    packet = next(packets_of(video), None)
    if packet is None or packet.pts is None or not packet.is_keyframe:
        raise PredictionFailedError
    return packet


def _needed(
    video: OpenVideo, packets: Iterable[av.Packet], wanted_pts: np.ndarray
) -> Iterator[av.Packet]:
    """The packets up to the last of those that are wanted, each to be decoded before the next."""
    left = set(wanted_pts.tolist())
    for packet in packets:
        _spare(video, wanted=packet.pts in left)
        left.discard(packet.pts)
        yield packet
        if not left:
            break


def _spare(video: OpenVideo, *, wanted: bool) -> None:
    """Lets the decoder pass over the next frame where nobody asked for it and no other frame
    leans on it, which H.264 marks (`nal_ref_idc`, ITU-T H.264, 7.4.1). HEVC's mark holds for its
    own temporal layer only."""
    if video.stream.codec_context.name == "h264":
        video.stream.codec_context.skip_frame = "DEFAULT" if wanted else "NONREF"


def _keyframe(video: OpenVideo, table: PacketTable, key: int) -> av.VideoFrame:
    """The keyframe that a seek leads to, decoded alone."""
    packet = _land(video, table, key, table.key_indices[key])
    with translated_errors("decode_failed", "the video can't be decoded"):
        frames = [*_decode(video, packet), *_decode(video, None)]
    if len(frames) != 1 or frames[0].pts is None:
        raise PredictionFailedError
    return frames[0]


def _frame_at(frames: Frames, pts: int) -> av.VideoFrame:
    for frame in frames:
        if frame.pts is None or frame.pts > pts:
            break
        if frame.pts == pts:
            return frame
    raise PredictionFailedError


def _key_before(table: PacketTable, target: int) -> int:
    """The number of the last keyframe at or before a frame; -1 stands for none."""
    return int(np.searchsorted(table.key_indices, target, side="right")) - 1


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Frames that are decoded in one go.

    Attributes:
        key: the number of the keyframe to jump to first; None where decoding begins at the start
            of the file.
        targets: indices of wanted frames, ascending.
    """

    key: int | None
    targets: list[int]


def _stretches(table: PacketTable, indices: np.ndarray) -> list[_Stretch]:
    """Jumps to where a keyframe lies further ahead than a seek costs."""
    stretches: list[_Stretch] = []
    position = -1  # index of the last decoded frame
    for target in np.unique(indices).tolist():
        key = _key_before(table, target)
        if key >= 0 and table.key_indices[key] > position + _SEEK_COST_FRAMES:
            stretches.append(_Stretch(key, [target]))
        elif stretches:
            stretches[-1].targets.append(target)
        else:
            stretches.append(_Stretch(None, [target]))
        position = target
    return stretches


def _seeking_saves(table: PacketTable, indices: np.ndarray) -> bool:
    """Whether seeking decodes so many frames less that it outweighs the proof that it gives up."""
    if not len(indices):
        return False
    cost = 0
    for stretch in _stretches(table, indices):
        if stretch.key is None:
            cost += stretch.targets[-1] + 1
        else:
            start = int(table.key_indices[stretch.key])
            cost += _SEEK_COST_FRAMES + stretch.targets[-1] - start + 1
    return cost < (1 - _MIN_SEEK_SAVING) * (int(indices[-1]) + 1)


def _is_prefix(seen: Timeline, predicted: Timeline, num_frames: int) -> bool:
    """Whether all of the first frames came, each at its time."""
    if len(seen) != num_frames:
        return False
    part = predicted.pts_seconds[:num_frames]
    return bool(np.allclose(seen.pts_seconds, part, rtol=0, atol=1e-6))

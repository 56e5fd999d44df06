"""Opens a video with PyAV so that no demuxer can open anything else, and picks its stream."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from sfray.errors import RequestError
from sfray.video.pixels import check_frame_size

# Demuxers that hold their media themselves. Playlists (hls, dash, concat, sdp, imf ...) and
# still images are not among them; audio is, so that its files are told apart from garbage.
DEMUXERS = (
    *("mov", "matroska", "webm", "avi", "mpegts", "mpegtsraw", "mpeg", "mpegvideo", "flv"),
    *("live_flv", "asf", "ogg", "gif", "apng", "ivf", "nut", "rm", "mxf", "gxf", "dv", "wtv"),
    *("h261", "h263", "h264", "hevc", "vvc", "m4v", "av1", "obu", "vc1", "vc1test", "cavsvideo"),
    *("dirac", "dnxhd", "yuv4mpegpipe", "mjpeg", "mjpeg_2000", "swf", "amv", "nuv", "bink"),
    *("smk", "roq", "4xm", "flic", "ea"),
    *("mp3", "wav", "flac", "aac", "ac3", "eac3", "aiff", "amr", "au", "caf", "dts", "opus"),
    *("tta", "ape", "w64", "wv"),
)

_NO_MEMORY = "decoding exceeded its limit of memory (decode.max_memory_bytes)"


class RandomAccess(Protocol):
    """A file as PyAV reads it; `expect` says which bytes will be read in sequence."""

    def read(self, size: int) -> bytes: ...
    def seek(self, offset: int, whence: int = 0) -> int: ...
    def tell(self) -> int: ...
    def expect(self, low: int, high: int) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamFacts:
    """What the container says of the stream, true or not.

    Attributes:
        pixel_ratio: width over height of one pixel.
        fps: frames a second.
        declared_duration_seconds: of the stream; of the container only where it holds nothing else.
    """

    container: str
    codec: str
    pixel_ratio: float
    fps: float | None
    declared_duration_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenVideo:
    """A container that is open at its start, and the stream that is decoded."""

    container: InputContainer
    stream: VideoStream
    max_frames: int
    source: int | RandomAccess

    def expect(self, first_pts: int, last_pts: int) -> None:
        """Tells a source that is read by range which packets come next, by the container's index.

        Args:
            first_pts: of a keyframe.
            last_pts: of the last packet that is needed. The index holds decoding times, which are
                not after those of display: that packet is among those up to this time.
        """
        if isinstance(self.source, int):
            return
        entries = self.stream.index_entries
        first = entries.search_timestamp(first_pts)
        last = entries.search_timestamp(last_pts, any_frame=True)
        if 0 <= first <= last:
            self.source.expect(entries[first].pos, entries[last].pos + entries[last].size)

    @property
    def time_base(self) -> float:
        return float(self.stream.time_base or 0)

    @property
    def facts(self) -> StreamFacts:
        rate = self.stream.average_rate or self.stream.guessed_rate
        return StreamFacts(
            container=self.container.format.name,
            codec=self.stream.codec_context.codec.canonical_name,
            pixel_ratio=float(self.stream.sample_aspect_ratio or 1),
            fps=float(rate) if rate else None,
            declared_duration_seconds=self._declared_duration_seconds(),
        )

    def _declared_duration_seconds(self) -> float | None:
        if self.stream.duration:
            return float(self.stream.duration) * self.time_base
        if self.container.duration and len(self.container.streams) == 1:
            return float(self.container.duration) / av.time_base
        return None


# Opens the same file again, from its start.
Opener = Callable[[], AbstractContextManager[OpenVideo]]


@contextmanager
def open_video(
    source: int | RandomAccess, *, max_frame_pixels: int, max_frames: int
) -> Iterator[OpenVideo]:
    """Opens a file for decoding, by one thread.

    Args:
        source: a readable file descriptor, or an object to read ranges through.
        max_frame_pixels: larger frames are refused before their memory is allocated.
        max_frames: reading on beyond so many packets is refused.

    Raises:
        RequestError: with the code of what is wrong with the file.
    """
    with translated_errors("not_a_video", "the content is no known video container"):
        container = _open(source)
    with container:
        stream = _default_stream(container)
        context = stream.codec_context
        check_frame_size(context.width, context.height, max_frame_pixels)
        context.options = {"max_pixels": str(max_frame_pixels)}
        context.thread_count = 1
        yield OpenVideo(container=container, stream=stream, max_frames=max_frames, source=source)


def _open(source: int | RandomAccess) -> InputContainer:
    options = {"format_whitelist": ",".join(DEMUXERS)}
    if isinstance(source, int):
        os.lseek(source, 0, os.SEEK_SET)
        file: Any = "fd:"
        options |= {"fd": str(source), "protocol_whitelist": "fd"}
    else:
        source.seek(0)
        file = source
        options |= {"protocol_whitelist": "none"}  # not one of ffmpeg's own may be used
    # Titles and comments come in any encoding, and nobody reads them here.
    return av.open(file, options=options, metadata_errors="replace")


def _default_stream(container: InputContainer) -> VideoStream:
    """The video stream that is marked as default, else the first; cover pictures don't count."""
    streams = [s for s in container.streams.video if not (s.disposition & Disposition.attached_pic)]
    if not streams:
        raise RequestError("no_video_stream", "the container holds no video stream")
    stream = next((s for s in streams if s.disposition & Disposition.default), streams[0])
    if stream.codec_context is None:
        raise RequestError("unsupported_codec", "no decoder for the video's codec")
    return stream


def check_num_frames(num_frames: int, max_frames: int) -> None:
    """Raises `RequestError` where a video has more frames than allowed."""
    if num_frames > max_frames:
        raise RequestError(
            "too_many_frames",
            f"the video has more than the {max_frames} frames that decode.max_frames allows",
        )


@contextmanager
def translated_errors(code: str, message: str) -> Iterator[None]:
    """Turns ffmpeg's complaints about a file into a `RequestError`."""
    try:
        yield
    except (av.error.MemoryError, MemoryError) as error:
        raise RequestError("decode_out_of_memory", _NO_MEMORY) from error
    except (av.error.DecoderNotFoundError, av.error.PatchWelcomeError) as error:
        raise RequestError("unsupported_codec", "no decoder for the video's codec") from error
    except av.FFmpegError as error:
        raise RequestError(code, message) from error

"""Generated video files of many kinds, each frame of which tells its own number.

A frame shows its number as eight bars, black or white, along its upper edge (most significant
bit first), above a drifting gradient. What is written is what a viewer should see: files with
rotation metadata hold turned pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition
from av.video.frame import PictureType

from tests.resources.scheduling import kept_scheduling

WIDTH, HEIGHT = 128, 96
BITS = 8


def picture(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """uint8 (H, W, 3): the bars of a number above a gradient that drifts with it."""
    rows, columns = np.mgrid[0:height, 0:width]
    picture_HWC = np.empty((height, width, 3), dtype=np.uint8)
    picture_HWC[..., 0] = (columns * 255 // width + number * 3) % 256 // 2 + 64
    picture_HWC[..., 1] = rows * 255 // height
    picture_HWC[..., 2] = 128
    for bit in range(BITS):
        is_set = number >> (BITS - 1 - bit) & 1
        bar = slice(bit * width // BITS, (bit + 1) * width // BITS)
        picture_HWC[: height // 4, bar] = 255 if is_set else 0
    return picture_HWC


def number_of(frame_HWC: np.ndarray) -> int:
    """The number that a displayed frame of any size tells."""
    height, width = frame_HWC.shape[:2]
    number = 0
    for bit in range(BITS):
        middle = int((bit + 0.5) * width / BITS)
        reach = max(1, width // BITS // 4)
        bar = frame_HWC[height // 12 : height // 6, middle - reach : middle + reach]
        number = number << 1 | int(bar.mean() > 127)
    return number


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """How one file is made, and what a reader should find in it."""

    name: str
    codec: str = "libx264"
    suffix: str = "mp4"
    container: str | None = None
    pixel_format: str = "yuv420p"
    num_frames: int = 40
    fps: Fraction | int = 25
    gop: int = 12
    size: tuple[int, int] = (WIDTH, HEIGHT)
    options: dict[str, str] = field(default_factory=dict)
    container_options: dict[str, str] = field(default_factory=dict)
    turn: Callable[[np.ndarray], np.ndarray] | None = None
    display_matrix: Sequence[int] | None = None
    pixel_ratio: Fraction | None = None
    color: dict[str, int] = field(default_factory=dict)
    times: Callable[[int], int] | None = None  # ticks of 1/1000 s by frame number
    other_stream_first: bool = False
    joined_with: Kind | None = None
    damage: Callable[[bytes], bytes] | None = None
    # What is expected.
    numbers: Sequence[int] | None = None
    displayed_size: tuple[int, int] | None = None
    failure: str | None = None

    @property
    def expected_numbers(self) -> list[int]:
        return list(range(self.num_frames) if self.numbers is None else self.numbers)

    @property
    def expected_size(self) -> tuple[int, int]:
        return self.displayed_size or self.size

    def write(self, folder: Path) -> Path:
        """Writes the file and returns its path."""
        path = folder / f"{self.name}.{self.suffix}"
        opened = av.open(str(path), "w", format=self.container, options=self.container_options)
        with kept_scheduling(), opened as container:
            other = self._other_stream(container) if self.other_stream_first else None
            stream = self._stream(container)
            if other:
                stream.disposition = Disposition.default
                for number in range(5):
                    frame = av.VideoFrame.from_ndarray(picture(255 - number, 64, 64))
                    container.mux(other.encode(frame))
                container.mux(other.encode(None))
            for number in range(self.num_frames):
                container.mux(stream.encode(self._frame(number)))
            container.mux(stream.encode(None))
        if self.joined_with:
            path.write_bytes(path.read_bytes() + self.joined_with.write(folder).read_bytes())
        if self.damage:
            path.write_bytes(self.damage(path.read_bytes()))
        return path

    def _stream(self, container: Any) -> Any:
        stream = container.add_stream(self.codec, rate=self.fps, options=self.options)
        stream.width, stream.height = self.size
        stream.pix_fmt = self.pixel_format
        if self.codec != "gif":
            stream.codec_context.gop_size = self.gop
        if self.times:
            stream.codec_context.time_base = Fraction(1, 1000)
        if self.pixel_ratio:
            stream.codec_context.sample_aspect_ratio = self.pixel_ratio
        for name, value in self.color.items():
            setattr(stream.codec_context, name, value)
        if self.display_matrix:
            stream.set_display_matrix(self.display_matrix)
        return stream

    def _other_stream(self, container: Any) -> Any:
        """A second video that is not the default one."""
        other = container.add_stream("libx264", rate=self.fps)
        other.width, other.height, other.pix_fmt = 64, 64, "yuv420p"
        other.disposition = Disposition.dub
        return other

    def _frame(self, number: int) -> av.VideoFrame:
        width, height = self.size
        if self.turn:
            shown = picture(number, *self.expected_size)
            rgb_HWC = np.ascontiguousarray(self.turn(shown))
        else:
            rgb_HWC = picture(number, width, height)
        frame = av.VideoFrame.from_ndarray(rgb_HWC, format="rgb24")
        if self.pixel_format not in ("rgb24", "bgr24", "rgb8"):
            frame = frame.reformat(
                format=self.pixel_format,
                dst_colorspace=self.color.get("colorspace"),
                dst_color_range=self.color.get("color_range"),
            )
        elif self.pixel_format != "rgb24":
            frame = frame.reformat(format=self.pixel_format)
        if self.times:
            frame.pts, frame.time_base = self.times(number), Fraction(1, 1000)
        else:
            frame.pts, frame.time_base = number, 1 / Fraction(self.fps)
        frame.pict_type = PictureType.NONE
        return frame

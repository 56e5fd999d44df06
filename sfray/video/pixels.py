"""From a decoded frame to the square of RGB pixels that the vision tower takes."""

from __future__ import annotations

from fractions import Fraction

import av
import av.filter
import numpy as np
from av.sidedata.sidedata import Type
from PIL import Image

from sfray.errors import RequestError
from sfray.video.orientation import UPRIGHT, Orientation, orientation_of


def orientation_of_frame(frame: av.VideoFrame) -> Orientation:
    """How a frame is to be turned; the container's matrix comes along with each frame."""
    # Iterated, since the mapping's own lookups fail on types that PyAV does not list.
    side_data = frame.side_data
    for index in range(len(side_data)):
        one = side_data[index]
        if one.type == Type.DISPLAYMATRIX:
            return orientation_of(bytes(one))
    return UPRIGHT


class RgbConverter:
    """Converts frames to upright RGB by ffmpeg's own filter, bit for bit what `ffmpeg` gives.

    For 8-bit video that is also what decord gives. The frame's own colour matrix and range
    apply where it names them, else BT.601 and limited range. HDR transfer curves (PQ, HLG) are
    not tone-mapped: code values are brought to 8 bits, as ffmpeg does unasked.
    """

    def __init__(self, max_frame_pixels: int) -> None:
        self._max_frame_pixels = max_frame_pixels
        self._graph: av.filter.Graph | None = None
        self._made_for: tuple[object, ...] = ()

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        """uint8 (H, W, 3) as displayed, sample aspect ratio not applied."""
        check_frame_size(frame.width, frame.height, self._max_frame_pixels)
        graph = self._graph_for(frame)
        turn = orientation_of_frame(frame).turn
        graph.push(frame)
        rgb_HWC = graph.pull().to_ndarray()
        return rgb_HWC if turn is None else np.ascontiguousarray(turn(rgb_HWC))

    def _graph_for(self, frame: av.VideoFrame) -> av.filter.Graph:
        """A video may change all of these in its middle."""
        kind = (frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_range)
        if self._graph is None or kind != self._made_for:
            self._graph, self._made_for = _rgb_graph(frame), kind
        return self._graph


def _rgb_graph(frame: av.VideoFrame) -> av.filter.Graph:
    graph = av.filter.Graph()
    graph.threads = 1
    source = graph.add_buffer(
        width=frame.width,
        height=frame.height,
        format=frame.format,
        time_base=frame.time_base or Fraction(1, 1000),
    )
    scale = graph.add("scale", "flags=bicubic")
    rgb = graph.add("format", "rgb24")
    sink = graph.add("buffersink")
    source.link_to(scale)
    scale.link_to(rgb)
    rgb.link_to(sink)
    graph.configure()
    return graph


def squash(rgb_HWC: np.ndarray, size: int) -> np.ndarray:
    """The frame resized to (size, size, 3) by PIL's bicubic filter, sides not kept in ratio."""
    image = Image.fromarray(rgb_HWC).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(image)


def check_frame_size(width: int, height: int, max_frame_pixels: int) -> None:
    """Raises `RequestError` where a frame has more pixels than allowed."""
    if width * height > max_frame_pixels:
        raise RequestError(
            "frame_too_large",
            f"a frame has {width}x{height} pixels, more than the {max_frame_pixels} that"
            " decode.max_frame_pixels allows",
        )

"""From a decoded frame to the square of RGB pixels that the vision tower takes."""

from __future__ import annotations

import av
import numpy as np
from av.sidedata.sidedata import Type
from av.video.reformatter import VideoReformatter
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
    """Converts frames to upright RGB; keeps the scaler's tables from frame to frame.

    The conversion is swscale's default, bit for bit what decord gives: the frame's own matrix
    and range where it names them, else BT.601 and limited range. HDR transfer curves (PQ, HLG)
    are not tone-mapped: code values are cut to 8 bits, as ffmpeg does unasked.
    """

    def __init__(self, max_frame_pixels: int) -> None:
        self._max_frame_pixels = max_frame_pixels
        self._reformatter = VideoReformatter()

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        """uint8 (H, W, 3) as displayed, sample aspect ratio not applied."""
        check_frame_size(frame.width, frame.height, self._max_frame_pixels)
        rgb_HWC = self._reformatter.reformat(frame, format="rgb24").to_ndarray()
        turn = orientation_of_frame(frame).turn
        return rgb_HWC if turn is None else np.ascontiguousarray(turn(rgb_HWC))


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

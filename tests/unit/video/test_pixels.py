"""Colours of frames against the arithmetic of the standards."""

from __future__ import annotations

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace

from sfray.errors import RequestError
from sfray.video.pixels import RgbConverter

# Weights of red and blue in luma (H.273, table 4); no matrix named is read as BT.601.
WEIGHTS = {
    2: (0.299, 0.114),
    Colorspace.ITU601: (0.299, 0.114),
    Colorspace.ITU709: (0.2126, 0.0722),
    Colorspace.BT2020: (0.2627, 0.0593),
}
COLOURS = {
    "red": (200, 30, 40),
    "green": (30, 180, 60),
    "blue": (40, 50, 210),
    "grey": (90, 90, 90),
}
# swscale works with integers of few bits; by another matrix or range most are off by far more.
TOLERANCE = 2


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize("is_full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("matrix", WEIGHTS)
def test_matrix_range_and_depth(matrix: int, is_full: bool, bits: int, colour: str) -> None:
    frame = frame_of(COLOURS[colour], matrix, is_full=is_full, bits=bits)
    rgb_HWC = RgbConverter(2**20)(frame)
    assert rgb_HWC.shape == (16, 32, 3)
    np.testing.assert_allclose(
        rgb_HWC.reshape(-1, 3).astype(int), [COLOURS[colour]] * 512, atol=TOLERANCE
    )


def test_a_frame_may_differ_from_the_one_before() -> None:
    convert = RgbConverter(2**20)
    for matrix, is_full in ((Colorspace.ITU601, False), (Colorspace.ITU709, True), (2, False)):
        rgb_HWC = convert(frame_of(COLOURS["red"], matrix, is_full=is_full, bits=8))
        np.testing.assert_allclose(rgb_HWC[0, 0].astype(int), COLOURS["red"], atol=TOLERANCE)


def test_frames_that_are_too_large_are_refused() -> None:
    with pytest.raises(RequestError, match="32x16"):
        RgbConverter(32 * 16 - 1)(frame_of(COLOURS["red"], 2, is_full=False, bits=8))


def frame_of(rgb: tuple[int, int, int], matrix: int, *, is_full: bool, bits: int) -> av.VideoFrame:
    """A frame of 32 x 16 in one colour, which is written as the matrix and range want it."""
    red_weight, blue_weight = WEIGHTS[matrix]
    red, green, blue = (value / 255 for value in rgb)
    luma = red_weight * red + (1 - red_weight - blue_weight) * green + blue_weight * blue
    chroma = (blue - luma) / (2 - 2 * blue_weight), (red - luma) / (2 - 2 * red_weight)
    luma_span, chroma_span, black = (255, 255, 0) if is_full else (219, 224, 16)
    values = black + luma_span * luma, *(128 + chroma_span * part for part in chroma)
    top = 2**bits - 1
    scale = top / 255 if is_full else 2.0 ** (bits - 8)
    frame = av.VideoFrame(32, 16, "yuv420p10le" if bits == 10 else "yuv420p")
    for plane, value in zip(frame.planes, values, strict=True):
        samples = np.full(plane.buffer_size // (2 if bits == 10 else 1), round(value * scale))
        plane.update(samples.astype(np.uint16 if bits == 10 else np.uint8).tobytes())
    frame.colorspace = matrix
    frame.color_range = ColorRange.JPEG if is_full else ColorRange.MPEG
    return frame

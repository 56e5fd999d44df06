"""Rotation and mirroring, as the display matrix of a file asks for them (as ffmpeg does)."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

_MATRIX = struct.Struct("=9i")

Turn = Callable[[np.ndarray], np.ndarray]


def _clockwise(frame_HWC: np.ndarray) -> np.ndarray:
    return np.rot90(frame_HWC, -1)


def _counterclockwise(frame_HWC: np.ndarray) -> np.ndarray:
    return np.rot90(frame_HWC, 1)


def _transpose(frame_HWC: np.ndarray) -> np.ndarray:
    return frame_HWC.swapaxes(0, 1)


def _transverse(frame_HWC: np.ndarray) -> np.ndarray:
    return frame_HWC.swapaxes(0, 1)[::-1, ::-1]


@dataclass(frozen=True, slots=True)
class Orientation:
    """How a coded frame is turned for display.

    Attributes:
        rotation_degrees: counterclockwise, in (-180, 180], as ffprobe tells it.
        turn: takes a frame of shape (H, W, C) to the displayed one; None leaves it as it is.
    """

    rotation_degrees: int
    turn: Turn | None
    swaps_sides: bool


UPRIGHT = Orientation(rotation_degrees=0, turn=None, swaps_sides=False)


def orientation_of(display_matrix: bytes | None) -> Orientation:
    """The orientation that a display matrix (9 int32 in machine order) asks for.

    Angles other than quarter turns are told but not applied.
    """
    if display_matrix is None or len(display_matrix) != _MATRIX.size:
        return UPRIGHT
    a, b, _, c, d, *_ = _MATRIX.unpack(display_matrix)
    scale_x, scale_y = math.hypot(a, c), math.hypot(b, d)
    if not scale_x or not scale_y:
        return UPRIGHT
    clockwise = round(math.degrees(math.atan2(b / scale_y, a / scale_x)))
    degrees = -clockwise
    match clockwise % 360:
        case 90:
            return Orientation(degrees, _transpose if c > 0 else _clockwise, True)
        case 270:
            return Orientation(degrees, _transverse if c < 0 else _counterclockwise, True)
        case 180:
            flip_x, flip_y = a < 0, d < 0
        case 0:
            flip_x, flip_y = False, d < 0
        case _:
            return Orientation(degrees, None, False)
    return Orientation(degrees, _flips(flip_x, flip_y), False)


def _flips(flip_x: bool, flip_y: bool) -> Turn | None:
    if not flip_x and not flip_y:
        return None
    rows = slice(None, None, -1 if flip_y else 1)
    columns = slice(None, None, -1 if flip_x else 1)
    return lambda frame_HWC: frame_HWC[rows, columns]

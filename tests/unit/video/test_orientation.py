"""Display matrices against what ffmpeg's own filters make of them."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from sfray.video.orientation import UPRIGHT, orientation_of

ONE = 1 << 16
FRAME_HWC = np.arange(6, dtype=np.uint8).reshape(2, 3, 1)  # 0 1 2 / 3 4 5


def matrix(a: int, b: int, c: int, d: int) -> bytes:
    return struct.pack("=9i", a * ONE, b * ONE, 0, c * ONE, d * ONE, 0, 0, 0, 1 << 30)


@pytest.mark.parametrize(
    ("display_matrix", "degrees", "shown"),
    [
        (matrix(1, 0, 0, 1), 0, [[0, 1, 2], [3, 4, 5]]),
        (matrix(0, 1, -1, 0), -90, [[3, 0], [4, 1], [5, 2]]),
        (matrix(0, -1, 1, 0), 90, [[2, 5], [1, 4], [0, 3]]),
        (matrix(-1, 0, 0, -1), -180, [[5, 4, 3], [2, 1, 0]]),
        (matrix(-1, 0, 0, 1), -180, [[2, 1, 0], [5, 4, 3]]),
        (matrix(1, 0, 0, -1), 0, [[3, 4, 5], [0, 1, 2]]),
        (matrix(0, 1, 1, 0), -90, [[0, 3], [1, 4], [2, 5]]),
        (matrix(0, -1, -1, 0), 90, [[5, 2], [4, 1], [3, 0]]),
    ],
)
def test_quarter_turns_and_mirrors(
    display_matrix: bytes, degrees: int, shown: list[list[int]]
) -> None:
    orientation = orientation_of(display_matrix)
    turned = orientation.turn(FRAME_HWC) if orientation.turn else FRAME_HWC
    assert turned[..., 0].tolist() == shown
    assert orientation.rotation_degrees == degrees
    assert orientation.swaps_sides == (len(shown) == 3)


def test_what_is_no_turn_leaves_the_frame() -> None:
    assert orientation_of(None) is UPRIGHT
    assert orientation_of(b"short") is UPRIGHT
    assert orientation_of(bytes(36)) is UPRIGHT
    slanted = orientation_of(matrix(1, 1, -1, 1))
    assert (slanted.rotation_degrees, slanted.turn) == (-45, None)

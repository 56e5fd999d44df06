"""What clips are cut into: the arithmetic, and real files."""

from __future__ import annotations

import os
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfray.errors import RequestError
from sfray.video.container import open_video
from sfray.video.readers.windows import find_windows, scene_windows, uniform_windows
from tests.resources.scenes import write_scenes


@pytest.mark.parametrize(
    ("clip", "seconds", "overlap", "expected"),
    [
        ((0, 130), 60, 5, [(0, 60), (55, 115), (110, 130)]),
        ((0, 120), 60, 0, [(0, 60), (60, 120)]),
        ((0, 115), 60, 5, [(0, 60), (55, 115)]),
        ((0, 7.5), 60, 5, [(0, 7.5)]),
        ((10, 31), 10, 0, [(10, 20), (20, 30), (30, 31)]),
    ],
)
def test_equal_windows(
    clip: tuple[float, float],
    seconds: float,
    overlap: float,
    expected: list[tuple[float, float]],
) -> None:
    assert uniform_windows(*clip, seconds, overlap) == expected


@settings(deadline=None)
@given(
    duration=st.floats(0.04, 5000),
    seconds=st.floats(10, 600),
    share=st.floats(0, 0.9),
)
def test_equal_windows_cover_a_clip(duration: float, seconds: float, share: float) -> None:
    windows = uniform_windows(0.0, duration, seconds, share * seconds)
    assert windows[0][0] == 0.0
    assert windows[-1][1] == pytest.approx(duration, abs=1e-6)
    for (start, end), (after, after_end) in pairwise(windows):
        assert start < after <= end + 1e-6 < after_end + 1e-6
        assert end - after == pytest.approx(share * seconds, abs=1e-5)


@pytest.mark.parametrize(
    ("cuts", "min_seconds", "expected"),
    [
        ([], 2, [(0, 20)]),
        ([5, 12], 2, [(0, 5), (5, 12), (12, 20)]),
        ([1, 5, 6, 12], 2, [(0, 5), (5, 12), (12, 20)]),
        ([5, 19], 2, [(0, 5), (5, 20)]),
        ([0, 5, 5], 0, [(0, 5), (5, 20)]),
        ([15], 30, [(0, 20)]),
    ],
)
def test_scenes_between_cuts(
    cuts: list[float], min_seconds: float, expected: list[tuple[float, float]]
) -> None:
    assert scene_windows(0, 20, cuts, min_seconds) == expected


def find(
    path: Path, start: float | None = None, end: float | None = None, seconds: float | None = None
) -> list[tuple[float, float]]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return find_windows(
            partial(open_video, descriptor, max_frame_pixels=2**26, max_frames=10**6),
            start,
            end,
            seconds=seconds,
            overlap_seconds=0.0,
            min_scene_seconds=2.0,
        )
    finally:
        os.close(descriptor)


def test_scenes_of_a_file(tmp_path: Path) -> None:
    path = write_scenes(tmp_path / "v.mp4", (4.0, 6.0, 3.0))
    assert find(path) == [(0, 4), (4, 10), (10, 13)]
    assert find(path, 1.0, 11.0) == [(1, 4), (4, 11)]
    assert find(path, 4.5, 9.0) == [(4.5, 9)]
    for seconds in (None, 5.0):
        with pytest.raises(RequestError, match=r"13\.000 s video"):
            find(path, 3.0, 14.0, seconds)


def test_a_gap_between_frames_is_one_window(tmp_path: Path) -> None:
    """A header that lies, or a still picture that stands for an hour."""
    path = write_scenes(tmp_path / "v.mkv", (1.0, 1.0), gap_seconds=3600.0)
    windows = find(path, seconds=60.0)
    assert windows == [(0, 60), (3600, 3602)]

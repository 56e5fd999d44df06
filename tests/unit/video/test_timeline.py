"""Which frames a clip takes, by arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfray.errors import RequestError
from sfray.video.timeline import Timeline

TEN_A_SECOND = Timeline.of([5 + n / 10 for n in range(100)], 10, 0.1)


def test_times_begin_at_the_first_frame() -> None:
    assert TEN_A_SECOND.pts_seconds[[0, -1]].tolist() == pytest.approx([0, 9.9])
    assert TEN_A_SECOND.duration_seconds == pytest.approx(10)
    assert TEN_A_SECOND.fps == pytest.approx(10)


@pytest.mark.parametrize("times", [[0.0, None, 0.2], [0.0, 0.2, 0.2], [0.4, 0.2, 0.0]])
def test_useless_timestamps_give_way_to_the_rate(times: list[float | None]) -> None:
    assert Timeline.of(times, 20, None).pts_seconds.tolist() == pytest.approx([0, 0.05, 0.1])
    assert Timeline.of(times, None, None).duration_seconds == pytest.approx(3 / 25)


@pytest.mark.parametrize(
    ("start", "end", "frames"),
    [
        (None, None, (0, 100)),
        (0.0, 10.0, (0, 100)),
        (2.0, 3.0, (20, 30)),
        (2.05, 3.0, (20, 30)),  # what is on display at the start belongs to the clip
        (2.0001, 2.9999, (20, 30)),
        (2.01, 2.02, (20, 21)),
        (None, 0.05, (0, 1)),
        (9.95, None, (99, 100)),
        (5.0, 10.099, (50, 100)),
    ],
)
def test_a_clip(start: float | None, end: float | None, frames: tuple[int, int]) -> None:
    assert TEN_A_SECOND.clip(start, end) == frames


@pytest.mark.parametrize(
    ("start", "end"), [(10.0, None), (10.0, 11.0), (5.0, 10.2), (3.0, 3.0), (4.0, 3.0), (-1.0, 3.0)]
)
def test_out_of_range(start: float, end: float | None) -> None:
    with pytest.raises(RequestError, match=r"10\.000 s video") as raised:
        TEN_A_SECOND.clip(start, end)
    assert raised.value.code == "clip_out_of_range"


@given(
    st.lists(st.floats(0.002, 3), min_size=1, max_size=50),
    st.floats(0, 0.999),
    st.floats(0.001, 1),
)
def test_a_clip_is_never_empty_and_never_outside(
    steps: list[float], start_share: float, length_share: float
) -> None:
    timeline = Timeline.of([0.0, *np.cumsum(steps).tolist()], None, 0.5)
    start = start_share * timeline.duration_seconds
    end = start + length_share * (timeline.duration_seconds - start)
    low, high = timeline.clip(start, end)
    assert 0 <= low < high <= len(timeline)
    assert (timeline.pts_seconds[low:high] < end + 0.002).all()

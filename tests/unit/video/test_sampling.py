import numpy as np
import pytest

from sfray.video.sampling import sample_frame_indices


def test_seven_frames_of_seven_repeat_one_and_leave_the_last_out() -> None:
    assert sample_frame_indices(7, 7).tolist() == [0, 1, 2, 3, 3, 4, 5]


def test_a_shorter_clip_takes_as_many_frames_as_it_has() -> None:
    assert sample_frame_indices(7, 50).tolist() == [0, 1, 2, 3, 3, 4, 5]
    assert sample_frame_indices(1, 50).tolist() == [0]


def test_fifty_of_fifty_take_one_frame_twice_and_never_the_last() -> None:
    indices = sample_frame_indices(50, 50).tolist()
    assert indices.count(24) == 2
    assert 49 not in indices
    assert indices == [*range(25), *range(24, 49)]


def test_fifty_of_150_are_those_of_the_reference() -> None:
    indices = sample_frame_indices(150, 50)
    assert indices[:4].tolist() == [1, 4, 7, 10]
    # Rounding half up would make the bound 74.5 a 75 and take frame 76 here.
    assert indices[23:27].tolist() == [70, 73, 75, 78]


@pytest.mark.parametrize("num_frames", [1, 8, 50])
def test_indices_ascend_within_every_clip(num_frames: int) -> None:
    for num_frames_in_clip in range(1, 300):
        indices = sample_frame_indices(num_frames_in_clip, num_frames)
        assert indices.dtype == np.int64
        assert len(indices) == min(num_frames, num_frames_in_clip)
        assert indices[0] >= 0
        assert indices[-1] < num_frames_in_clip
        assert (np.diff(indices) >= 0).all()


@pytest.mark.parametrize(("num_frames_in_clip", "num_frames"), [(0, 8), (8, 0), (-1, 8)])
def test_nothing_to_sample_is_an_error(num_frames_in_clip: int, num_frames: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        sample_frame_indices(num_frames_in_clip, num_frames)

import pytest

from sfray.pooling import SlowFastPooling, SlowPool


def test_the_papers_setting_makes_3680_tokens_of_fifty_frames() -> None:
    assert SlowFastPooling().num_visual_tokens(50, (24, 24)) == 3680
    assert SlowFastPooling().num_visual_tokens(1, (24, 24)) == 2896


@pytest.mark.parametrize(
    ("slow_pool", "num_tokens"),
    [
        (SlowPool.NONE, 25),
        (SlowPool.MAX_1D, 12),
        (SlowPool.AVG_1D, 12),
        (SlowPool.MAX_2D, 4),
        (SlowPool.AVG_2D, 4),
    ],
)
def test_pooling_drops_what_fills_no_window(slow_pool: SlowPool, num_tokens: int) -> None:
    pooling = SlowFastPooling(num_slow_frames=1, slow_pool=slow_pool, fast_grid=None)
    assert pooling.num_visual_tokens(3, (5, 5)) == num_tokens


def test_the_27_rows_of_siglip_at_384_pixels() -> None:
    assert SlowFastPooling().num_visual_tokens(50, (27, 27)) == 10 * 364 + 50 * 16


def test_slow_frames_repeat_in_a_short_clip() -> None:
    assert SlowFastPooling().slow_frame_indices(50) == list(range(0, 50, 5))
    assert SlowFastPooling().slow_frame_indices(7) == [0, 0, 1, 2, 2, 3, 4, 4, 5, 6]


def test_a_pathway_can_be_off_but_not_both() -> None:
    assert SlowFastPooling(num_slow_frames=0).num_visual_tokens(50, (24, 24)) == 800
    assert SlowFastPooling(fast_grid=None).num_visual_tokens(50, (24, 24)) == 2880
    with pytest.raises(ValueError, match="both"):
        SlowFastPooling(num_slow_frames=0, fast_grid=None)
    with pytest.raises(ValueError, match="-1"):
        SlowFastPooling(num_slow_frames=-1)

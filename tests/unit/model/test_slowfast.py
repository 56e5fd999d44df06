import pytest
import torch

from sfray.model.slowfast import pool_slow_fast
from sfray.pooling import SlowFastPooling, SlowPool

GRID = (4, 6)


def features(num_frames: int, width: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(num_frames, GRID[0] * GRID[1], width, generator=generator)


def test_slow_tokens_come_first_pooled_in_pairs_then_the_fast_grid() -> None:
    features_TND = features(8)
    tokens = pool_slow_fast(
        features_TND, GRID, SlowFastPooling(num_slow_frames=4, fast_grid=(2, 2))
    )
    assert tokens.shape == (4 * 12 + 8 * 4, 3)
    pair = torch.maximum(features_TND[2, 4], features_TND[2, 5])
    assert torch.equal(tokens[12 + 2], pair)
    # The upper right cell of the last frame: rows 0 and 1, columns 3 to 5.
    cell = features_TND[7].unflatten(0, GRID)[:2, 3:].mean((0, 1))
    torch.testing.assert_close(tokens[48 + 7 * 4 + 1], cell)


@pytest.mark.parametrize("slow_pool", list(SlowPool))
@pytest.mark.parametrize("num_frames", [1, 3, 8])
def test_there_are_as_many_tokens_as_foretold(slow_pool: SlowPool, num_frames: int) -> None:
    pooling = SlowFastPooling(num_slow_frames=4, slow_pool=slow_pool, fast_grid=(4, 4))
    tokens = pool_slow_fast(features(num_frames), GRID, pooling)
    assert tokens.shape == (pooling.num_visual_tokens(num_frames, GRID), 3)


def test_squares_are_pooled_in_space() -> None:
    features_TND = features(1)
    pooling = SlowFastPooling(num_slow_frames=1, slow_pool=SlowPool.MAX_2D, fast_grid=None)
    square = features_TND[0].unflatten(0, GRID)[2:4, 2:4].amax((0, 1))
    assert torch.equal(pool_slow_fast(features_TND, GRID, pooling)[3 + 1], square)


def test_pairs_of_an_odd_grid_run_over_the_ends_of_rows_and_miss_the_last_patch() -> None:
    features_TND = torch.randn(1, 9, 3)
    pooling = SlowFastPooling(num_slow_frames=1, fast_grid=None)
    tokens = pool_slow_fast(features_TND, (3, 3), pooling)
    pairs = [torch.maximum(features_TND[0, k], features_TND[0, k + 1]) for k in (0, 2, 4, 6)]
    assert torch.equal(tokens, torch.stack(pairs))


def test_a_pathway_that_is_off_leaves_the_other_as_it_was() -> None:
    features_TND = features(8)
    both = pool_slow_fast(features_TND, GRID, SlowFastPooling(num_slow_frames=4))
    slow = pool_slow_fast(features_TND, GRID, SlowFastPooling(num_slow_frames=4, fast_grid=None))
    fast = pool_slow_fast(features_TND, GRID, SlowFastPooling(num_slow_frames=0))
    assert torch.equal(both, torch.cat([slow, fast]))


def test_the_dtype_of_the_features_stays() -> None:
    tokens = pool_slow_fast(features(2).bfloat16(), GRID, SlowFastPooling())
    assert tokens.dtype == torch.bfloat16


def test_patches_that_fill_no_grid_are_an_error() -> None:
    with pytest.raises(ValueError, match="24 patches are not a grid of 5 x 5"):
        pool_slow_fast(features(1), (5, 5), SlowFastPooling())

"""Pools the features of sampled frames into one sequence (arXiv 2407.15841, section 3.2).

Shape legend: T frames, N patches (rows x columns), D width, L visual tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from sfray.pooling import SlowFastPooling, SlowPool


def pool_slow_fast(
    features_TND: Tensor, patch_grid: tuple[int, int], pooling: SlowFastPooling
) -> Tensor:
    """Slow tokens first, then fast ones, without separators.

    Args:
        features_TND: projected patch features of T frames, any float dtype.
        patch_grid: rows and columns of patches, N = rows * columns.

    Returns:
        (L, D), of the dtype of the features, L = `pooling.num_visual_tokens(T, patch_grid)`.
    """
    num_frames, num_patches, width = features_TND.shape
    rows, columns = patch_grid
    if rows * columns != num_patches:
        raise ValueError(f"{num_patches} patches are not a grid of {rows} x {columns}")
    parts = []
    if pooling.num_slow_frames:
        slow_TND = features_TND[pooling.slow_frame_indices(num_frames)]
        parts.append(_pool_slow(slow_TND, patch_grid, pooling.slow_pool).reshape(-1, width))
    if pooling.fast_grid is not None:
        grid_TDHW = features_TND.transpose(1, 2).reshape(num_frames, width, rows, columns)
        fast_TDHW = functional.adaptive_avg_pool2d(grid_TDHW, pooling.fast_grid)
        parts.append(fast_TDHW.flatten(2).transpose(1, 2).reshape(-1, width))
    return torch.cat(parts)


def _pool_slow(slow_TND: Tensor, patch_grid: tuple[int, int], pool: SlowPool) -> Tensor:
    rows, columns = patch_grid
    slow_TDN = slow_TND.transpose(1, 2)
    match pool:
        case SlowPool.NONE:
            return slow_TND
        case SlowPool.MAX_1D:
            pooled = functional.max_pool1d(slow_TDN, 2)
        case SlowPool.AVG_1D:
            pooled = functional.avg_pool1d(slow_TDN, 2)
        case SlowPool.MAX_2D:
            pooled = functional.max_pool2d(slow_TDN.unflatten(2, (rows, columns)), 2).flatten(2)
        case SlowPool.AVG_2D:
            pooled = functional.avg_pool2d(slow_TDN.unflatten(2, (rows, columns)), 2).flatten(2)
    return pooled.transpose(1, 2)

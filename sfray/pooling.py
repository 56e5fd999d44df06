"""The two pathways of SlowFast-LLaVA as values (arXiv 2407.15841, section 3.2); no torch here."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class SlowPool(StrEnum):
    """How the patches of a slow frame are pooled: in pairs along the flattened patch axis (1d),
    in squares of 2 x 2 (2d), or not at all.

    On a grid of odd sides, as the reference's pooling layers do, what fills no window is left out:
    of 27 x 27 patches pairs miss the last one (and run on over the ends of rows), squares the last
    row and column. The fast pathway sees all patches.
    """

    NONE = "none"
    MAX_1D = "max_1d"
    AVG_1D = "avg_1d"
    MAX_2D = "max_2d"
    AVG_2D = "avg_2d"


@dataclass(frozen=True, slots=True)
class SlowFastPooling:
    """Few slow frames with much detail, all frames again pooled to a small grid.

    `num_slow_frames` 0 switches the slow pathway off, `fast_grid` None the fast one.
    """

    num_slow_frames: int = 10
    slow_pool: SlowPool = SlowPool.MAX_1D
    fast_grid: tuple[int, int] | None = (4, 4)

    def __post_init__(self) -> None:
        if self.num_slow_frames < 0:
            raise ValueError(f"num_slow_frames is {self.num_slow_frames}, but must not be negative")
        if self.num_slow_frames == 0 and self.fast_grid is None:
            raise ValueError("the slow and the fast pathway can't both be off")

    def slow_frame_indices(self, num_frames: int) -> list[int]:
        """Which of `num_frames` sampled frames are slow ones; they repeat if there are fewer."""
        return [k * num_frames // self.num_slow_frames for k in range(self.num_slow_frames)]

    def num_visual_tokens(self, num_frames: int, patch_grid: tuple[int, int]) -> int:
        """How many tokens a clip of `num_frames` sampled frames becomes."""
        rows, columns = patch_grid
        patches = {
            SlowPool.NONE: rows * columns,
            SlowPool.MAX_1D: rows * columns // 2,
            SlowPool.AVG_1D: rows * columns // 2,
            SlowPool.MAX_2D: (rows // 2) * (columns // 2),
            SlowPool.AVG_2D: (rows // 2) * (columns // 2),
        }[self.slow_pool]
        fast = 0 if self.fast_grid is None else self.fast_grid[0] * self.fast_grid[1]
        return self.num_slow_frames * patches + num_frames * fast

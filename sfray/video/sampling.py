"""Which frames of a clip are looked at (SlowFast-LLaVA, arXiv 2407.15841, section 3.2)."""

from __future__ import annotations

import numpy as np


def sample_frame_indices(num_frames_in_clip: int, num_frames: int) -> np.ndarray:
    """The middle frame of each of `num_frames` equal segments of a clip.

    The clip's last index, not its length, is what is divided, and segment bounds round half to
    even: other roundings take other frames for a quarter of all lengths. A clip shorter than
    asked for takes as many frames as it has by the same rule, so that some come twice.

    Returns:
        int64 (n,), ascending, n the smaller of the two numbers, at least 1.
    """
    if num_frames_in_clip < 1 or num_frames < 1:
        raise ValueError(f"{num_frames} of {num_frames_in_clip} frames: both must be at least 1")
    n = min(num_frames, num_frames_in_clip)
    bounds = np.round((num_frames_in_clip - 1) / n * np.arange(n + 1)).astype(np.int64)
    return (bounds[:-1] + bounds[1:]) // 2

"""Training videos: rendered, encoded, decoded and sampled as in a job, then kept as frames."""

from __future__ import annotations

import io
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import av
import numpy as np
from PIL import Image

from sfray.demo.preset import NUM_FRAMES
from sfray.demo.videos import write_video
from sfray.demo.world import make_scene, render
from sfray.video.sampling import sample_frame_indices

IMAGE_SIZE = 96


def sampled_frames(seed: int) -> np.ndarray:
    """uint8 (NUM_FRAMES, IMAGE_SIZE, IMAGE_SIZE, 3): what the model sees of a scene's video."""
    buffer = io.BytesIO()
    write_video(buffer, render(make_scene(seed)))
    buffer.seek(0)
    with av.open(buffer) as container:
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    indices = sample_frame_indices(len(decoded), NUM_FRAMES)
    size = (IMAGE_SIZE, IMAGE_SIZE)
    return np.stack(
        [Image.fromarray(decoded[i]).resize(size, Image.Resampling.BICUBIC) for i in indices]
    )


def load_or_make_frames(path: Path, num_videos: int, first_seed: int) -> np.ndarray:
    """uint8 (V, NUM_FRAMES, IMAGE_SIZE, IMAGE_SIZE, 3), made once and kept in a file."""
    if path.exists():
        return np.load(path, mmap_mode="r")
    seeds = range(first_seed, first_seed + num_videos)
    with ProcessPoolExecutor(2) as pool:
        frames = np.stack(list(pool.map(sampled_frames, seeds, chunksize=50)))
    np.save(path, frames)
    return frames

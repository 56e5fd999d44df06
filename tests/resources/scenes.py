"""Videos whose picture is another one in each scene."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

FPS = 10


def write_scenes(path: Path, seconds: tuple[float, ...], gap_seconds: float = 0.0) -> Path:
    """Writes an H.264 video with a scene of each length; returns its path.

    Args:
        gap_seconds: how much longer the last frame of a scene is shown.
    """
    pictures = np.random.default_rng(1).integers(0, 255, (len(seconds), 4, 4, 3), dtype=np.uint8)
    shown = 0.0
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width = stream.height = 128
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for picture, length in zip(pictures, seconds, strict=True):
            image = np.kron(picture, np.ones((32, 32, 1), np.uint8))
            for _ in range(round(length * FPS)):
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.time_base = Fraction(1, 1000)
                frame.pts = round(shown * 1000)
                container.mux(stream.encode(frame))
                shown += 1 / FPS
            shown += gap_seconds
        container.mux(stream.encode(None))
    return path

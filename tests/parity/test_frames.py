"""Frames against those of the reference implementation (decord 0.6.0, PIL, CLIP), bit for bit.

`tests/resources/parity/expected` holds what the reference gave on a CPU in float32: the indices
it sampled, sha256 of each frame at source size, and sha256 of the normalised pixels.
"""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sfray.video.container import open_video
from sfray.video.readers import decord as decord_reader
from sfray.video.readers import pyav as pyav_reader
from sfray.video.readers.pyav import ClipRequest
from sfray.video.readers.reading import read_clip

PARITY = Path(__file__).parent.parent / "resources" / "parity"
EXPECTED = sorted((PARITY / "expected").glob("*.json"))
IMAGE_SIZE = 336
LIMITS = {"max_frame_pixels": 2**26, "max_frames": 10**6}
# CLIP's, as its processor has them.
MEAN = np.array([0.48145466, 0.4578275, 0.40821073], dtype=np.float32)
STD = np.array([0.26862954, 0.26130258, 0.27577711], dtype=np.float32)


@pytest.fixture(params=EXPECTED, ids=lambda path: path.stem)
def expected(request: pytest.FixtureRequest) -> dict[str, Any]:
    return json.loads(request.param.read_text())


@pytest.mark.parametrize("reader", ["pyav", "decord"])
def test_frames_and_pixels_equal_the_reference(
    reader: str, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("av" if reader == "pyav" else "decord")
    seen: list[str] = []

    def squash(rgb_HWC: np.ndarray, size: int) -> np.ndarray:
        seen.append(hashlib.sha256(np.ascontiguousarray(rgb_HWC).tobytes()).hexdigest())
        image = Image.fromarray(rgb_HWC).resize((size, size), Image.Resampling.BICUBIC)
        return np.asarray(image)

    monkeypatch.setattr(pyav_reader, "squash", squash)
    monkeypatch.setattr(decord_reader, "squash", squash)
    frames_THWC = np.empty((50, IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)
    request = ClipRequest(
        start_seconds=None,
        end_seconds=None,
        num_frames=50,
        image_size=IMAGE_SIZE,
        seek="exact",
        **LIMITS,
    )
    with (PARITY / "videos" / expected["video"]).open("rb") as file:
        told = read_clip(
            file.fileno(),
            request,
            reader=reader,
            max_substituted_ratio=0.0,
            frames_THWC=frames_THWC,
        )
    indices = told["frame_indices"]
    assert indices == expected["frame_indices"]
    hashes = dict(zip(indices, expected["frames_sha256"], strict=True))
    assert seen == [hashes[index] for index in sorted(hashes)]
    pixels = normalised(frames_THWC[: len(indices)])
    assert list(pixels.shape) == expected["pixels"]["shape"]
    assert hashlib.sha256(pixels.tobytes()).hexdigest() == expected["pixels"]["sha256"]


def normalised(frames_THWC: np.ndarray) -> np.ndarray:
    """float32 (T, 3, H, W), by the arithmetic of transformers' processor."""
    scaled = (frames_THWC.astype(np.float64) * (1 / 255)).astype(np.float32)
    return np.ascontiguousarray(((scaled - MEAN) / STD).transpose(0, 3, 1, 2))


def test_seeking_gives_the_same_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeking to each frame against decoding through, on the longest file."""
    path = PARITY / "videos" / "v01_320x240_30fps_150f.mp4"
    with path.open("rb") as file:
        reader = pyav_reader.PyavReader(partial(open_video, file.fileno(), **LIMITS))
        request = ClipRequest(
            start_seconds=None,
            end_seconds=None,
            num_frames=7,
            image_size=64,
            seek="exact",
            **LIMITS,
        )
        monkeypatch.setattr(pyav_reader, "_seeking_saves", lambda *_: False)
        through = reader.read(request)
        monkeypatch.setattr(pyav_reader, "_seeking_saves", lambda *_: True)
        sought = reader.read(request)
    assert sought.indices.tolist() == through.indices.tolist()
    for index in through.indices.tolist():
        np.testing.assert_array_equal(sought.frames[index], through.frames[index])

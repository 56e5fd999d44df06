"""Frames of generated files of every kind against those of the program `ffmpeg`, old and new.

The tolerance is none: codecs define their frames to the bit, and both convert them with swscale.
Only of a file that is cut may the last, damaged frame be one that the other leaves out.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sfray.video.container import open_video
from sfray.video.pixels import squash
from sfray.video.readers.pyav import ClipRequest
from sfray.video.readers.reading import read_clip
from tests.resources.make_videos import Kind
from tests.resources.video_kinds import CUT, READABLE

NUM_FRAMES, IMAGE_SIZE = 16, 96
LIMITS = {"max_frame_pixels": 2**26, "max_frames": 10**6}
# The program scales what comes after a change of size to the size of before.
KINDS = [kind for kind in READABLE if kind.joined_with is None]


def programs() -> list[str]:
    """The system's program, and that of a package which our other environments don't have."""
    found = [path] if (path := shutil.which("ffmpeg")) else []
    if importlib.util.find_spec("imageio_ffmpeg"):
        found.append(importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe())
    return found


PROGRAMS = programs()
pytestmark = pytest.mark.skipif(not PROGRAMS, reason="`make test` has an ffmpeg")


def test_there_are_many_kinds() -> None:
    assert len(KINDS) >= 80


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_frames_are_those_of_ffmpeg(kind: Kind, tmp_path: Path) -> None:
    path = kind.write(tmp_path)
    told, frames_THWC = read(path)
    for program in PROGRAMS:
        theirs = frames_of_ffmpeg(program, path, told)
        assert told["facts"]["num_frames"] == len(theirs), program
        expected_THWC = np.stack([theirs[i] for i in told["frame_indices"]])
        np.testing.assert_array_equal(frames_THWC, expected_THWC, err_msg=program)


@pytest.mark.parametrize("kind", CUT, ids=lambda kind: kind.name)
def test_frames_of_cut_files_are_those_of_ffmpeg(kind: Kind, tmp_path: Path) -> None:
    path = kind.write(tmp_path)
    told, frames_THWC = read(path)
    for program in PROGRAMS:
        theirs = frames_of_ffmpeg(program, path, told)
        assert abs(told["facts"]["num_frames"] - len(theirs)) <= 1, program
        for index, frame_HWC in zip(told["frame_indices"], frames_THWC, strict=True):
            if index < len(theirs) - 1:
                np.testing.assert_array_equal(frame_HWC, theirs[index], err_msg=program)


def read(path: Path) -> tuple[dict[str, Any], np.ndarray]:
    request = ClipRequest(
        start_seconds=None,
        end_seconds=None,
        num_frames=NUM_FRAMES,
        image_size=IMAGE_SIZE,
        seek="exact",
        **LIMITS,
    )
    frames_THWC = np.empty((NUM_FRAMES, IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        told = read_clip(
            descriptor, request, reader="auto", max_substituted_ratio=1.0, frames_THWC=frames_THWC
        )
    finally:
        os.close(descriptor)
    return told, frames_THWC[: len(told["frame_indices"])]


def frames_of_ffmpeg(program: str, path: Path, told: dict[str, Any]) -> list[np.ndarray]:
    """All frames of the stream that was read, each of (96, 96, 3)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with open_video(descriptor, **LIMITS) as video:
            index, context = video.stream.index, video.stream.codec_context
            sides = context.width, context.height
    finally:
        os.close(descriptor)
    width, height = reversed(sides) if told["facts"]["rotation_degrees"] % 180 else sides
    command = [program, "-v", "error", "-i", str(path), "-map", f"0:{index}"]
    command += ["-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    done = subprocess.run(command, check=False, capture_output=True)  # noqa: S603
    frames_THWC = np.frombuffer(done.stdout, np.uint8).reshape(-1, height, width, 3)
    return [squash(frame_HWC, IMAGE_SIZE) for frame_HWC in frames_THWC]

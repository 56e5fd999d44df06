"""Frames of every kind of file: each must tell the number that belongs at its index."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from sfray import process
from sfray.errors import RequestError
from sfray.video.container import OpenVideo
from sfray.video.readers import pyav as pyav_reader
from sfray.video.readers.pyav import ClipRequest
from sfray.video.readers.reading import read_clip
from tests.resources.make_videos import Kind, number_of, picture
from tests.resources.video_kinds import BROKEN, CUT, READABLE

NUM_FRAMES = 16
IMAGE_SIZE = 96


def by_name(kinds: list[Kind]) -> Any:
    return pytest.mark.parametrize("kind", kinds, ids=lambda kind: kind.name)


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Kind], Path]:
    """Writes each kind once."""
    folder = tmp_path_factory.mktemp("videos")
    paths: dict[str, Path] = {}

    def write(kind: Kind) -> Path:
        if kind.name not in paths:
            paths[kind.name] = kind.write(folder)
        return paths[kind.name]

    return write


def read(
    path: Path, *, reader: str = "auto", max_substituted_ratio: float = 1.0, **options: Any
) -> tuple[dict[str, Any], list[int]]:
    """What was told of the clip, and the numbers that its frames tell."""
    request = ClipRequest(
        **{
            "start_seconds": None,
            "end_seconds": None,
            "num_frames": NUM_FRAMES,
            "image_size": IMAGE_SIZE,
            "seek": "exact",
            "max_frame_pixels": 2**26,
            "max_frames": 10**6,
        }
        | options
    )
    frames_THWC = np.zeros((request.num_frames, IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        told = read_clip(
            descriptor,
            request,
            reader=reader,
            max_substituted_ratio=max_substituted_ratio,
            frames_THWC=frames_THWC,
        )
    finally:
        os.close(descriptor)
    count = len(told["frame_indices"])
    return told, [number_of(frame_HWC) for frame_HWC in frames_THWC[:count]]


def expected_at(kind: Kind, told: dict[str, Any]) -> list[int]:
    return [kind.expected_numbers[index] % 256 for index in told["frame_indices"]]


def test_there_are_many_kinds() -> None:
    kinds = [kind.name for kind in (*READABLE, *CUT, *BROKEN)]
    assert len(set(kinds)) == len(kinds) >= 80


def test_writing_leaves_the_scheduling_of_this_process_as_it_was(tmp_path: Path) -> None:
    before = os.sched_getscheduler(0)
    next(kind for kind in READABLE if kind.codec == "libsvtav1").write(tmp_path)
    assert os.sched_getscheduler(0) == before


@by_name(READABLE)
def test_every_frame_is_in_its_place(kind: Kind, written: Callable[[Kind], Path]) -> None:
    told, numbers = read(written(kind))
    assert told["facts"]["num_frames"] == len(kind.expected_numbers)
    assert (told["facts"]["width"], told["facts"]["height"]) == kind.expected_size
    assert len(numbers) == min(NUM_FRAMES, len(kind.expected_numbers))
    assert numbers == expected_at(kind, told)
    assert told["num_substituted_frames"] == 0


@by_name(READABLE)
def test_keyframes_tell_their_own_place(kind: Kind, written: Callable[[Kind], Path]) -> None:
    told, numbers = read(written(kind), seek="keyframe")
    assert numbers == expected_at(kind, told)


@by_name(READABLE)
def test_few_frames_of_many_are_in_their_place(kind: Kind, written: Callable[[Kind], Path]) -> None:
    """With so few, seeking is what pays."""
    told, numbers = read(written(kind), num_frames=2)
    assert numbers == expected_at(kind, told)


@by_name(READABLE)
def test_sought_frames_are_those_of_decoding_through(
    kind: Kind, written: Callable[[Kind], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several frames of each group of pictures, those between them spared where that is safe."""
    monkeypatch.setattr(pyav_reader, "_seeking_saves", lambda *_: True)
    told, numbers = read(written(kind))
    assert told["facts"]["num_frames"] == len(kind.expected_numbers)
    assert numbers == expected_at(kind, told)


def test_frames_that_no_other_leans_on_are_spared(
    written: Callable[[Kind], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = next(kind for kind in READABLE if kind.name == "h264-mp4")
    decode, num_decoded = pyav_reader._decode, []

    def counted(video: OpenVideo, packet: av.Packet | None) -> list[av.VideoFrame]:
        frames = decode(video, packet)
        num_decoded.append(len(frames))
        return frames

    monkeypatch.setattr(pyav_reader, "_decode", counted)
    monkeypatch.setattr(pyav_reader, "_seeking_saves", lambda *_: True)
    told, numbers = read(written(kind), num_frames=2)
    last = told["frame_indices"][-1]
    assert numbers == told["frame_indices"]
    # From the keyframe before the last frame: fewer than lie between.
    first = told["frame_indices"][0]
    assert sum(num_decoded) < (first + 1) + (last % kind.gop + 1)


@by_name([kind for kind in READABLE if len(kind.expected_numbers) == 40])
def test_a_clip_holds_its_part_only(kind: Kind, written: Callable[[Kind], Path]) -> None:
    whole, _ = read(written(kind))
    duration = whole["facts"]["duration_seconds"]
    start, end = 0.5 * duration, 0.75 * duration
    told, numbers = read(written(kind), start_seconds=start, end_seconds=end)
    assert numbers == expected_at(kind, told)
    assert all(time < end for time in told["pts_seconds"])
    # The first frame of a clip may have come up before it.
    assert all(time >= start for time in told["pts_seconds"][1:] if time != told["pts_seconds"][0])
    assert told["facts"]["num_frames"] == whole["facts"]["num_frames"]


@by_name(CUT)
def test_of_a_cut_file_what_is_left_is_read(kind: Kind, written: Callable[[Kind], Path]) -> None:
    told, numbers = read(written(kind))
    count = told["facts"]["num_frames"]
    assert 5 < count < kind.num_frames
    undamaged = numbers[:-2]  # the last one may be cut in two
    assert undamaged == sorted(undamaged)
    assert undamaged == expected_at(kind, told)[:-2] or kind.name.startswith("tuned-into")


@by_name(BROKEN)
def test_what_cannot_be_read_is_told(kind: Kind, written: Callable[[Kind], Path]) -> None:
    with pytest.raises(RequestError) as raised:
        read(written(kind))
    assert raised.value.code == kind.failure


# Where decord is right, by what was found with these files.
DECORD_IS_RIGHT = {"h264-mp4", "h264-mkv", "h264-mov", "vp8-webm", "vp9-webm"}


@by_name([kind for kind in READABLE if kind.name in DECORD_IS_RIGHT])
def test_decord_agrees(kind: Kind, written: Callable[[Kind], Path]) -> None:
    pytest.importorskip("decord")
    told, numbers = read(written(kind), reader="decord")
    assert told["reader"] == "decord"
    assert numbers == expected_at(kind, told)


def test_decord_opens_a_descriptor_where_there_is_no_proc(
    written: Callable[[Kind], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("decord")
    monkeypatch.setattr(process, "_DESCRIPTORS", Path("/none/self/fd"))
    (kind,) = (kind for kind in READABLE if kind.name == "h264-mp4")
    told, numbers = read(written(kind), reader="decord")
    assert told["reader"] == "decord"
    assert numbers == expected_at(kind, told)


def test_a_gif_with_delays_disposal_and_transparency(tmp_path: Path) -> None:
    """Each picture is a patch on what is left of the one before."""
    pictures = [Image.fromarray(picture(n)).convert("RGBA") for n in range(5)]
    for number, image in enumerate(pictures):
        if number % 2:  # the lower half shows what is below
            image.paste((0, 0, 0, 0), (0, 48, 128, 96))
    path = tmp_path / "a.gif"
    pictures[0].save(
        path,
        save_all=True,
        append_images=pictures[1:],
        duration=[100, 300, 50, 200, 100],
        disposal=[1, 1, 2, 1, 1],
    )
    told, numbers = read(path, num_frames=5)
    assert told["facts"]["num_frames"] == 5
    assert told["facts"]["duration_seconds"] == pytest.approx(0.75, abs=0.1)
    assert numbers == told["frame_indices"]
    shown_at = np.array([0, 0.1, 0.4, 0.45, 0.65])
    assert told["pts_seconds"] == pytest.approx(shown_at[told["frame_indices"]], abs=0.011)


def test_frames_of_more_pixels_than_allowed_are_refused(
    written: Callable[[Kind], Path],
) -> None:
    with pytest.raises(RequestError) as raised:
        read(written(READABLE[0]), max_frame_pixels=1000)
    assert raised.value.code == "frame_too_large"


@pytest.mark.parametrize("reader", ["pyav", "decord"])
@by_name([kind for kind in READABLE if kind.name in {"h264-mp4", "h264-mkv", "variable-rate-mp4"}])
def test_more_frames_than_allowed_are_refused(
    kind: Kind, written: Callable[[Kind], Path], reader: str
) -> None:
    pytest.importorskip("av" if reader == "pyav" else "decord")
    path = written(kind)
    told, _ = read(path, reader=reader, max_frames=kind.num_frames)
    assert told["facts"]["num_frames"] == kind.num_frames
    with pytest.raises(RequestError, match="more than the 39 frames") as raised:
        read(path, reader=reader, max_frames=kind.num_frames - 1)
    assert raised.value.code == "too_many_frames"


def _damaged(data: bytes) -> bytes:
    """Bytes of a frame in the middle, turned over."""
    low = data.index(b"mdat") + (len(data) - data.index(b"mdat")) // 3
    return data[:low] + bytes(byte ^ 0x5A for byte in data[low : low + 300]) + data[low + 300 :]


def test_damage_is_counted_and_beyond_its_share_a_failure(tmp_path: Path) -> None:
    movflags = {"movflags": "faststart"}
    path = Kind(name="damaged", container_options=movflags, damage=_damaged).write(tmp_path)
    told, _ = read(path, max_substituted_ratio=1 / NUM_FRAMES)
    assert told["num_substituted_frames"] == 1
    with pytest.raises(RequestError, match="1 of 16 frames are damaged") as raised:
        read(path, max_substituted_ratio=0.9 / NUM_FRAMES)
    assert raised.value.code == "too_many_substituted"

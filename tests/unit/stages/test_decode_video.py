"""The stage on real files: frames or a failure for every item, and nothing raised."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sfray.config import DecodeSpec
from sfray.errors import RequestError, SpecError
from sfray.records import DecodedItem, VideoSource, WorkItem
from sfray.stages.decode_video import DecodeConfig, DecodeVideo

PARITY_VIDEOS = Path(__file__).parents[2] / "resources" / "parity" / "videos"
VIDEO = PARITY_VIDEOS / "v12_336sq_1fps_20f.mp4"


def item(uri: str | Path, start: float | None = None, end: float | None = None) -> WorkItem:
    return WorkItem(
        video_id="v",
        video_uri=str(uri),
        fetch_uri=str(uri),
        start_seconds=start,
        end_seconds=end,
        requests=(),
    )


def make_stage(**decode: object) -> DecodeVideo:
    return DecodeVideo(DecodeConfig(decode=DecodeSpec(**decode), num_frames=8, image_size=48))


@pytest.fixture(scope="module")
def stage() -> Iterator[DecodeVideo]:
    stage = make_stage()
    yield stage
    stage.close()


@pytest.fixture
def write(tmp_path: Path) -> Callable[[bytes], Path]:
    def write(content: bytes) -> Path:
        path = tmp_path / "file.mp4"
        path.write_bytes(content)
        return path

    return write


def failure_code(decoded: DecodedItem) -> str:
    assert decoded.video is None
    assert decoded.failure is not None
    return decoded.failure.code


def test_a_video_is_decoded(stage: DecodeVideo) -> None:
    decoded = stage(item(VIDEO))
    assert decoded.failure is None
    video = decoded.video
    assert video is not None
    assert video.frames_THWC.shape == (8, 48, 48, 3)
    assert video.frame_indices.tolist() == [1, 3, 6, 8, 11, 13, 15, 18]
    np.testing.assert_allclose(video.pts_seconds, video.frame_indices)
    assert video.facts.num_frames == 20
    assert (video.facts.width, video.facts.height) == (336, 336)
    assert video.facts.duration_seconds == pytest.approx(20)
    assert video.reader == "pyav"
    assert decoded.decode_seconds > 0
    assert decoded.bytes_fetched == 0
    assert video.facts.declared_duration_seconds == pytest.approx(20)
    assert decoded.source == VideoSource(size_bytes=VIDEO.stat().st_size)


def test_frames_outlive_the_next_file(stage: DecodeVideo) -> None:
    first = stage(item(VIDEO)).video
    assert first is not None
    before = first.frames_THWC.copy()
    stage(item(PARITY_VIDEOS / "v06_7frames_320x180.mp4"))
    np.testing.assert_array_equal(first.frames_THWC, before)


def test_a_clip_takes_frames_of_its_seconds(stage: DecodeVideo) -> None:
    video = stage(item(VIDEO, 5.0, 9.0)).video
    assert video is not None
    assert set(video.frame_indices.tolist()) <= {5, 6, 7, 8}


@pytest.mark.parametrize("clip", [(20.0, 21.0), (5.0, 21.5), (7.0, 7.0), (-1.0, 3.0)])
def test_a_clip_out_of_range_tells_the_duration(
    stage: DecodeVideo, clip: tuple[float, float]
) -> None:
    decoded = stage(item(VIDEO, *clip))
    assert failure_code(decoded) == "clip_out_of_range"
    assert decoded.failure is not None
    assert "20.000 s" in decoded.failure.message


def test_an_end_beyond_by_less_than_a_frame_is_fine(stage: DecodeVideo) -> None:
    assert stage(item(VIDEO, 5.0, 20.9)).failure is None


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty_file"),
        (b"\x00\x01garbage\xff" * 400, "not_a_video"),
        (b"<html><body>404</body></html>", "not_a_video"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "not_a_video"),
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "playlist_refused"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "playlist_refused"),
    ],
)
def test_what_is_no_video_is_told(
    stage: DecodeVideo, write: Callable[[bytes], Path], content: bytes, code: str
) -> None:
    assert failure_code(stage(item(write(content)))) == code


def test_a_missing_file_and_a_folder(stage: DecodeVideo, tmp_path: Path) -> None:
    assert failure_code(stage(item(tmp_path / "none.mp4"))) == "not_found"
    assert failure_code(stage(item(tmp_path))) == "uri_refused"


def test_probe_tells_facts_or_raises(stage: DecodeVideo, tmp_path: Path) -> None:
    assert stage.probe(str(VIDEO)).num_frames == 20
    with pytest.raises(RequestError) as raised:
        stage.probe(str(tmp_path / "none.mp4"))
    assert raised.value.code == "not_found"


def test_a_crash_costs_its_file_only(stage: DecodeVideo, monkeypatch: pytest.MonkeyPatch) -> None:
    assert stage(item(VIDEO)).failure is None
    pid = stage._sandbox.child_pid
    assert pid is not None
    receive = stage._sandbox._receive

    def receive_of_the_dying(*args: Any) -> Any:
        os.kill(pid, signal.SIGSEGV)
        os.kill(pid, signal.SIGCONT)
        return receive(*args)

    with monkeypatch.context() as patch:
        patch.setattr(stage._sandbox, "_receive", receive_of_the_dying)
        os.kill(pid, signal.SIGSTOP)  # so that it can't answer before
        assert failure_code(stage(item(VIDEO))) == "decode_crashed"
    assert stage(item(VIDEO)).failure is None


def test_forced_decord() -> None:
    pytest.importorskip("decord")
    stage = make_stage(reader="decord")
    try:
        video = stage(item(VIDEO)).video
    finally:
        stage.close()
    assert video is not None
    assert video.reader == "decord"
    assert video.frame_indices.tolist() == [1, 3, 6, 8, 11, 13, 15, 18]


def test_a_worker_without_decord_stops_the_run_though_the_plan_had_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "decord", None)
    with pytest.raises(SpecError, match=r"not installed.*allowed here: auto, pyav"):
        make_stage(reader="decord")
    stage = make_stage(reader="auto")
    try:
        video = stage(item(VIDEO)).video
    finally:
        stage.close()
    assert video is not None and video.reader == "pyav"

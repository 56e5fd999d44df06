"""The sandbox with real children: what they may not do, and what their end means."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sfray.config import DecodeSpec
from sfray.errors import RequestError, RunError
from sfray.video.sandbox.channel import Message
from sfray.video.sandbox.parent import Sandbox
from tests.resources.make_videos import Kind
from tests.waiting import wait_until

VIDEO = Path(__file__).parents[3] / "resources" / "parity" / "videos" / "v06_7frames_320x180.mp4"
WHOLE: dict[str, Any] = {"start_seconds": None, "end_seconds": None, "seek": "exact"}


@dataclass
class Source:
    """A file by descriptor, or by range; `on_read` is called before each range is given."""

    path: Path
    by_range: bool = False
    on_read: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        self._file = self.path.open("rb")
        self.asked: list[tuple[int, int, int]] = []

    @property
    def size(self) -> int:
        return self.path.stat().st_size

    @property
    def descriptor(self) -> int | None:
        return None if self.by_range else self._file.fileno()

    def read(self, offset: int, length: int, expected_end: int) -> bytes:
        self.on_read()
        self.asked.append((offset, length, expected_end))
        return os.pread(self._file.fileno(), length, offset)


@contextmanager
def sandbox_with(**decode: int) -> Iterator[Sandbox]:
    with closing(Sandbox(DecodeSpec(**decode), num_frames=4, image_size=32)) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with sandbox_with(timeout_seconds=30) as sandbox:
        yield sandbox


def pid_of(sandbox: Sandbox) -> int:
    assert sandbox.child_pid is not None
    return sandbox.child_pid


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def assert_killed_where_it_hangs(sandbox: Sandbox) -> None:
    sandbox.probe(Source(VIDEO))
    hanging = pid_of(sandbox)
    os.kill(hanging, signal.SIGSTOP)
    with pytest.raises(RequestError) as raised:
        sandbox.probe(Source(VIDEO))
    assert raised.value.code == "decode_timeout"
    assert not is_running(hanging)


def test_by_descriptor_and_by_range_are_the_same(sandbox: Sandbox) -> None:
    told, frames_THWC = sandbox.read_clip(Source(VIDEO), **WHOLE)
    told_by_range, by_range_THWC = sandbox.read_clip(Source(VIDEO, by_range=True), **WHOLE)
    assert told == told_by_range
    assert frames_THWC.shape == (4, 32, 32, 3)
    np.testing.assert_array_equal(frames_THWC, by_range_THWC)


def test_by_range_it_is_told_what_comes_next(sandbox: Sandbox, tmp_path: Path) -> None:
    lossless = {"qp": "0", "preset": "ultrafast"}
    kind = Kind(name="sought", num_frames=300, gop=60, size=(320, 240), options=lossless)
    source = Source(kind.write(tmp_path), by_range=True)
    told, _ = sandbox.read_clip(source, **WHOLE)
    assert len(told["frame_indices"]) == 4
    announced = {end for offset, length, end in source.asked if end > offset + length}
    assert len(announced) == 4, "of each frame from its keyframe on"
    read_to = {end: max(o + n for o, n, e in source.asked if e == end) for end in announced}
    for end, last in read_to.items():
        assert end <= last + kind.size[0] * kind.size[1], "some packets more at most"
    assert sum(length for _, length, _ in source.asked) < source.size


def test_a_child_serves_many_files_and_is_then_replaced() -> None:
    with sandbox_with(files_per_process=2) as sandbox:
        pids = []
        for _ in range(4):
            sandbox.probe(Source(VIDEO))
            pids.append(pid_of(sandbox))
    assert pids[0] == pids[1] != pids[2] == pids[3]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (signal.SIGSEGV, "Segmentation fault"),
        (signal.SIGABRT, "Aborted"),
        (signal.SIGKILL, "Killed"),
    ],
)
def test_a_child_killed_in_mid_decode(sandbox: Sandbox, number: int, words: str) -> None:
    sandbox.probe(Source(VIDEO))
    killed = pid_of(sandbox)
    source = Source(VIDEO, by_range=True, on_read=lambda: os.kill(pid_of(sandbox), number))
    with pytest.raises(RequestError, match=words) as raised:
        sandbox.probe(source)
    assert raised.value.code == "decode_crashed"
    assert sandbox.probe(Source(VIDEO))["num_frames"] == 7
    assert pid_of(sandbox) != killed


@pytest.mark.parametrize(
    ("what", "code"),
    [("std::bad_alloc", "decode_out_of_memory"), ("std::out_of_range", "decode_crashed")],
)
def test_terminate_called(sandbox: Sandbox, what: str, code: str) -> None:
    """A decoder in C++ says so on standard error, and aborts."""
    sandbox.probe(Source(VIDEO))
    child = pid_of(sandbox)

    def terminate() -> None:
        with Path(f"/proc/{child}/fd/2").open("a") as stderr:
            stderr.write(f"terminate called after throwing an instance of '{what}'\n")
        os.kill(child, signal.SIGABRT)

    with pytest.raises(RequestError) as raised:
        sandbox.probe(Source(VIDEO, by_range=True, on_read=terminate))
    assert raised.value.code == code
    assert sandbox.probe(Source(VIDEO))["num_frames"] == 7


def test_processor_time_beyond_the_limit() -> None:
    """Each file has the limit anew; what goes beyond is ended by the kernel, with SIGXCPU."""
    with sandbox_with(timeout_seconds=7) as sandbox:
        for _ in range(2):
            sandbox.probe(Source(VIDEO))
            limits = Path(f"/proc/{pid_of(sandbox)}/limits").read_text()
            soft = int(limits.partition("Max cpu time")[2].split()[0])
            times = Path(f"/proc/{pid_of(sandbox)}/stat").read_text().rpartition(")")[2].split()
            used = (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")
            assert 7 - 1 <= soft - used <= 7 + 2
        kill = partial(os.kill, pid_of(sandbox), signal.SIGXCPU)
        with pytest.raises(RequestError, match="processor time than 7 s") as raised:
            sandbox.probe(Source(VIDEO, by_range=True, on_read=kill))
    assert raised.value.code == "decode_timeout"


def test_a_child_that_is_killed_once_costs_nothing(sandbox: Sandbox) -> None:
    """Such as by a host without memory, which may well be another process's doing."""
    sandbox.probe(Source(VIDEO))
    killed = [pid_of(sandbox)]
    source = Source(
        VIDEO,
        by_range=True,
        on_read=lambda: os.kill(killed.pop(), signal.SIGKILL) if killed else None,
    )
    assert sandbox.probe(source)["num_frames"] == 7
    assert killed == []


def test_a_child_that_died_between_two_files_costs_nothing(sandbox: Sandbox) -> None:
    sandbox.probe(Source(VIDEO))
    died = pid_of(sandbox)
    os.kill(died, signal.SIGSEGV)
    wait_until(lambda: not is_running(died), "the end of a child")
    assert sandbox.probe(Source(VIDEO))["num_frames"] == 7


def test_a_child_that_hangs_is_killed() -> None:
    # Time enough for the child after it to start on a machine that does much else.
    with sandbox_with(timeout_seconds=6) as sandbox:
        assert_killed_where_it_hangs(sandbox)
        assert sandbox.probe(Source(VIDEO))["num_frames"] == 7


def test_waiting_for_storage_is_no_decoding_time() -> None:
    with sandbox_with(timeout_seconds=3) as sandbox:
        sandbox.probe(Source(VIDEO))
        slow = Source(VIDEO, by_range=True, on_read=lambda: time.sleep(3.5))
        assert sandbox.probe(slow)["num_frames"] == 7


def test_memory_beyond_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "huge.y4m"
    with path.open("wb") as file:
        file.write(b"YUV4MPEG2 W8000 H8000 F25:1 C420\nFRAME\n")
        file.truncate(file.tell() + 8000 * 8000 * 3 // 2)
    with sandbox_with(max_memory_bytes=400 * 2**20) as sandbox:
        assert sandbox.probe(Source(VIDEO))["num_frames"] == 7
        with pytest.raises(RequestError) as raised:
            sandbox.read_clip(Source(path), **WHOLE)
        assert raised.value.code == "decode_out_of_memory"
        assert sandbox.probe(Source(VIDEO))["num_frames"] == 7


def test_a_child_that_cannot_start_stops_the_run() -> None:
    with sandbox_with(max_memory_bytes=2**20) as sandbox, pytest.raises(RunError, match="started"):
        sandbox.probe(Source(VIDEO))
    assert sandbox.child_pid is None


def test_a_source_that_fails_fails_its_file_only(sandbox: Sandbox) -> None:
    def fail() -> None:
        raise RequestError("fetch_failed", "the storage went away")

    with pytest.raises(RequestError, match="went away"):
        sandbox.probe(Source(VIDEO, by_range=True, on_read=fail))
    assert sandbox.probe(Source(VIDEO))["num_frames"] == 7


def test_no_secret_reaches_the_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    with sandbox_with() as sandbox:
        sandbox.probe(Source(VIDEO))
        process = Path(f"/proc/{pid_of(sandbox)}")
        assert b"hush" not in (process / "environ").read_bytes()
        assert f"{DecodeSpec().max_memory_bytes}" in (process / "limits").read_text()
        assert VIDEO not in {entry.readlink() for entry in (process / "fd").iterdir()}


def test_the_child_has_no_network(sandbox: Sandbox) -> None:
    sandbox.probe(Source(VIDEO))
    assert "Seccomp:\t2\n" in Path(f"/proc/{pid_of(sandbox)}/status").read_text()


@pytest.mark.parametrize("told", [0, 5, 10**9])
def test_a_number_of_frames_that_has_no_room_is_not_believed(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, told: int
) -> None:
    """Of a child that was taken over by its file."""
    answer = Message({"result": {"frame_indices": range(told)}})
    monkeypatch.setattr(sandbox, "_converse", lambda *_: answer)
    with pytest.raises(RequestError, match=f"told of {told} frames") as raised:
        sandbox.read_clip(Source(VIDEO), **WHOLE)
    assert raised.value.code == "decode_crashed"


@pytest.mark.parametrize("told", [[0, 10], [-1, 5, 0], [float("inf"), 5, 0]], ids=str)
def test_a_range_that_is_none_costs_its_file_only(
    monkeypatch: pytest.MonkeyPatch, told: list[float]
) -> None:
    """Of a child that was taken over by its file, and does not end by itself."""
    with closing(Sandbox(DecodeSpec(), num_frames=4, image_size=32, end_seconds=0.1)) as sandbox:
        with monkeypatch.context() as patched:
            patched.setattr(sandbox, "_receive", lambda *_: Message({"range": told}))
            with pytest.raises(RequestError) as raised:
                sandbox.probe(Source(VIDEO, by_range=True))
        assert raised.value.code == "decode_crashed"
        assert sandbox.probe(Source(VIDEO))["num_frames"] == 7


def test_no_more_is_read_at_once_than_a_decoder_needs(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = iter([Message({"range": [0, 2**40, 2**50]}), Message({"result": {}})])
    source = Source(VIDEO, by_range=True)
    with monkeypatch.context() as patched:
        patched.setattr(sandbox, "_receive", lambda *_: next(messages))
        sandbox.probe(source)
    assert source.asked == [(0, 2**20, 2**50)]
    sandbox._stop_child()  # its answers are still to come


def test_closing_leaves_nothing() -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = descriptors()
    with sandbox_with() as other:
        other.probe(Source(VIDEO))
        pid = pid_of(other)
    assert not is_running(pid)
    assert descriptors() <= before + 1  # the test's own file


PARENT = """
import sys, time
from sfray.video.sandbox.channel import Message
from sfray.video.sandbox.parent import Sandbox
from sfray.config import DecodeSpec
from tests.unit.video.sandbox.test_parent import Source, VIDEO
sandbox = Sandbox(DecodeSpec(), num_frames=4, image_size=32)
sandbox.probe(Source(VIDEO))
print(sandbox.child_pid, flush=True)
time.sleep(60)
"""


def test_the_child_dies_with_its_parent() -> None:
    parent = subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", PARENT],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[4],
        text=True,
    )
    with parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert is_running(child)
        parent.kill()
    wait_until(lambda: not is_running(child), "the end of a child")


@pytest.fixture
def web_server() -> Iterator[tuple[str, list[str]]]:
    """A loopback server's address, and the paths that were asked of it."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(VIDEO.read_bytes())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{url}\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile '{url}'\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" '
    'profiles="urn:mpeg:dash:profile:isoff-on-demand:2011" type="static">'
    "<Period><BaseURL>{url}</BaseURL></Period></MPD>",
    "sdp": "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    "m=video 5004 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n",
}


@pytest.mark.parametrize("by_range", [False, True])
@pytest.mark.parametrize("playlist", PLAYLISTS)
def test_what_a_playlist_names_is_never_opened(
    sandbox: Sandbox,
    tmp_path: Path,
    web_server: tuple[str, list[str]],
    playlist: str,
    by_range: bool,
) -> None:
    """Also where the check of contents would have let it pass: the demuxers are not there."""
    url, asked = web_server
    path, pipe = tmp_path / "video.mp4", tmp_path / "pipe.mp4"
    os.mkfifo(pipe)  # nobody writes to it: who opens it hangs
    for target in (f"{url}/video.mp4", str(VIDEO), f"file://{VIDEO}", str(pipe), f"file://{pipe}"):
        path.write_text(PLAYLISTS[playlist].format(url=target))
        with pytest.raises(RequestError) as raised:
            sandbox.read_clip(Source(path, by_range=by_range), **WHOLE)
        assert raised.value.code == "not_a_video"
    assert asked == []

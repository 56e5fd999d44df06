"""Fetching from local folders and from a real web server with every misbehaviour."""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sfray import process
from sfray.config import StorageSpec, VideosSpec
from sfray.errors import RequestError
from sfray.sources.fetch import Fetcher
from sfray.sources.remote import FetchTerms
from sfray.storage.patience import Patience

SMALL = bytes(range(256)) * 40
LARGE = os.urandom(3 * 2**20 + 17)
SECRET = "X-Amz-Signature=hush"  # noqa: S105


# What ends well has time for it; what ends in a failure isn't waited for.
PATIENT = FetchTerms(patience=Patience(max_wait_seconds=0.01))
HASTY = FetchTerms(patience=Patience(seconds=0.2, max_wait_seconds=0.01))
BY_RANGE = replace(PATIENT, whole_file_bytes=2**20)
ENDLESS = FetchTerms(patience=Patience(seconds=float("inf"), max_wait_seconds=0.01))
FOR_EVER = 10_000


def fetcher(terms: FetchTerms = PATIENT, **videos: object) -> Fetcher:
    return Fetcher(VideosSpec(**videos), StorageSpec(), terms)


def web_fetcher(terms: FetchTerms = PATIENT, **videos: object) -> Fetcher:
    schemes = {"allowed_schemes": ["http", "https"], "allowed_hosts": ["127.0.0.1"]}
    return fetcher(terms, **schemes | videos)


def code_of(open_by: Fetcher, uri: str) -> str:
    with pytest.raises(RequestError) as raised, open_by.open(uri) as file:
        file.read(0, file.size)
    assert "hush" not in str(raised.value)
    return raised.value.code


# Local files


def test_a_local_file_is_read_in_place(tmp_path: Path) -> None:
    path = tmp_path / "a b?.bin"
    path.write_bytes(SMALL)
    for uri in (str(path), "file://" + str(path).replace(" ", "%20")):
        with fetcher().open(uri) as file:
            assert file.size == len(SMALL)
            assert file.read(250, 12) == SMALL[250:262]
            assert file.read(len(SMALL) - 3, 100) == SMALL[-3:]
            assert file.descriptor is not None
            assert Path(f"/proc/self/fd/{file.descriptor}").readlink() == path
            assert file.bytes_fetched == 0


def test_what_is_missing_forbidden_or_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    expected = {
        "none": "not_found",
        "pipe": "uri_refused",
        "": "uri_refused",
        "loop": "not_found",
        "x" * 300: "not_found",
        "a\0b": "not_found",
    }
    for name, code in expected.items():
        assert code_of(fetcher(), f"{tmp_path}/{name}") == code


def test_a_file_beyond_the_limit_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(SMALL)
    assert code_of(fetcher(max_file_bytes=100), str(tmp_path / "a")) == "file_too_large"


def test_schemes_that_are_not_allowed(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(SMALL)
    assert code_of(fetcher(allowed_schemes=["s3"]), str(tmp_path / "a")) == "uri_refused"
    assert code_of(fetcher(), f"http://example.com/v.mp4?{SECRET}") == "uri_refused"


@pytest.fixture(params=["/proc", "no /proc"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Linux, and as where there is no /proc."""
    if request.param == "no /proc":
        monkeypatch.setattr(process, "_DESCRIPTORS", Path("/none/self/fd"))


@pytest.mark.usefixtures("system")
def test_a_relative_path_stays_in_its_root(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "in").mkdir(parents=True)
    (tmp_path / "secret").write_bytes(SMALL)
    (root / "in" / "good").write_bytes(SMALL)
    (root / "out").symlink_to(tmp_path / "secret")
    (root / "inner").symlink_to(root / "in" / "good")
    rooted = fetcher(root=str(root))
    with rooted.open(f"{root}/inner") as file:
        assert file.size == len(SMALL)
    assert code_of(rooted, f"{root}/../secret") == "uri_refused"
    assert code_of(rooted, f"{root}/in/../../secret") == "uri_refused"
    assert code_of(rooted, f"{root}/out") == "uri_refused"
    assert (
        code_of(fetcher(root="s3://bucket/videos"), "s3://bucket/videos/../keys") == "uri_refused"
    )


@pytest.mark.parametrize("then", ["another file", "a link out of the root", "nothing"])
def test_without_proc_a_path_that_leads_elsewhere_by_now_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    monkeypatch.setattr(process, "_DESCRIPTORS", Path("/none/self/fd"))
    video, secret = tmp_path / "root" / "v", tmp_path / "secret"
    video.parent.mkdir()
    for path in (video, secret):
        path.write_bytes(SMALL)
    real_open = os.open

    def open_then_swap(path: str, *args: int) -> int:
        descriptor = real_open(path, *args)
        video.rename(tmp_path / "moved")
        if then == "another file":
            video.write_bytes(SMALL)
        elif then == "a link out of the root":
            video.symlink_to(secret)
        return descriptor

    monkeypatch.setattr(os, "open", open_then_swap)
    assert code_of(fetcher(root=str(tmp_path / "root")), str(video)) == "video_changed"


# Web servers


@dataclass
class Web:
    """What the server at `url` does; paths that were asked are noted."""

    url: str = ""
    content: bytes = SMALL
    # Of the answers to come; the last one stays.
    etags: list[str] = field(default_factory=lambda: ['"one"'])
    ranges: bool = True
    asked: list[str] = field(default_factory=list)
    # Statuses to answer with before all is well; 0 cuts the connection in mid-body.
    trouble: list[int] = field(default_factory=list)
    redirects: dict[str, str] = field(default_factory=dict)
    # Between one byte of a body and the next.
    pause_seconds: float = 0
    # Answers ranges with more than was asked, for ever.
    endless: bool = False


@pytest.fixture
def web() -> Iterator[Web]:
    web = Web()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            web.asked.append(self.path)
            if target := web.redirects.get(self.path):
                self.send_response(302)
                self.send_header("Location", target)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self._drip(b"x" * 1000 if web.pause_seconds else b"")
                return
            status = web.trouble.pop(0) if web.trouble else 200
            if status >= 300:
                self.send_response(status)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self._drip(b"x" * 1000 if web.pause_seconds else b"")
                return
            if web.endless:
                self.send_response(206)
                self.send_header("Content-Range", f"bytes 0-9/{2**30}")
                self.end_headers()
                with suppress(ConnectionError):
                    while True:
                        self.wfile.write(bytes(2**16))
            self._give(cut=status == 0)

        def _drip(self, part: bytes) -> None:
            with suppress(ConnectionError):
                for byte in part:
                    self.wfile.write(bytes([byte]))
                    time.sleep(web.pause_seconds)

        def _give(self, *, cut: bool) -> None:
            content, asked = web.content, self.headers.get("Range", "")
            if web.ranges and asked:
                low, high = (int(part) for part in asked.removeprefix("bytes=").split("-"))
                if low >= len(content):
                    self.send_error(416)
                    return
                part = content[low : high + 1]
                self.send_response(206)
                span = f"bytes {low}-{low + len(part) - 1}/{len(content)}"
                self.send_header("Content-Range", span)
            else:
                part = content
                self.send_response(200)
            self.send_header("Content-Length", str(len(part)))
            etag = web.etags.pop(0) if len(web.etags) > 1 else web.etags[0]
            self.send_header("ETag", etag)
            self.end_headers()
            if web.pause_seconds:
                self._drip(part)
            else:
                self.wfile.write(part[: len(part) // 2] if cut else part)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        web.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield web
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("ranges", [True, False])
def test_a_server_that_drips_is_given_up(web: Web, ranges: bool) -> None:
    """Other than one that stands still, it isn't asked again."""
    web.ranges, web.pause_seconds = ranges, 0.01
    terms = replace(ENDLESS, read_seconds=0.5)
    assert code_of(web_fetcher(terms), f"{web.url}/v.mp4?{SECRET}") == "fetch_failed"


@pytest.mark.parametrize(
    ("redirects", "trouble"), [({"/v.mp4": "/w.mp4"}, [404]), ({}, [503] * FOR_EVER)]
)
def test_bodies_that_nobody_wants_are_not_waited_for(
    web: Web, redirects: dict[str, str], trouble: list[int]
) -> None:
    web.redirects, web.trouble, web.pause_seconds = redirects, trouble, 10
    began = time.monotonic()
    assert code_of(web_fetcher(HASTY), f"{web.url}/v.mp4") in ("not_found", "fetch_failed")
    assert time.monotonic() - began < 10
    web.pause_seconds = 0


def test_an_answer_without_an_end_is_given_up(web: Web) -> None:
    web.endless = True
    assert code_of(web_fetcher(), f"{web.url}/v.mp4") == "fetch_failed"
    assert len(web.asked) == 1


@pytest.mark.parametrize(
    ("content", "ranges", "is_whole"),
    [(SMALL, True, True), (LARGE, True, False), (LARGE, False, True)],
)
def test_what_a_file_was_is_known(web: Web, content: bytes, ranges: bool, is_whole: bool) -> None:
    """The hash where all bytes came anyway: of a small file, or from a server without ranges."""
    web.content, web.ranges, web.etags = content, ranges, ['"v1"']
    with web_fetcher(BY_RANGE).open(f"{web.url}/v.mp4") as file:
        assert (file.size, file.etag) == (len(content), "v1")
        assert file.sha256 == (hashlib.sha256(content).hexdigest() if is_whole else None)


def test_a_small_file_comes_whole_in_one_request(web: Web) -> None:
    with web_fetcher().open(f"{web.url}/v.mp4?{SECRET}") as file:
        assert file.size == len(SMALL)
        assert file.descriptor is not None
        assert os.pread(file.descriptor, len(SMALL), 0) == SMALL
        assert file.bytes_fetched == len(SMALL)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.write(file.descriptor, b"x")
    assert len(web.asked) == 1


def test_a_long_file_comes_by_range(web: Web) -> None:
    web.content = LARGE
    with web_fetcher(BY_RANGE).open(f"{web.url}/v.mp4") as file:
        assert file.descriptor is None
        assert file.read(2**21 - 5, 10) == LARGE[2**21 - 5 : 2**21 + 5]
        assert file.read(2**21 - 5, 10) == LARGE[2**21 - 5 : 2**21 + 5]
        assert len(web.asked) == 2  # the head, and two blocks at once
        assert file.bytes_fetched < len(LARGE)
        assert file.read(0, len(LARGE) + 5) == LARGE
        assert file.read(len(LARGE), 5) == b""


def test_what_is_expected_comes_at_once(web: Web) -> None:
    web.content = LARGE
    with web_fetcher(BY_RANGE).open(f"{web.url}/v.mp4") as file:
        begin, end = 2**20, 2**20 + 7 * 2**17
        before = file.bytes_fetched
        for offset in range(begin, end, 2**17):
            assert file.read(offset, 2**17, end) == LARGE[offset : offset + 2**17]
        assert len(web.asked) == 2  # the head, and all of it
        assert file.bytes_fetched - before == 2**20  # whole blocks


def test_a_server_without_ranges(web: Web) -> None:
    web.content, web.ranges = LARGE, False
    with web_fetcher(BY_RANGE).open(f"{web.url}/v.mp4") as file:
        assert file.read(0, len(LARGE)) == LARGE
    assert len(web.asked) == 1


def test_an_empty_file(web: Web) -> None:
    web.content = b""
    with web_fetcher().open(f"{web.url}/v.mp4") as file:
        assert file.size == 0


@pytest.mark.parametrize("trouble", [[503, 429, 500], [0, 0], [503, 0]])
def test_what_passes_is_waited_for(web: Web, trouble: list[int]) -> None:
    web.trouble = trouble
    with web_fetcher().open(f"{web.url}/v.mp4") as file:
        assert file.read(0, len(SMALL)) == SMALL


@pytest.mark.parametrize(
    ("status", "code", "num_asked"),
    [(404, "not_found", 1), (403, "access_denied", 1), (401, "access_denied", 1)],
)
def test_what_does_not_pass_is_told_at_once(
    web: Web, status: int, code: str, num_asked: int
) -> None:
    web.trouble = [status] * 9
    assert code_of(web_fetcher(), f"{web.url}/v.mp4?{SECRET}") == code
    assert len(web.asked) == num_asked


def test_a_server_that_never_recovers(web: Web) -> None:
    web.trouble = [503] * FOR_EVER
    assert code_of(web_fetcher(HASTY), f"{web.url}/v.mp4?{SECRET}") == "fetch_failed"


def test_no_server_at_all() -> None:
    assert code_of(web_fetcher(HASTY), f"http://127.0.0.1:1/v.mp4?{SECRET}") == "fetch_failed"


def test_who_speaks_no_tls_is_told_at_once(web: Web) -> None:
    """As is who has a certificate of no use."""
    uri = f"{web.url.replace('http:', 'https:')}/v.mp4?{SECRET}"
    with (
        pytest.raises(RequestError, match=r"did not deliver the file: SSLError$"),
        web_fetcher(ENDLESS).open(uri),
    ):
        pass


def test_what_is_waited_for_is_not_logged(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    web.trouble = [503, 0, 503]
    uri = f"{web.url.replace('//', '//me:hush@')}/secret.mp4?{SECRET}"
    with caplog.at_level("WARNING", "sfray"), web_fetcher().open(uri):
        pass
    assert not [record for record in caplog.records if record.name.startswith("sfray")]


def test_a_file_that_changes_is_noticed(web: Web) -> None:
    web.content = LARGE
    web.etags = ['"one"', '"two"']
    assert code_of(web_fetcher(BY_RANGE), f"{web.url}/v.mp4") == "video_changed"


def test_private_hosts_need_to_be_listed(web: Web) -> None:
    port = web.url.rpartition(":")[2]
    schemes = ["http", "https"]
    for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433", "0.0.0.0"):  # noqa: S104
        refused = fetcher(allowed_schemes=schemes)
        assert code_of(refused, f"http://{host}:{port}/v.mp4") == "uri_refused"
    assert (
        code_of(fetcher(allowed_schemes=schemes), "http://169.254.169.254/latest") == "uri_refused"
    )
    assert web.asked == []


def test_hosts_that_are_not_listed(web: Web) -> None:
    assert code_of(web_fetcher(allowed_hosts=["example.com"]), f"{web.url}/v.mp4") == "uri_refused"
    assert web.asked == []


def test_redirects_are_checked_like_addresses(web: Web) -> None:
    port = web.url.rpartition(":")[2]
    web.redirects = {
        "/near": "/v.mp4",
        "/far": f"http://localhost:{port}/v.mp4",
        "/file": "file:///etc/passwd",
        "/round": "/round",
    }
    with web_fetcher().open(f"{web.url}/near") as file:
        assert file.read(0, len(SMALL)) == SMALL
    assert code_of(web_fetcher(), f"{web.url}/far") == "uri_refused"
    assert code_of(web_fetcher(), f"{web.url}/file") == "uri_refused"
    assert code_of(web_fetcher(), f"{web.url}/round") == "fetch_failed"


def test_what_a_redirect_leads_to_may_change_in_the_middle(web: Web) -> None:
    """Such as a signed address, good for a few minutes."""
    web.content, web.redirects = LARGE, {"/v.mp4": "/signed-1"}
    with web_fetcher(BY_RANGE).open(f"{web.url}/v.mp4") as file:
        web.redirects, web.trouble = {"/v.mp4": "/signed-2"}, [403]
        assert file.read(2**21, 100) == LARGE[2**21 : 2**21 + 100]
    assert web.asked[-3:] == ["/signed-1", "/v.mp4", "/signed-2"]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_full_scratch_disk(
    web: Web, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ranges: bool
) -> None:
    """/dev/full takes no byte."""

    def full(**_: object) -> tuple[int, str]:
        (tmp_path / "scratch").touch()
        return os.open("/dev/full", os.O_WRONLY), str(tmp_path / "scratch")

    monkeypatch.setattr(tempfile, "TemporaryFile", partial(Path("/dev/full").open, "wb"))
    monkeypatch.setattr(tempfile, "mkstemp", full)
    web.content, web.ranges = LARGE, ranges
    assert code_of(web_fetcher(), f"{web.url}/v.mp4") == "scratch_full"


@pytest.mark.parametrize("ranges", [True, False])
def test_scratch_files_have_no_name(
    web: Web, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ranges: bool
) -> None:
    """So the kernel removes them, however the process that holds them ends."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    web.content, web.ranges = LARGE, ranges
    with web_fetcher().open(f"{web.url}/v.mp4") as file:
        assert file.descriptor is not None
        held = str(Path(f"/proc/self/fd/{file.descriptor}").readlink())
        assert held.startswith(str(tmp_path))
        assert held.endswith("(deleted)")
        assert list(tmp_path.iterdir()) == []
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.write(file.descriptor, b"x")


# S3, by the same server: boto3 asks it for ranges as a browser does


def s3_fetcher(web: Web, terms: FetchTerms = PATIENT) -> Fetcher:
    storage = StorageSpec(endpoint_url=web.url, region="us-east-1", anonymous=True)
    return Fetcher(VideosSpec(), storage, terms)


@pytest.mark.parametrize("trouble", [[503], [0, 0], [500, 0]])
def test_s3_that_stumbles(web: Web, trouble: list[int]) -> None:
    web.trouble = trouble
    with s3_fetcher(web).open("s3://bucket/v.mp4") as file:
        assert file.read(0, len(SMALL)) == SMALL


def test_s3_that_always_breaks_off(web: Web) -> None:
    web.trouble = [0] * FOR_EVER
    assert code_of(s3_fetcher(web, HASTY), "s3://bucket/v.mp4") == "fetch_failed"


def test_an_object_without_bytes(web: Web) -> None:
    web.content = b""
    with s3_fetcher(web).open("s3://bucket/v.mp4") as file:
        assert file.size == 0


def test_an_object_that_is_not_there(web: Web) -> None:
    web.trouble = [404]
    assert code_of(s3_fetcher(web), "s3://bucket/v.mp4") == "not_found"

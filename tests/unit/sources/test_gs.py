"""Objects by gs://, from a server that speaks as much of Google's language as reading takes."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import pytest
from gcsfs.core import GCSFileSystem

from sfray.config import StorageSpec, VideosSpec
from sfray.errors import RequestError, StorageError
from sfray.sources.fetch import Fetcher
from sfray.sources.remote import FetchTerms

CONTENT = bytes(range(256)) * 8000
OBJECT = "/storage/v1/b/bucket/o/a b/v.mp4"
DOWNLOAD = "/download" + OBJECT


@dataclass
class Store:
    """What the server answers with before all is well, and what it was asked."""

    trouble: list[int] = field(default_factory=list)
    generations: list[int] = field(default_factory=lambda: [1])
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    store = Store()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            store.asked.append(path)
            if store.trouble:
                self._answer(store.trouble.pop(0), b'{"error": {"message": "so it is"}}')
            elif path == DOWNLOAD:
                low, high = self.headers["Range"].removeprefix("bytes=").split("-")
                self._answer(206, CONTENT[int(low) : int(high) + 1])
            elif path == OBJECT:
                more = len(store.generations) > 1
                generation = store.generations.pop(0) if more else store.generations[0]
                told = {"name": "a b/v.mp4", "size": len(CONTENT), "generation": generation}
                told["etag"] = f"etag-{generation}"
                self._answer(200, json.dumps(told).encode())
            elif path == "/storage/v1/b/bucket":
                self._answer(200, b"{}")
            else:
                self._answer(404, b"")

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{server.server_port}")
        GCSFileSystem.clear_instance_cache()
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield store
        server.shutdown()
        thread.join()


def fetcher(terms: FetchTerms = FetchTerms()) -> Fetcher:
    return Fetcher(VideosSpec(), StorageSpec(anonymous=True), terms)


def code_of(uri: str) -> str:
    with pytest.raises(RequestError) as raised, fetcher().open(uri) as file:
        file.read(0, file.size)
    return raised.value.code


def test_an_object_comes_whole(store: Store) -> None:
    with fetcher().open("gs://bucket/a b/v.mp4") as file:
        assert file.descriptor is not None
        assert file.read(0, file.size) == CONTENT
        assert file.bytes_fetched == len(CONTENT)
        assert file.etag and file.sha256 == hashlib.sha256(CONTENT).hexdigest()


def test_a_long_object_comes_by_range(store: Store) -> None:
    with fetcher(FetchTerms(whole_file_bytes=0)).open("gs://bucket/a b/v.mp4") as file:
        assert file.descriptor is None
        assert file.read(10**6, 10) == CONTENT[10**6 : 10**6 + 10]
        assert file.bytes_fetched < len(CONTENT)


def test_what_passes_is_waited_for(store: Store) -> None:
    store.trouble = [503]
    with fetcher().open("gs://bucket/a b/v.mp4") as file:
        assert file.size == len(CONTENT)


def test_what_concerns_one_video(store: Store) -> None:
    assert code_of("gs://bucket/none.mp4") == "not_found"
    store.trouble = [403] * 9
    assert code_of("gs://bucket/a b/v.mp4") == "access_denied"
    store.trouble, store.generations = [], [1, 2]
    assert code_of("gs://bucket/a b/v.mp4") == "video_changed"


def test_what_concerns_all(store: Store) -> None:
    with (
        pytest.raises(StorageError, match="no-such-bucket"),
        fetcher().open("gs://no-such-bucket/v"),
    ):
        pass
    store.trouble = [401] * 9
    with pytest.raises(StorageError, match="credentials"), fetcher().open("gs://bucket/a b/v.mp4"):
        pass

"""What is below a folder, in the order of S3's keys."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from gcsfs.core import GCSFileSystem

from sfray.config import StorageSpec
from sfray.errors import StorageError
from sfray.sources.listing import ListedFile, iter_files

NAMES = ("a", "a-b/x", "a.c", "a/b/c", "a/z", "é", "b c")


def paths(root: Path | str, storage: StorageSpec | None = None) -> list[str]:
    return [file.path for file in iter_files(str(root), storage or StorageSpec())]


def make_files(folder: Path) -> None:
    for name in NAMES[1:]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def test_the_order_is_that_of_whole_keys(tmp_path: Path) -> None:
    make_files(tmp_path)
    assert paths(tmp_path) == sorted(NAMES[1:])
    assert paths(tmp_path) == ["a-b/x", "a.c", "a/b/c", "a/z", "b c", "é"]


def test_a_file_has_its_uri_and_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    expected = ListedFile(f"{tmp_path}/a/b/c", "b/c", 5, None)
    assert [
        file
        for root in ("a", "a/", f"file://{tmp_path}/a")
        for file in iter_files(root, StorageSpec())
        if file.path == "b/c"
    ] == [expected] * 3


def test_links_are_followed_once_and_what_is_no_file_is_left_out(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    make_files(outside)
    inside.mkdir()
    (inside / "folder").symlink_to(outside / "a")
    (inside / "file").symlink_to(outside / "a.c")
    (inside / "nowhere").symlink_to(outside / "none")
    (inside / "circle").symlink_to(inside)
    os.mkfifo(inside / "pipe")
    assert paths(inside) == ["file", "folder/b/c", "folder/z"]


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A server that lists objects as Google Cloud Storage does."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            prefix = parse_qs(url.query).get("prefix", [""])[0]
            below = [key for name in NAMES if (key := f"v/{name}").startswith(prefix)]
            rest = {key: key[len(prefix) :] for key in below}
            body = {
                "prefixes": sorted(
                    {prefix + r.split("/")[0] + "/" for r in rest.values() if "/" in r}
                ),
                "items": [
                    {"name": key, "bucket": "b", "size": "7", "etag": "e"}
                    for key, r in rest.items()
                    if "/" not in r
                ],
            }
            known = url.path.startswith("/storage/v1/b/b")
            text = json.dumps(body if known else {"error": {"message": "no"}}).encode()
            self.send_response(200 if known else 404)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{server.server_port}")
        GCSFileSystem.clear_instance_cache()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield
        server.shutdown()
        GCSFileSystem.clear_instance_cache()


@pytest.mark.usefixtures("bucket")
def test_objects_of_google_are_listed_folder_by_folder() -> None:
    storage = StorageSpec(anonymous=True)
    files = list(iter_files("gs://b/v/", storage))
    assert [file.path for file in files] == sorted(NAMES)
    assert files[0] == ListedFile("gs://b/v/a", "a", 7, "e")
    with pytest.raises(StorageError, match="gs://none/v can't be listed"):
        paths("gs://none/v", storage)

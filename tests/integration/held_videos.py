"""A web server that holds its videos back, for jobs that are not to end too early."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_PATIENCE_SECONDS = 600


@dataclass(frozen=True, slots=True)
class HeldVideos:
    """A web server's address; it gives no video while `opened` is not set."""

    url: str
    opened: threading.Event


@contextmanager
def held_videos(folder: Path) -> Iterator[HeldVideos]:
    """A server of a folder's files, which holds them back at first."""
    opened = threading.Event()

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            opened.wait(_PATIENCE_SECONDS)
            # The workers of a stopped job no longer wait.
            with contextlib.suppress(ConnectionError):
                super().do_GET()

        def log_message(self, *_: object) -> None:
            pass

    handler = partial(Handler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield HeldVideos(f"http://127.0.0.1:{server.server_port}", opened)
        finally:
            opened.set()
            server.shutdown()
            thread.join()

"""An HTTP proxy in front of a real server that breaks replies, on loopback, for tests.

Host headers pass unchanged, so that signatures of S3 requests stay valid.
"""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_HOP_BY_HOP = {"connection", "keep-alive", "expect", "transfer-encoding"}


class Fault(StrEnum):
    """What happens to a request."""

    ERROR_500 = "error_500"  # not applied
    ERROR_503 = "error_503"  # not applied
    CUT = "cut"  # not applied, the connection closes
    SLOW = "slow"  # applied after `slow_seconds`, perhaps when nobody waits any more
    REPLY_LOST = "reply_lost"  # applied, the connection closes
    REPLY_500 = "reply_500"  # applied, but told as an error
    REPLY_CUT = "reply_cut"  # applied, half of the reply arrives


# The fault of a request by its method and path, if any.
Chooser = Callable[[str, str], Fault | None]


@dataclass
class FaultyProxy:
    """A running proxy; `choose` may be replaced at any time."""

    endpoint_url: str
    choose: Chooser = lambda _method, _path: None
    slow_seconds: float = 0.3
    happened: list[tuple[Fault, str, str]] = field(default_factory=list)
    num_slow_applied: int = 0


class Storm:
    """Seeded faults at a rate, of the given kinds."""

    def __init__(self, seed: int, rate: float, faults: tuple[Fault, ...] = tuple(Fault)) -> None:
        self._random = random.Random(seed)
        self._rate = rate
        self._faults = faults
        self._lock = threading.Lock()

    def __call__(self, method: str, path: str) -> Fault | None:
        with self._lock:
            if self._random.random() >= self._rate:
                return None
            return self._random.choice(self._faults)


class Once:
    """One fault at the `number`-th request (from 0) whose method and path fit."""

    def __init__(self, fault: Fault, method: str, path_part: str, number: int = 0) -> None:
        self._fault, self._method, self._path_part = fault, method, path_part
        self._left = number
        self._lock = threading.Lock()

    def __call__(self, method: str, path: str) -> Fault | None:
        if method != self._method or self._path_part not in path:
            return None
        with self._lock:
            self._left -= 1
            return self._fault if self._left == -1 else None


@contextmanager
def faulty_proxy(upstream_url: str) -> Iterator[FaultyProxy]:
    """A proxy in front of `upstream_url` while the context lasts."""
    upstream = urlsplit(upstream_url)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            pass

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except (ConnectionError, TimeoutError):
                self.close_connection = True

        def _pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            fault = proxy.choose(self.command, self.path)
            if fault:
                proxy.happened.append((fault, self.command, self.path))
            if fault is Fault.SLOW:
                time.sleep(proxy.slow_seconds)
            if fault in (Fault.ERROR_500, Fault.ERROR_503):
                self._reply(int(fault[-3:]), [], b"")
            elif fault is Fault.CUT:
                self.close_connection = True
            else:
                self._reply_from_upstream(body, fault)

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _pass_on

        def _reply_from_upstream(self, body: bytes, fault: Fault | None) -> None:
            connection = http.client.HTTPConnection(upstream.hostname or "", upstream.port)
            connection.putrequest(
                self.command, self.path, skip_host=True, skip_accept_encoding=True
            )
            for name, value in self.headers.items():
                if name.lower() not in _HOP_BY_HOP:
                    connection.putheader(name, value)
            connection.endheaders(body)
            reply = connection.getresponse()
            content, headers = reply.read(), reply.getheaders()
            connection.close()
            proxy.num_slow_applied += fault is Fault.SLOW
            if fault is Fault.REPLY_LOST:
                self.close_connection = True
            elif fault is Fault.REPLY_500:
                self._reply(500, [], b"")
            else:
                half = len(content) // 2 if fault is Fault.REPLY_CUT else None
                self.close_connection = fault is Fault.REPLY_CUT
                self._reply(reply.status, headers, content[:half], len(content))

        def _reply(
            self, status: int, headers: list[tuple[str, str]], body: bytes, length: int = 0
        ) -> None:
            self.send_response_only(status)
            told = {name.lower() for name, _ in headers}
            for name, value in headers:
                if name.lower() not in _HOP_BY_HOP:
                    self.send_header(name, value)
            if "content-length" not in told:
                self.send_header("Content-Length", str(length))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        proxy = FaultyProxy(f"http://127.0.0.1:{server.server_port}")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield proxy
        finally:
            server.shutdown()

"""Files on web servers, by urllib3, which connects only where the job allows it to.

The address that was checked is the one that is connected to, so that a name which resolves
otherwise a moment later leads nowhere else. Redirects are followed by hand and checked alike.
"""

from __future__ import annotations

import hashlib
import ipaddress
import socket
import ssl
import tempfile
import time
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import IO
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

import urllib3

from sfray.config import VideosSpec
from sfray.errors import RequestError
from sfray.sources.remote import FetchTerms, plain_etag, scratch_space, video_changed
from sfray.storage.faults import explain
from sfray.storage.patience import ShortReadError, patiently

_CONNECT_SECONDS = 10
_MAX_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_GONE = (401, 403, 404, 410)
_CHUNK_BYTES = 2**20
# An answer that comes slower than this is given up: drop by drop, it would hold a worker for days.
_MIN_BYTES_PER_SECOND = 2**10

# What is waited for with patience. A certificate stays what it is.
_TRANSIENT = (
    urllib3.exceptions.NewConnectionError,
    urllib3.exceptions.ProtocolError,
    urllib3.exceptions.TimeoutError,
)


class WebFile:
    """A file by https or http. Where the server gives no ranges, it is fetched whole at once."""

    def __init__(self, uri: str, videos: VideosSpec, terms: FetchTerms = FetchTerms()) -> None:
        self._videos = videos
        self._terms = terms
        self._origin = self._uri = uri
        self._whole: IO[bytes] | None = None
        self.bytes_fetched = 0
        self.sha256: str | None = None
        answer, self._first = self._get(0, terms.first_bytes)
        self._validators = _validators(answer)
        self.etag = plain_etag(answer.headers.get("ETag"))
        if answer.status == 416:
            self.size = 0
        elif self._whole is not None:
            self.size = self._whole.tell()
        else:
            self.size = int(answer.headers["Content-Range"].rpartition("/")[2])

    def read(self, offset: int, length: int) -> bytes:
        if self._whole is not None:
            self._whole.seek(offset)
            return self._whole.read(length)
        if offset + length <= len(self._first):
            return self._first[offset : offset + length]
        answer, data = self._get(offset, length)
        if answer.status != 206 or _validators(answer) != self._validators:
            raise video_changed()
        return data

    def close(self) -> None:
        if self._whole is not None:
            self._whole.close()

    def _get(self, offset: int, length: int) -> tuple[urllib3.BaseHTTPResponse, bytes]:
        def attempt() -> tuple[urllib3.BaseHTTPResponse, bytes]:
            answer, pool = self._follow({"Range": f"bytes={offset}-{offset + length - 1}"})
            try:
                return answer, self._body(answer, offset, length)
            finally:
                _drop(answer, pool)

        try:
            return patiently(attempt, _is_transient, self._terms.patience)
        except (urllib3.exceptions.HTTPError, _BusyError, OSError) as error:
            host = urlsplit(self._uri).hostname
            raise RequestError(
                "fetch_failed", f"the server {host} did not deliver the file: {_reason(error)}"
            ) from error

    def _body(self, answer: urllib3.BaseHTTPResponse, offset: int, length: int) -> bytes:
        match answer.status:
            case 206:
                data = bytearray()
                for chunk in self._chunks(answer):
                    data += chunk
                    if len(data) > length:
                        raise RequestError("fetch_failed", "the server gave more than was asked")
                header = answer.headers.get("Content-Range", "")
                total = header.rpartition("/")[2]
                if not header.startswith(f"bytes {offset}-") or not total.isdigit():
                    raise RequestError("fetch_failed", "the server gave another range")
                if len(data) != min(length, int(total) - offset):
                    raise ShortReadError
                return bytes(data)
            case 200:
                if offset:
                    raise video_changed()  # it gave ranges before
                self._keep_whole(answer)
                return b""
            case 416:
                return b""
            case 404 | 410:
                raise RequestError("not_found", f"the server answered {answer.status}")
            case 401 | 403 | 407 | 451:
                raise RequestError("access_denied", f"the server answered {answer.status}")
            case 429 | 500 | 502 | 503 | 504:
                raise _BusyError(f"it answered {answer.status}")
        raise RequestError("fetch_failed", f"the server answered {answer.status}")

    def _keep_whole(self, answer: urllib3.BaseHTTPResponse) -> None:
        limit = self._videos.max_file_bytes
        num_bytes, digest = 0, hashlib.sha256()
        with scratch_space():
            whole = self._whole = tempfile.TemporaryFile()  # noqa: SIM115 - `close` closes it
            for chunk in self._chunks(answer):
                num_bytes += len(chunk)
                if num_bytes > limit:
                    raise RequestError(
                        "file_too_large",
                        f"the file has more than {limit} bytes (videos.max_file_bytes)",
                    )
                digest.update(chunk)
                whole.write(chunk)
            whole.flush()
        self.sha256 = digest.hexdigest()
        header = answer.headers.get("Content-Length", "")
        if (
            header.isdigit()
            and not answer.headers.get("Content-Encoding")
            and int(header) != num_bytes
        ):
            raise ShortReadError

    def _chunks(self, answer: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
        """The body as it comes."""
        began, num_bytes = time.monotonic(), 0
        while chunk := answer.read1(_CHUNK_BYTES):
            self.bytes_fetched += len(chunk)
            num_bytes += len(chunk)
            yield chunk
            seconds = time.monotonic() - began
            if seconds > self._terms.read_seconds + num_bytes / _MIN_BYTES_PER_SECOND:
                raise RequestError(
                    "fetch_failed",
                    f"the server {urlsplit(self._uri).hostname} gave {num_bytes} bytes in "
                    f"{seconds:.0f} s",
                )

    def _follow(
        self, headers: dict[str, str]
    ) -> tuple[urllib3.BaseHTTPResponse, urllib3.HTTPConnectionPool]:
        """The answer at the end of all redirects; where it came from is kept for next time."""
        known = self._uri
        for _ in range(_MAX_REDIRECTS + 1):
            answer, pool = _request(
                urlsplit(self._uri), headers, self._videos, self._terms.read_seconds
            )
            location = answer.headers.get("Location")
            if answer.status in _REDIRECTS and location:
                self._uri = urljoin(self._uri, location)
            elif answer.status in _GONE and self._uri == known != self._origin:
                self._uri = self._origin  # what it led to was good for a while only
            else:
                return answer, pool
            _drop(answer, pool)
        raise RequestError("fetch_failed", f"more than {_MAX_REDIRECTS} redirects")


def _drop(answer: urllib3.BaseHTTPResponse, pool: urllib3.HTTPConnectionPool) -> None:
    """Ends a connection, with whatever has not been read of the answer."""
    answer.close()
    pool.close()


def _request(
    parts: SplitResult, headers: dict[str, str], videos: VideosSpec, read_seconds: float
) -> tuple[urllib3.BaseHTTPResponse, urllib3.HTTPConnectionPool]:
    host, port = _allowed_host(parts, videos)
    address = _allowed_address(host, port, videos)
    user = parts.username
    sent = {"Host": parts.netloc.rpartition("@")[2], "Accept-Encoding": "identity", **headers}
    if user is not None:
        login = f"{unquote(user)}:{unquote(parts.password or '')}"
        sent |= urllib3.make_headers(basic_auth=login)
    pool: urllib3.HTTPConnectionPool
    if parts.scheme.lower() == "https":
        pool = urllib3.HTTPSConnectionPool(
            address, port, server_hostname=host, assert_hostname=host, cert_reqs="CERT_REQUIRED"
        )
    else:
        pool = urllib3.HTTPConnectionPool(address, port)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    answer = pool.urlopen(
        "GET",
        target,
        headers=sent,
        retries=False,  # nor does it follow redirects
        timeout=urllib3.Timeout(connect=_CONNECT_SECONDS, read=read_seconds),
        preload_content=False,
    )
    return answer, pool


def _allowed_host(parts: SplitResult, videos: VideosSpec) -> tuple[str, int]:
    scheme = parts.scheme.lower()
    if scheme not in ("http", "https") or scheme not in videos.allowed_schemes:
        allowed = ", ".join(videos.allowed_schemes)
        raise RequestError(
            "uri_refused", f"the scheme {scheme!r} is not among videos.allowed_schemes: {allowed}"
        )
    try:
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        host, port = "", None
    if not host:
        raise RequestError("uri_refused", "the address names no host")
    if videos.allowed_hosts is not None and not _is_listed(host, videos):
        raise RequestError("uri_refused", f"the host {host!r} is not among videos.allowed_hosts")
    return host, port or (443 if scheme == "https" else 80)


def _is_listed(host: str, videos: VideosSpec) -> bool:
    return any(fnmatchcase(host, name.lower()) for name in videos.allowed_hosts or ())


def _allowed_address(host: str, port: int, videos: VideosSpec) -> str:
    """The first address of a host; all must be public unless the host is listed."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise RequestError("fetch_failed", f"the host {host!r} can't be resolved") from error
    addresses = [str(entry[4][0]) for entry in found]
    if not _is_listed(host, videos):
        for address in addresses:
            if not _is_public(address):
                raise RequestError(
                    "uri_refused",
                    f"the host {host!r} has a private address; list it in videos.allowed_hosts"
                    " to allow it",
                )
    return addresses[0]


def _is_public(address: str) -> bool:
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        # An IPv4 address in IPv6 clothes leads to the IPv4 address.
        parsed = parsed.ipv4_mapped or parsed.sixtofour or parsed
    return parsed.is_global and not parsed.is_multicast


def _validators(answer: urllib3.BaseHTTPResponse) -> tuple[str | None, ...]:
    total = answer.headers.get("Content-Range", "").rpartition("/")[2]
    return answer.headers.get("ETag"), answer.headers.get("Last-Modified"), total


class _BusyError(Exception):
    """The server can't answer now."""


def _is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed later."""
    if isinstance(error, urllib3.exceptions.SSLError):
        return isinstance(error.args[0], ssl.SSLEOFError)  # cut in the handshake
    return isinstance(error, (*_TRANSIENT, _BusyError))


def _reason(error: Exception) -> str:
    """Without the text of urllib3's errors, which may hold the path and its query."""
    if isinstance(error, OSError | _BusyError):
        return explain(error)
    return type(error).__name__

"""URIs: which filesystem serves one, and where it leads.

A URI is a plain local path or has one of the schemes of `SCHEMES`. Nothing of fsspec's own URL
language (chains such as `zip::`, `~`) is understood, so that a manifest can't reach elsewhere.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import fsspec
from fsspec import AbstractFileSystem

from sfray.config import StorageSpec
from sfray.errors import StorageError
from sfray.redaction import redact

SCHEMES = ("file", "s3", "gs", "http", "https")

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def scheme_of(uri: str) -> str:
    """The scheme in lower case; a plain path has the scheme `file`."""
    match = _SCHEME.match(uri)
    return match[1].lower() if match else "file"


def is_remote(uri: str) -> bool:
    """Whether the URI leads off this machine."""
    return scheme_of(uri) != "file"


def local_path(uri: str) -> Path:
    """The path of a plain path (taken literally) or of a `file://` URI (percent-decoded)."""
    if not _SCHEME.match(uri):
        return Path(uri)
    parts = urlsplit(uri)
    if parts.netloc not in ("", "localhost"):
        raise StorageError(f"{redact(uri)!r} names a host: write file:/// with three slashes")
    # A `?` or `#` begins no query in a file name.
    return Path(unquote(uri[len(f"{parts.scheme}://{parts.netloc}") :]))


def open_filesystem(uri: str, storage: StorageSpec) -> tuple[AbstractFileSystem, str]:
    """The filesystem that serves a URI, and the URI's path there.

    Listings are not cached: a folder that grows is seen as it is.

    Raises:
        StorageError: the scheme is unknown.
    """
    scheme = scheme_of(uri)
    if scheme == "file":
        return fsspec.filesystem("file"), str(local_path(uri).absolute())
    if scheme == "s3":
        options = {
            "endpoint_url": storage.endpoint_url,
            "profile": storage.profile,
            "anon": storage.anonymous,
            "client_kwargs": {"region_name": storage.region} if storage.region else {},
        }
        filesystem = fsspec.filesystem("s3", use_listings_cache=False, **options)
        return filesystem, uri.partition("://")[2]
    if scheme == "gs":
        # Not the class behind fsspec's `gs`: it asks another service first for the kind of the
        # bucket, for a minute where that can't be reached.
        from gcsfs.core import GCSFileSystem

        token = {"token": "anon"} if storage.anonymous else {}
        filesystem = GCSFileSystem(use_listings_cache=False, **token)
        return filesystem, uri.partition("://")[2]
    if scheme in ("http", "https"):
        return fsspec.filesystem(scheme, use_listings_cache=False), uri
    allowed = ", ".join(f"{name}://" for name in SCHEMES)
    raise StorageError(
        f"{redact(uri)!r} has the scheme {scheme!r}; allowed are a local path, {allowed}"
    )


def absolute(uri: str) -> str:
    """A remote URI as it is; of a local one its absolute path."""
    return uri if is_remote(uri) else str(local_path(uri).absolute())


def from_here(uri: str) -> str:
    """A relative path from this process's folder, for processes that have another; others as they
    are."""
    # A job's folder on a cluster may be gone before the job: it is asked for only where it counts.
    return uri if _SCHEME.match(uri) or uri.startswith("/") else join(str(Path.cwd()), uri)


def join(root: str, relative: str) -> str:
    """`relative` under `root`, or `relative` itself where it is a URI or an absolute path."""
    if _SCHEME.match(relative) or relative.startswith("/"):
        return relative
    return f"{root.rstrip('/')}/{relative}" if root.strip("/") else root + relative

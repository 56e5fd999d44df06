"""URIs: which filesystem serves one, what of it is identity, and what of it is a secret.

A URI is a plain local path or has one of the schemes of `SCHEMES`. Nothing of fsspec's own URL
language (chains such as `zip::`, `~`) is understood, so that a manifest can't reach elsewhere.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import fsspec
from fsspec import AbstractFileSystem

from sfray.config import StorageSpec
from sfray.errors import StorageError

SCHEMES = ("file", "s3", "gs", "http", "https")

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_URI_IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>`]+")

# Parameters that sign a URI or hold a secret, by name in lower case. What only limits or
# describes a signature goes too: it differs from one signing to the next.
_SIGNING_PREFIXES = ("x-amz-", "x-goog-", "x-oss-", "q-sign", "q-ak", "q-key-time", "q-header-list")
_SIGNING_PARTS = ("token", "secret", "signature", "password", "credential", "api_key", "apikey")
_SIGNING_NAMES = (
    "sig sign expires awsaccesskeyid googleaccessid ossaccesskeyid key-pair-id policy auth "
    "auth_key authorization access_key api-key passwd pwd jwt hdnts hdnea hdntl"
)
# Azure's other parameters are short words that mean something else elsewhere: they go with `sig`.
_WITH_SIG = "se sv sr st sp spr sip srt ss skoid sktid skt ske sks skv sdd saoid suoid scid"
_ASSIGNED_SECRET = re.compile(
    r"(?i)\b((?:x-(?:amz|goog|oss)-[a-z-]+|[\w-]*(?:token|secret|signature|password|credential)[\w-]*"
    r"|sig|awsaccesskeyid|googleaccessid|ossaccesskeyid|api_?key)=)[^&\s'\"<>,)]+"
)
_AUTHORIZATION = re.compile(r"(?i)(\bauthorization['\"]?\s*[:=]\s*['\"]?)[^'\"\n]+")


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


def join(root: str, relative: str) -> str:
    """`relative` under `root`, or `relative` itself where it is a URI or an absolute path."""
    if _SCHEME.match(relative) or relative.startswith("/"):
        return relative
    return f"{root.rstrip('/')}/{relative}" if root.strip("/") else root + relative


def identity_uri(uri: str) -> str:
    """The URI as written, without what signs it: equal for every signing of one video.

    User name and password go, and of the query the parameters that sign or hold a secret; the
    others stay as they are written and in their order. Local paths are returned unchanged.
    """
    match = _SCHEME.match(uri)
    if not match or match[1].lower() == "file":
        return uri
    rest, hash_sign, fragment = uri[match.end() :].partition("#")
    place, question_mark, query = rest.partition("?")
    authority, slash, path = place.partition("/")
    bare = match[0] + authority.rpartition("@")[2] + slash + path
    if question_mark:
        query = _unsigned(query)
        bare += f"?{query}" if query else ""
    return bare + hash_sign + fragment


def redact(uri: str) -> str:
    """The URI as logs, errors and results may show it: without user name, password, signature."""
    return identity_uri(uri)


def redact_values(values: Any) -> Any:
    """JSON values, such as those of a job file, with each text that is a URI as `redact` has it."""
    if isinstance(values, str):
        return redact(values)
    if isinstance(values, dict):
        return {key: redact_values(value) for key, value in values.items()}
    return [redact_values(value) for value in values] if isinstance(values, list) else values


def redact_text(message: str) -> str:
    """A message of another library, with the secrets of all URIs and headers in it removed."""
    message = _URI_IN_TEXT.sub(lambda match: redact(match[0]), message)
    message = _ASSIGNED_SECRET.sub(r"\1...", message)
    return _AUTHORIZATION.sub(r"\1...", message)


def _unsigned(query: str) -> str:
    parts = query.split("&")
    names = [unquote(part.partition("=")[0]).lower() for part in parts]
    by_azure = "sig" in names
    return "&".join(
        part
        for part, name in zip(parts, names, strict=True)
        if not (_is_secret(name) or (by_azure and name in _WITH_SIG.split()))
    )


def _is_secret(name: str) -> bool:
    return (
        name in _SIGNING_NAMES.split()
        or name.startswith(_SIGNING_PREFIXES)
        or any(part in name for part in _SIGNING_PARTS)
    )

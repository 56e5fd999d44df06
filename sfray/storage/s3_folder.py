"""Write-once objects in S3: conditional puts, patient with a server that falters."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import pyarrow as pa
from botocore.exceptions import ClientError

from sfray.config import StorageSpec
from sfray.errors import StorageError
from sfray.redaction import redact
from sfray.storage.faults import storage_faults
from sfray.storage.objects import KeyTakenError, ObjectInfo
from sfray.storage.patience import patiently
from sfray.storage.s3_client import http_status, is_transient, s3_client
from sfray.storage.s3_lease import S3Lease
from sfray.storage.s3_terms import S3Terms

# The end of a part, with its footer, and more than a small part has.
_READ_BYTES = 128 * 2**10

_NEVER_WRITTEN = "_sfray/never-written"

T = TypeVar("T")


class S3Folder:
    """A `Folder` under a prefix of a bucket."""

    def __init__(self, uri: str, storage: StorageSpec, terms: S3Terms = S3Terms()) -> None:
        """
        Raises:
            StorageError: the bucket can't be reached or refuses these credentials.
        """
        self.uri = uri.rstrip("/")
        self._bucket, _, prefix = uri.partition("://")[2].partition("/")
        self._prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""
        try:
            self._client = s3_client(storage, terms.read_timeout_seconds)
        except StorageError as error:
            raise StorageError(f"the output {redact(self.uri)} can't be opened: {error}") from error
        self._lease_seconds = terms.lease_seconds
        self._patience = terms.first_patience
        place = {"Bucket": self._bucket, "Prefix": self._prefix, "MaxKeys": 1}
        self._ask("opened", lambda: self._client.list_objects_v2(**place))
        self._patience = terms.patience

    def put_new(self, key: str, body: bytes, writer: str) -> None:
        """See `Folder`. One PUT, never multipart: an object is whole or absent."""
        metadata = {"writer": writer, "sha256": hashlib.sha256(body).hexdigest()}

        def put() -> None:
            try:
                self._client.put_object(
                    **self._place(key), Body=body, IfNoneMatch="*", Metadata=metadata
                )
            except ClientError as error:
                if http_status(error) != 412:
                    raise
                # An earlier try may have been applied although its reply was lost.
                if self._metadata(key) != metadata:
                    raise KeyTakenError(key) from error

        self._ask("written", put)

    def replace(self, key: str, body: bytes, etag: str | None) -> str:
        """Puts an object over the version `etag` (None: where none is) and returns the new etag.

        Raises:
            KeyTakenError: another version is there. The body must be one of its kind, since it
                tells whether that version is this put's own, its reply lost.
        """
        condition = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}

        def put() -> str:
            try:
                reply = self._client.put_object(**self._place(key), Body=body, **condition)
            except ClientError as error:
                if http_status(error) not in (404, 412):
                    raise
                found = self.read_version(key)
                if found is None or found[0] != body:
                    raise KeyTakenError(key) from error
                return found[1]
            return str(reply["ETag"])

        return self._ask("written", put)

    def list_objects(self, prefix: str) -> list[ObjectInfo]:
        """See `Folder`."""
        found = [entry for page in self._pages(prefix) for entry in page.get("Contents", ())]
        cut = len(self._prefix)
        infos = [ObjectInfo(entry["Key"][cut:], entry["Size"]) for entry in found]
        return sorted(infos, key=lambda info: info.key)

    def list_folders(self, prefix: str) -> list[str]:
        """See `Folder`."""
        found = [entry for page in self._pages(prefix) for entry in page.get("CommonPrefixes", ())]
        return sorted(entry["Prefix"].rstrip("/").rpartition("/")[2] for entry in found)

    def _pages(self, prefix: str) -> list[dict[str, Any]]:
        paginator = self._client.get_paginator("list_objects_v2")
        place = {"Bucket": self._bucket, "Prefix": self._prefix + prefix, "Delimiter": "/"}
        return self._ask("read", lambda: list(paginator.paginate(**place)))

    def read(self, key: str) -> bytes | None:
        """See `Folder`. A body that isn't what was put is a fault, too."""
        found = self._get(key)
        if found is None:
            return None
        body, _, metadata = found
        digest = metadata.get("sha256")
        if digest and digest != hashlib.sha256(body).hexdigest():
            raise StorageError(
                f"{self.uri}/{key} is damaged: its digest is not that of its content"
            )
        return body

    def read_version(self, key: str) -> tuple[bytes, str] | None:
        """An object's body and etag; None where there is none."""
        found = self._get(key)
        return found and found[:2]

    def _get(self, key: str) -> tuple[bytes, str, dict[str, str]] | None:
        def get() -> tuple[bytes, str, dict[str, str]] | None:
            try:
                reply = self._client.get_object(**self._place(key))
            except ClientError as error:
                # By status, since a reply that was cut names no code.
                if http_status(error) != 404 or error.response["Error"]["Code"] == "NoSuchBucket":
                    raise
                return None
            return reply["Body"].read(), reply["ETag"], reply["Metadata"]

        return self._ask("read", get)

    def _metadata(self, key: str) -> dict[str, str]:
        """What a part's object says of itself: `writer` and `sha256`."""

        def head() -> dict[str, str]:
            return dict(self._client.head_object(**self._place(key))["Metadata"])

        return self._ask("read", head)

    def open(self, info: ObjectInfo) -> pa.NativeFile:
        """See `Folder`."""

        def read_range(start: int, stop: int) -> bytes:
            def get() -> bytes:
                wanted = f"bytes={start}-{stop - 1}"
                reply = self._client.get_object(**self._place(info.key), Range=wanted)
                return bytes(reply["Body"].read())

            return self._ask("read", get)

        return pa.PythonFile(_RangeFile(read_range, info.num_bytes), mode="r")

    def check_writable(self) -> None:
        """See `Folder`. A put whose condition can't hold: who may not write is told that first."""
        with suppress(KeyTakenError):
            self.replace(_NEVER_WRITTEN, b"", '"none"')

    def take_lease(self, owner: str, wait: bool) -> S3Lease:
        """See `Folder`."""
        return S3Lease.take(self, owner, wait, self._lease_seconds)

    def _place(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + key}

    def _ask(self, act: str, request: Callable[[], T]) -> T:
        with storage_faults(StorageError, f"the output {self.uri} can't be {act}"):
            return patiently(request, is_transient, self._patience, "S3")


class _RangeFile(io.RawIOBase):
    """A seekable file over range requests, for readers that ask for few and large ranges.

    Its end is read at once, where Parquet keeps its footer.
    """

    def __init__(self, read_range: Callable[[int, int], bytes], num_bytes: int) -> None:
        self._read_range = read_range
        self._num_bytes = num_bytes
        self._tail_start = max(0, num_bytes - _READ_BYTES)
        self._tail = read_range(self._tail_start, num_bytes) if num_bytes else b""
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._num_bytes}[whence]
        self._position = base + offset
        return self._position

    def read(self, size: int = -1) -> bytes:
        start = self._position
        stop = self._num_bytes if size < 0 else min(start + size, self._num_bytes)
        if start >= stop:
            return b""
        if start >= self._tail_start:
            body = self._tail[start - self._tail_start : stop - self._tail_start]
        else:
            body = self._read_range(start, stop)
        self._position += len(body)
        return body

"""One object of S3 as a file of this machine: verified, or not there at all."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any, Protocol

from botocore.exceptions import ClientError

from sfray.errors import CheckpointError
from sfray.storage.patience import Patience, ShortReadError, patiently
from sfray.storage.s3_client import http_status, is_transient

# So much is asked for at once; what has come before a connection breaks is kept.
_RANGE_BYTES = 64 * 2**20
_CHUNK_BYTES = 2**20
_MD5_ETAG = re.compile(r'"?([0-9a-f]{32})(?:-(\d+))?"?')


class Digest(Protocol):
    """A running digest of an object's bytes, and what S3 says that it is."""

    def update(self, data: bytes) -> None: ...

    def agrees(self) -> bool: ...


class ETagDigest:
    """An ETag: the MD5 of all bytes, or that of the MD5s of the parts it was put in."""

    def __init__(self, etag: str, part_bytes: int | None) -> None:
        self._etag = etag.strip('"')
        self._part_bytes = part_bytes
        self._parts: list[bytes] = []
        self._part = hashlib.md5(usedforsecurity=False)
        self._num_bytes = 0

    def update(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            room = self._part_bytes - self._num_bytes if self._part_bytes else len(rest)
            self._part.update(rest[:room])
            self._num_bytes += len(rest[:room])
            rest = rest[room:]
            if self._num_bytes == self._part_bytes:
                self._end_part()

    def agrees(self) -> bool:
        if self._part_bytes is None:
            return self._part.hexdigest() == self._etag
        if self._num_bytes:
            self._end_part()
        whole = hashlib.md5(b"".join(self._parts), usedforsecurity=False).hexdigest()
        return f"{whole}-{len(self._parts)}" == self._etag

    def _end_part(self) -> None:
        self._parts.append(self._part.digest())
        self._part = hashlib.md5(usedforsecurity=False)
        self._num_bytes = 0


def download(
    client: Any,
    bucket: str,
    key: str,
    etag: str,
    size: int,
    target: Path,
    patience: Patience = Patience(seconds=60.0),
) -> None:
    """Fetches the version `etag` of an object; what was fetched before a cut is not fetched again.

    Args:
        patience: of each range.

    Raises:
        CheckpointError: the object has changed, or its bytes aren't those that S3 says.
        ClientError, BotoCoreError, OSError: S3 or the disk doesn't do it.
    """
    place = {"Bucket": bucket, "Key": key, "IfMatch": etag}
    partial = target.with_name(f".{target.name}.part")
    for begun_before in (True, False):
        try:
            digest = patiently(lambda: expected_digest(client, place, size), is_transient, patience)
            if digest is None or not begun_before:
                partial.unlink(missing_ok=True)  # what can't be verified is not gone on with
            _fetch(client, place, size, partial, digest, patience)
        except ClientError as error:
            if http_status(error) != 412:
                raise
            raise CheckpointError(
                f"s3://{bucket}/{key} was replaced while the checkpoint was read: run again"
            ) from error
        if digest is None or digest.agrees():
            partial.replace(target)
            return
        partial.unlink()
    raise CheckpointError(f"s3://{bucket}/{key} came damaged: its digest is not that of its ETag")


def expected_digest(client: Any, place: dict[str, str], size: int) -> Digest | None:
    """What S3 says of an object's bytes; None where it says nothing that can be computed.

    An ETag is no MD5 where a key service encrypts, and in directory buckets.
    """
    head = client.head_object(**place)
    match = _MD5_ETAG.fullmatch(place["IfMatch"])
    encrypted = head.get("ServerSideEncryption", "AES256") != "AES256"
    if not match or encrypted or place["Bucket"].endswith("--x-s3"):
        return None
    if match[2] is None:
        return ETagDigest(place["IfMatch"], None)
    num_parts = int(match[2])
    first = client.head_object(**place, PartNumber=1)
    last = client.head_object(**place, PartNumber=num_parts)
    part_bytes = int(first["ContentLength"])
    # Parts may differ in size, and not every server tells of them.
    alike = (num_parts - 1) * part_bytes + int(last["ContentLength"]) == size
    return ETagDigest(place["IfMatch"], part_bytes) if alike else None


def _fetch(
    client: Any,
    place: dict[str, str],
    size: int,
    partial: Path,
    digest: Digest | None,
    patience: Patience,
) -> None:
    with partial.open("a+b") as file:
        if file.tell() > size:
            file.truncate(0)
        file.seek(0)
        while chunk := file.read(_CHUNK_BYTES):
            if digest is not None:
                digest.update(chunk)

        def go_on() -> None:
            """From where the file ends to the end of the range that begins there."""
            start = file.tell()
            stop = min(start + _RANGE_BYTES, size)
            reply = client.get_object(**place, Range=f"bytes={start}-{stop - 1}")
            for chunk in reply["Body"].iter_chunks(_CHUNK_BYTES):
                file.write(chunk)
                if digest is not None:
                    digest.update(chunk)
            if file.tell() != stop:
                raise ShortReadError

        while file.tell() < size:
            patiently(go_on, is_transient, patience, "S3")
        file.flush()
        os.fsync(file.fileno())

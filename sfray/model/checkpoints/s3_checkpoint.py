"""Checkpoints on S3: fetched once a node, verified, and used from there without S3.

In a cache folder of the node, `SFRAY_CACHE` or `~/.cache/sfray`:
    checkpoints/NAME-HASH/lock           held while something is fetched
    checkpoints/NAME-HASH/VERSION.json   the files that make a version, as a listing told them
    checkpoints/NAME-HASH/VERSION/       those of them that are here; each is whole and verified
    checkpoints/NAME-HASH/latest         the version that was listed last
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import re
import uuid
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from sfray.config import ModelSpec, StorageSpec
from sfray.errors import CheckpointError, RequestError
from sfray.model.checkpoints.checkpoint import Checkpoint
from sfray.model.checkpoints.s3_download import download
from sfray.model.checkpoints.weight_files import (
    WEIGHTS,
    WeightFile,
    local_weights,
    weights_digest,
)
from sfray.model.profile import ModelProfile, read_profile
from sfray.sources.remote import plain_etag
from sfray.sources.s3 import S3File
from sfray.storage.faults import storage_faults
from sfray.storage.patience import Patience, patiently
from sfray.storage.s3_client import is_transient, s3_client

logger = logging.getLogger("sfray")

SMALL_FILES = ("*.json", "*.jinja")
_FILES_AT_ONCE = 8
_VERSION = re.compile("[0-9a-f]{16}")


@dataclass(frozen=True, slots=True, order=True)
class _Object:
    name: str
    size: int
    etag: str


class S3Checkpoint(Checkpoint):
    """One version of a checkpoint: what lay under its prefix when it was listed."""

    def __init__(
        self, model: ModelSpec, storage: StorageSpec, place: Path, objects: tuple[_Object, ...]
    ) -> None:
        super().__init__(model)
        self.uri = model.id.rstrip("/")
        self.version = _version(objects)
        self._storage = storage
        self._place = place
        self._objects = objects

    def remember(self) -> None:
        """Makes it the version that this machine has listed last."""
        with storage_faults(CheckpointError, f"the cache {self._place} can't be written"):
            self._place.mkdir(parents=True, exist_ok=True)
            listing = json.dumps([*map(asdict, self._objects)])
            _write(self._place / f"{self.version}.json", listing)
            _write(self._place / "latest", self.version)

    @cached_property
    def identity(self) -> tuple[str, str | None]:
        return Path(self.uri).name, weights_digest(self.small_files(), self._weights())

    def pinned(self) -> S3Checkpoint:
        model = self.model.model_copy(update={"revision": self.version})
        return S3Checkpoint(model, self._storage, self._place, self._objects)

    def small_files(self) -> Path:
        return self._fetched(SMALL_FILES)

    def whole(self) -> Path:
        folder = self._fetched((*SMALL_FILES, WEIGHTS))
        for file in local_weights(folder):
            file.header()
        return folder

    def _own_profile(self) -> ModelProfile:
        return read_profile(self.small_files())

    def _names(self) -> Collection[str]:
        return {one.name for one in self._objects}

    def _weights(self) -> list[WeightFile]:
        """The weight files by name: those of this machine, the others on S3, read by range."""
        if not self._missing((WEIGHTS,)):
            return local_weights(self._folder)
        return [self._on_s3(one) for one in self._objects if fnmatch(one.name, WEIGHTS)]

    @property
    def _folder(self) -> Path:
        return self._place / self.version

    def _missing(self, patterns: tuple[str, ...]) -> list[_Object]:
        chosen = [o for o in self._objects if any(fnmatch(o.name, p) for p in patterns)]
        return [one for one in chosen if not _is_here(self._folder / one.name, one.size)]

    def _fetched(self, patterns: tuple[str, ...]) -> Path:
        if not self._missing(patterns):
            return self._folder
        with (
            storage_faults(
                CheckpointError, f"the checkpoint {self.uri} can't be fetched to {self._place}"
            ),
            _locked(self._place),
        ):
            # Another process of this node may have fetched them meanwhile.
            missing = self._missing(patterns)
            self._folder.mkdir(exist_ok=True)
            if any(fnmatch(one.name, WEIGHTS) for one in missing):
                num_bytes = sum(one.size for one in missing)
                logger.info("fetching %s: %.1f GB", self.uri, num_bytes / 1e9)
            with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
                list(pool.map(self._fetch, missing))
        return self._folder

    def _fetch(self, one: _Object) -> None:
        bucket, prefix = _bucket_and_prefix(self.uri)
        target = self._folder / one.name
        client = s3_client(self._storage)
        download(client, bucket, prefix + one.name, one.etag, one.size, target)

    def _on_s3(self, one: _Object) -> WeightFile:
        uri = f"{self.uri}/{one.name}"
        try:
            file = S3File(uri, self._storage)
        except RequestError as error:
            raise CheckpointError(f"{uri} can't be read: {error}") from error
        if file.etag != plain_etag(one.etag):
            raise CheckpointError(f"{uri} was replaced while the checkpoint was read: run again")

        def read(offset: int, length: int) -> bytes:
            try:
                return file.read(offset, length)
            except RequestError as error:
                raise CheckpointError(f"{uri} can't be read: {error}") from error

        return WeightFile(uri, one.size, read)


def find_on_s3(
    model: ModelSpec, storage: StorageSpec, patience: Patience = Patience(seconds=15.0)
) -> S3Checkpoint:
    """The version of a checkpoint that the model's revision names, else what S3 holds now.

    S3 is not asked for a version that is known here. Where it can't be reached, it is the version
    that was listed last. `HF_HUB_OFFLINE` is about the hub, and says nothing about S3.

    Args:
        patience: with the listing, before S3 is found unreachable.

    Raises:
        CheckpointError: there is none; one sentence.
    """
    uri = model.id
    place = _place(uri, storage)
    if model.revision and (known := _remembered(place, model.revision)):
        return S3Checkpoint(model, storage, place, known)
    try:
        with storage_faults(CheckpointError, f"the checkpoint {uri} can't be read"):
            listed = patiently(lambda: _listed(uri, storage), is_transient, patience, "S3")
    except CheckpointError as error:
        latest = _remembered(place, None)
        if model.revision or latest is None or not _is_unreachable(error.__cause__):
            raise
        logger.warning("%s; the version that was read last is used", error)
        return S3Checkpoint(model, storage, place, latest)
    found = S3Checkpoint(model, storage, place, listed)
    if model.revision not in (None, found.version):
        raise CheckpointError(
            f"the checkpoint {uri} is at version {found.version} now, not at {model.revision}"
        )
    found.remember()
    return found


def _place(uri: str, storage: StorageSpec) -> Path:
    """Where versions of a checkpoint are kept on this machine."""
    key = f"{storage.endpoint_url or ''} {'/'.join(_bucket_and_prefix(uri))}"
    label = re.sub(r"[^\w.-]", "-", Path(uri).name)
    digest = hashlib.sha256(key.encode()).hexdigest()[:12]
    return _cache() / "checkpoints" / f"{label}-{digest}"


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("SFRAY_CACHE") or f"{base}/sfray").expanduser().absolute()


def _is_unreachable(error: BaseException | None) -> bool:
    return isinstance(error, BotoCoreError | ClientError) and is_transient(error)


def _bucket_and_prefix(uri: str) -> tuple[str, str]:
    bucket, _, prefix = uri.partition("://")[2].partition("/")
    if not bucket or not prefix.strip("/"):
        raise CheckpointError(f"model.id {uri!r} is not of the form s3://bucket/prefix")
    return bucket, prefix.strip("/") + "/"


def _listed(uri: str, storage: StorageSpec) -> tuple[_Object, ...]:
    """The files of a checkpoint right below a prefix, by name."""
    bucket, prefix = _bucket_and_prefix(uri)
    pages = s3_client(storage).get_paginator("list_objects_v2")
    found: list[dict[str, Any]] = []
    for page in pages.paginate(Bucket=bucket, Prefix=prefix, Delimiter="/"):
        found += page.get("Contents", ())
    files = [_Object(o["Key"][len(prefix) :], o["Size"], o["ETag"]) for o in found]
    _check_names(uri, [one.name for one in files if one.name])
    needed = (one for one in files if any(fnmatch(one.name, p) for p in (*SMALL_FILES, WEIGHTS)))
    return tuple(sorted(needed))


def _check_names(uri: str, names: list[str]) -> None:
    if not names:
        raise CheckpointError(f"there is no checkpoint in {uri}: nothing lies right below it")
    if "config.json" not in names:
        raise CheckpointError(f"{uri} holds no config.json")
    if not any(fnmatch(name, WEIGHTS) for name in names):
        others = [name for name in names if fnmatch(name, "*.bin") or fnmatch(name, "*.pt*")]
        pickled = f" (only {others[0]}, which is not loaded: it could run code)" if others else ""
        raise CheckpointError(f"{uri} holds no weights in the safetensors format{pickled}")


def _version(objects: tuple[_Object, ...]) -> str:
    return hashlib.sha256(json.dumps([*map(asdict, objects)]).encode()).hexdigest()[:16]


def _remembered(place: Path, version: str | None) -> tuple[_Object, ...] | None:
    """The files of a version that was listed on this machine; None stands for the last one."""
    if version is not None and not _VERSION.fullmatch(version):
        return None
    try:
        version = version or (place / "latest").read_text(encoding="utf-8")
        listing = json.loads((place / f"{version}.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return tuple(_Object(**one) for one in listing)


def _is_here(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


@contextmanager
def _locked(place: Path) -> Iterator[None]:
    """One process of a node at a time; the others wait."""
    place.mkdir(parents=True, exist_ok=True)
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)

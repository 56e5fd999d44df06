"""The files below a root, where videos are looked for."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sfray.config import StorageSpec
from sfray.errors import StorageError
from sfray.redaction import redact
from sfray.sources.remote import plain_etag
from sfray.storage.faults import storage_faults
from sfray.storage.patience import Patience, patiently
from sfray.storage.uris import is_remote, local_path, open_filesystem, scheme_of

# Gone since, or a link to nothing or to itself.
_LEADS_NOWHERE = (errno.ENOENT, errno.ELOOP)


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A file below a root; `path` is the rest of its URI, `etag` None where there is none."""

    uri: str
    path: str
    size_bytes: int
    etag: str | None


def iter_files(root: str, storage: StorageSpec) -> Iterator[ListedFile]:
    """All files below a folder or prefix, one by one, in the order in which S3 lists keys.

    Of S3 one page of keys is held at a time, elsewhere the names of one folder. A server that
    speaks S3 may have an order of its own, which is kept.

    Raises:
        StorageError: it can't be listed.
    """
    scheme = scheme_of(root)
    with storage_faults(StorageError, f"the files below {redact(root)} can't be listed"):
        if scheme == "file":
            yield from _below_folder(local_path(root).absolute(), "", frozenset())
        elif scheme == "s3":
            yield from _below_prefix(root, storage)
        elif scheme == "gs":
            yield from _below_gs(root.rstrip("/"), "", storage)
        else:
            raise StorageError(
                f"{redact(root)!r} can't be listed: allowed are a local folder, s3:// and gs://"
            )


def _below_folder(
    folder: Path, below: str, above: frozenset[tuple[int, int]]
) -> Iterator[ListedFile]:
    """
    Args:
        above: device and inode of the folders around it: a link may lead back to one.
    """
    here = folder.stat()
    if (here.st_dev, here.st_ino) in above:
        return
    above |= {(here.st_dev, here.st_ino)}
    with os.scandir(folder) as entries:
        # With its slash a folder is sorted as the keys below it are on S3.
        names = sorted(f"{entry.name}/" if _is_folder(entry) else entry.name for entry in entries)
    for name in names:
        if name.endswith("/"):
            yield from _below_folder(folder / name, below + name, above)
            continue
        path = folder / name
        try:
            file = path.stat()
        except OSError as error:
            if error.errno not in _LEADS_NOWHERE:
                raise
            continue
        if stat.S_ISREG(file.st_mode):
            yield ListedFile(str(path), below + name, file.st_size, None)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _below_prefix(root: str, storage: StorageSpec) -> Iterator[ListedFile]:
    from sfray.storage.s3_client import is_transient, s3_client

    bucket, _, prefix = root.partition("://")[2].partition("/")
    prefix = f"{prefix.rstrip('/')}/" if prefix.strip("/") else ""
    client, place = s3_client(storage), {"Bucket": bucket, "Prefix": prefix}
    while True:
        page = patiently(partial(client.list_objects_v2, **place), is_transient, Patience(), "S3")
        for entry in page.get("Contents", ()):
            key = entry["Key"]
            if not key.endswith("/"):  # what consoles leave for a folder
                etag = plain_etag(entry.get("ETag"))
                yield ListedFile(f"s3://{bucket}/{key}", key[len(prefix) :], entry["Size"], etag)
        if not page["IsTruncated"]:
            return
        place["ContinuationToken"] = page["NextContinuationToken"]


def _below_gs(folder: str, below: str, storage: StorageSpec) -> Iterator[ListedFile]:
    filesystem, path = open_filesystem(folder, storage)
    found = {}
    for entry in filesystem.ls(path, detail=True):
        name = entry["name"].rstrip("/")
        if name != path:  # what consoles leave for a folder
            found[name[len(path) + 1 :] + "/" * (entry["type"] == "directory")] = entry
    for name, entry in sorted(found.items()):
        if name.endswith("/"):
            yield from _below_gs(f"{folder}/{name[:-1]}", below + name, storage)
        else:
            etag = plain_etag(entry.get("etag"))
            yield ListedFile(f"{folder}/{name}", below + name, int(entry["size"]), etag)


def list_videos(root: str, storage: StorageSpec) -> tuple[str, list[str]]:
    """All files below a folder or prefix.

    Returns:
        the root with a slash at its end, absolute if it is local, and the files' paths below it.

    Raises:
        StorageError: there is no such folder, or it can't be listed.
    """
    filesystem, path = open_filesystem(root, storage)
    path = path.rstrip("/")
    with storage_faults(StorageError, f"the videos below {redact(root)}"):
        found = filesystem.find(path)
    if not found:
        raise StorageError(f"there are no files below {redact(root)}")
    shown = f"{root.rstrip('/')}/" if is_remote(root) else f"{path}/"
    return shown, [name[len(path) + 1 :] for name in found]

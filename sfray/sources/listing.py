"""The files below a root, where videos are looked for by name."""

from __future__ import annotations

from sfray.config import StorageSpec
from sfray.errors import StorageError
from sfray.redaction import redact
from sfray.storage.faults import storage_faults
from sfray.storage.uris import is_remote, open_filesystem


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

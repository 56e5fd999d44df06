"""Errors of files and object stores, told from bugs and put into one sentence without secrets."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from sfray.errors import RunError
from sfray.redaction import redact_text

# The libraries behind the filesystems raise their own exceptions beside OSError. They are known
# by module, since importing all of them would cost more than what they are needed for.
_LIBRARIES = frozenset(
    ["botocore", "boto3", "aiobotocore", "s3fs", "aiohttp", "gcsfs", "google", "fsspec"]
)

_SENTENCES = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the disk is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.ENOENT: "it does not exist",
    errno.ENOTDIR: "a part of its path is a file, not a folder",
    errno.EEXIST: "a file is where a folder should be",
    errno.EISDIR: "it is a folder",
    errno.ENAMETOOLONG: "its name is too long",
    errno.ENOLCK: "its file system has no locks",
    errno.ENOTSUP: "its file system has no locks, or no hard links",
}


def is_storage_fault(error: BaseException) -> bool:
    """Whether an exception is about storage (a file, a server, a key), not about our code."""
    if isinstance(error, OSError):
        return True
    return any(t.__module__.partition(".")[0] in _LIBRARIES for t in type(error).__mro__)


def explain(error: BaseException) -> str:
    """What went wrong, in a few words and without secrets."""
    known = _SENTENCES.get(error.errno or 0) if isinstance(error, OSError) else None
    if known and type(error).__module__ == "builtins":
        return known
    text = " ".join(redact_text(str(error)).split())
    return text or type(error).__name__


@contextmanager
def storage_faults(error_type: type[RunError], what: str) -> Iterator[None]:
    """Turns a storage fault inside into `error_type`: '`what`: the reason'."""
    try:
        yield
    except Exception as error:
        if isinstance(error, RunError) or not is_storage_fault(error):
            raise
        raise error_type(f"{what}: {explain(error)}") from error

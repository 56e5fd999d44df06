"""Memory for the frames of one clip, which a child fills and its parent made and sized."""

from __future__ import annotations

import fcntl
import mmap
import os
import tempfile
from pathlib import Path

import numpy as np

from sfray.errors import RequestError


class SharedFrames:
    """uint8 of one shape, that a child can't harm its parent with.

    Memory that is sealed against shrinking (Linux) is mapped. Elsewhere it is a file without a
    name, which is read: what a child cut off is missing then, whereas this process would end if it
    touched a mapping of it.

    Attributes:
        descriptor: what a child maps and writes to.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape
        self.descriptor = nameless_file("frames", sealable=True)
        os.ftruncate(self.descriptor, int(np.prod(shape)))
        self._mapped = (
            mmap.mmap(self.descriptor, 0, prot=mmap.PROT_READ) if _seal(self.descriptor) else None
        )

    def copy(self, count: int) -> np.ndarray:
        """The first `count` of what the shape counts.

        Raises:
            RequestError: `decode_crashed` where a child took them away.
        """
        shape = (count, *self._shape[1:])
        num_bytes = int(np.prod(shape))
        if self._mapped is not None:
            return np.frombuffer(self._mapped, np.uint8, num_bytes).reshape(shape).copy()
        data = os.pread(self.descriptor, num_bytes, 0)
        if len(data) < num_bytes:
            raise RequestError("decode_crashed", "the decoder's process took its frames away")
        return np.frombuffer(data, np.uint8).reshape(shape).copy()

    def close(self) -> None:
        """Lets the memory go, once no child has it either."""
        os.close(self.descriptor)


def nameless_file(name: str, *, sealable: bool = False) -> int:
    """A descriptor of an empty file, in memory where the system has such ones; goes with its users.

    Args:
        name: for those who look at open files.
        sealable: whether it may be sealed, in memory.
    """
    if hasattr(os, "memfd_create"):
        return os.memfd_create(name, os.MFD_CLOEXEC | (os.MFD_ALLOW_SEALING if sealable else 0))
    descriptor, path = tempfile.mkstemp(prefix=f"sfray-{name}-")
    Path(path).unlink()
    return descriptor


def _seal(descriptor: int) -> bool:
    """Fixes the size of a file in memory for good; False where the system has no seals."""
    if not hasattr(os, "memfd_create") or not hasattr(fcntl, "F_ADD_SEALS"):
        return False
    seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    return True

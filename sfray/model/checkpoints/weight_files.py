"""Weight files in the safetensors format, told and checked by their headers alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from sfray.errors import CheckpointError

WEIGHTS = "*.safetensors"
# The format's own limit.
_MAX_HEADER_BYTES = 100 << 20
# Headers are alike for all trainings of one shape: a taste of the numbers tells them.
_TASTE_BYTES = 1 << 20
# Whatever of a folder decides an answer beside the weights.
_DECIDING_FILES = ("config.json", "tokenizer.json", "generation_config.json")


@dataclass(frozen=True, slots=True)
class WeightFile:
    """A file, wherever it is; `read(offset, length)` gives bytes that the file has."""

    name: str
    size: int
    read: Callable[[int, int], bytes]

    def header(self) -> bytes:
        """The header's JSON, which accounts for every byte of the file.

        Raises:
            CheckpointError: the file is cut, or is something else.
        """
        length = int.from_bytes(self.read(0, 8), "little") if self.size >= 8 else 0
        if not 0 < length <= min(self.size - 8, _MAX_HEADER_BYTES):
            raise CheckpointError(f"{self.name} is no whole file in the safetensors format")
        header = self.read(8, length)
        try:
            tensors = json.loads(header)
            ends = [t["data_offsets"][1] for name, t in tensors.items() if name != "__metadata__"]
        except (ValueError, AttributeError, TypeError, KeyError, IndexError) as error:
            raise CheckpointError(f"{self.name} has no header of the safetensors format") from error
        if (expected := 8 + length + max(ends, default=0)) != self.size:
            raise CheckpointError(
                f"{self.name} has {self.size} bytes, but its header speaks of {expected}"
            )
        return header


def with_weights(folder: Path) -> Path:
    """The folder, if it holds weights; raises `CheckpointError` if it doesn't."""
    if not any(folder.glob(WEIGHTS)):
        raise CheckpointError(f"{folder} holds no weights in the safetensors format")
    return folder


def local_weights(folder: Path) -> list[WeightFile]:
    """The weight files of a folder, by name."""
    return [_local(path) for path in sorted(folder.glob(WEIGHTS))]


def weights_digest(folder: Path, weights: Iterable[WeightFile]) -> str:
    """Of what decides in a folder's small files, and of headers, sizes and a taste of the weights.

    Args:
        weights: sorted by name; they may lie elsewhere.
    """
    digest = hashlib.sha256()
    for name in _DECIDING_FILES:
        path = folder / name
        digest.update(path.read_bytes() if path.exists() else b"")
    for file in weights:
        header = file.header()
        start = 8 + len(header)
        digest.update(header)
        digest.update(file.read(start, min(_TASTE_BYTES, file.size - start)))
        digest.update(str(file.size).encode())
    return digest.hexdigest()[:16]


def _local(path: Path) -> WeightFile:
    def read(offset: int, length: int) -> bytes:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(length)

    return WeightFile(str(path), path.stat().st_size, read)

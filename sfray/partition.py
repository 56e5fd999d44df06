"""Shards of a job that several drivers run: which of them a video belongs to."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

_TEXT = re.compile(r"(\d{1,6})/(\d{1,6})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """The videos whose identity hashes to `index` modulo `num_partitions`, counted from 0."""

    index: int
    num_partitions: int

    @classmethod
    def parse(cls, text: str) -> Partition:
        """Reads `3/16`; raises `ValueError` unless 0 <= 3 < 16."""
        match = _TEXT.fullmatch(text)
        if match is None or int(match[1]) >= int(match[2]):
            raise ValueError("a partition is i/n with whole numbers 0 <= i < n, such as 0/16")
        return cls(index=int(match[1]), num_partitions=int(match[2]))

    def __str__(self) -> str:
        return f"{self.index}/{self.num_partitions}"

    @property
    def folder(self) -> str:
        """The name of its log's folder, below the output."""
        return f"partition-{self.index:05d}-of-{self.num_partitions:05d}"

    def holds(self, video_id: str) -> bool:
        """Whether a video belongs to it; the same on every machine, now and later."""
        digest = hashlib.sha256(video_id.encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:8], "big") % self.num_partitions == self.index

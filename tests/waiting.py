"""Waiting for what a test needs, however busy the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

# Less than a test may take, so that what didn't come is said.
PATIENCE_SECONDS = 240.0


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Returns as soon as the condition holds; fails where it doesn't come to hold."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.05)


def num_parts(folder: Path) -> int:
    """How many parts a folder holds; the first of a log is the fence of its writer."""
    return len(list(folder.glob("part-*.parquet")))


def wait_for_parts(folder: Path, number: int) -> None:
    """Until a folder holds so many."""
    wait_until(lambda: num_parts(folder) >= number, f"{number} parts in {folder}")

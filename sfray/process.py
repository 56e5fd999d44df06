"""What belongs to the process: how it was called, and what is changed for a while and put back."""

from __future__ import annotations

import logging
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_DESCRIPTORS = Path("/proc/self/fd")


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Sets environment variables inside the block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def quieted(handlers: Iterable[logging.Handler], level: int) -> Iterator[None]:
    """Lets log handlers write what is of `level` or above only inside the block."""
    before = [(handler, handler.level) for handler in handlers]
    for handler, _ in before:
        handler.setLevel(level)
    try:
        yield
    finally:
        for handler, own_level in before:
            handler.setLevel(own_level)


def program_name() -> str:
    """How sfray is called from where this process was started, for commands to type."""
    if shutil.which("sfray"):
        return "sfray"
    called = Path(sys.argv[0])
    return str(called) if called.name == "sfray" else "python -m sfray"


def path_of_descriptor(descriptor: int) -> Path | None:
    """A link to what a descriptor is open on, which Linux has; None on other systems."""
    path = _DESCRIPTORS / str(descriptor)
    return path if path.is_symlink() else None


def as_options(values: dict[str, Any]) -> list[str]:
    """Command line options that give these values, those of None left out."""
    options = []
    for name, value in values.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            options.append(f"--{flag}" if value else f"--no-{flag}")
        elif value is not None:
            options += [f"--{flag}", str(value)]
    return options

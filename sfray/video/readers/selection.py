"""Which reader a file gets: of those that are right for it, the faster one."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from sfray.errors import SpecError


@dataclass(frozen=True, slots=True)
class Choice:
    """A reader and why it was taken, in a few words for the results."""

    reader: str
    reason: str


def choose_reader(forced: str, *, has_descriptor: bool) -> Choice:
    """The reader for a file.

    PyAV is right for every kind of file, and of the two the faster one too where frames are
    spread over a video (it seeks forward only and converts no frame that is not asked for), so
    `auto` takes it.

    Args:
        forced: `auto`, or the name of the reader that `decode.reader` demands.
        has_descriptor: whether the file is at hand as a whole; decord reads nothing else.
    """
    if forced == "auto":
        return Choice("pyav", "right for every kind of file and the faster one")
    if forced == "decord" and not has_descriptor:
        return Choice("pyav", "decord can't read a file by range")
    return Choice(forced, f"decode.reader is {forced}")


def check_reader(forced: str) -> None:
    """Refuses a reader that this machine lacks: decord has packages for few platforms.

    Args:
        forced: the value of `decode.reader`.

    Raises:
        SpecError: it isn't installed here.
    """
    if forced == "decord" and find_spec("decord") is None:
        raise SpecError(
            "decode.reader is 'decord', which is not installed on this machine (its packages are "
            "for Linux on x86-64 alone); allowed here: auto, pyav"
        )

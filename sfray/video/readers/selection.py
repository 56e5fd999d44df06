"""Which reader a file gets: of those that are right for it, the faster one."""

from __future__ import annotations

from dataclasses import dataclass


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

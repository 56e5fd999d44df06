"""The terminal, where texts of models and manifests are shown as they are."""

from __future__ import annotations

from functools import cache

from rich.console import Console


@cache
def terminal(*, stderr: bool = False) -> Console:
    """A console without rich's markup: an answer such as `[/INST]` is no instruction to it.

    A stream has one console: a live display moves aside only for what is printed on its own.
    """
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)

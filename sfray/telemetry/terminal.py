"""The terminal, where texts of models and manifests are shown as they are."""

from __future__ import annotations

from rich.console import Console


def terminal(*, stderr: bool = False) -> Console:
    """A console without rich's markup: an answer such as `[/INST]` is no instruction to it."""
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)

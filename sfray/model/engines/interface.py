"""What an engine does: one prefix, many suffixes, a text for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from sfray.config import GenerationSpec
from sfray.errors import RequestError


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """Generated ids with the end token if there was one, and the mean log-probability of them."""

    token_ids: tuple[int, ...]
    text: str
    finish_reason: str
    mean_logprob: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Suffix:
    """What comes after the visual tokens for one request; `seed` is for sampling."""

    token_ids: list[int]
    seed: int


class Engine(Protocol):
    """Calls may overlap: prefixes of several videos are in flight together."""

    async def complete(
        self, prefix_LW: Tensor, suffixes: list[Suffix], generation: GenerationSpec
    ) -> list[Completion | RequestError]:
        """Continues each suffix behind the same prefix embeddings.

        Raises:
            EngineLostError: the engine won't answer any more.
        """
        ...


def before_stops(text: str, stops: Sequence[str]) -> str:
    """The text up to the first of the texts that end an answer."""
    return text[: min((text.find(stop) for stop in stops if stop in text), default=len(text))]


def first_line(error: BaseException) -> str:
    """What an error says first: libraries go on about their own sources after it."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]

"""One answer while it grows: its tokens, drawn if they are, and where it ends."""

from __future__ import annotations

from collections.abc import Set

import torch
from torch import Tensor

from sfray.config import GenerationSpec
from sfray.model.engines.interface import Completion, Suffix, before_stops
from sfray.model.prompt_tokens import PromptTokenizer


class GrowingText:
    """The generated ids of one suffix, with a random generator of its own."""

    def __init__(self, suffix: Suffix, generation: GenerationSpec, end_ids: Set[int]) -> None:
        self._generation = generation
        self._end_ids = end_ids
        self._random = torch.Generator().manual_seed(suffix.seed)
        self._num_prompt_ids = len(suffix.token_ids)
        self._ids: list[int] = []
        self._logprobs: list[float] = []
        self.finish_reason: str | None = None

    @property
    def last_id(self) -> int:
        return self._ids[-1]

    @property
    def num_positions(self) -> int:
        """Positions behind the prefix: the suffix's ids and the generated ones."""
        return self._num_prompt_ids + len(self._ids)

    @property
    def is_sampled(self) -> bool:
        """Whether the next id is drawn, not the most likely one."""
        return self._generation.temperature > 0

    def draw(self, logits_V: Tensor) -> int:
        """The next id, by float32 logits and this text's own generator."""
        probs_V, order_V = (
            (logits_V / self._generation.temperature).softmax(-1).cpu().sort(descending=True)
        )
        kept_V = probs_V * (probs_V.cumsum(-1) - probs_V < self._generation.top_p)
        return int(order_V[torch.multinomial(kept_V, 1, generator=self._random)])

    def grow(self, token_id: int, logprob: float, tokenizer: PromptTokenizer) -> None:
        """Adds the next id, and sees whether it is the last."""
        self._ids.append(token_id)
        self._logprobs.append(logprob)
        if token_id in self._end_ids or self._holds_stop_text(tokenizer):
            self.finish_reason = "stop"
        elif len(self._ids) == self._generation.max_new_tokens:
            self.finish_reason = "length"

    def completion(self, tokenizer: PromptTokenizer) -> Completion:
        """The finished answer; a stop text and what follows it are cut off."""
        text = before_stops(tokenizer.decode(self._ids), self._generation.stop)
        return Completion(
            token_ids=tuple(self._ids),
            text=text.strip(),
            finish_reason=self.finish_reason or "length",
            mean_logprob=sum(self._logprobs) / len(self._logprobs),
        )

    def _holds_stop_text(self, tokenizer: PromptTokenizer) -> bool:
        if not self._generation.stop:
            return False
        text = tokenizer.decode(self._ids)
        return any(stop in text for stop in self._generation.stop)

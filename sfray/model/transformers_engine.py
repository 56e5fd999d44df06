"""The light engine: transformers, one prefix computed once for all questions of a video.

Shape legend: B suffixes, S positions, L prefix positions, W width, V vocabulary.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor
from transformers import DynamicCache

from sfray.config import GenerationSpec
from sfray.errors import RequestError
from sfray.model.engine import Completion, Suffix
from sfray.model.llava import Llava
from sfray.model.prompt_tokens import PromptTokenizer

_SUFFIXES_PER_BATCH = 32


class TransformersEngine:
    """Runs in one thread of its own, so that calls from an event loop may overlap."""

    def __init__(self, llava: Llava, tokenizer: PromptTokenizer) -> None:
        self._llava = llava
        self._tokenizer = tokenizer
        config = llava.model.generation_config
        ends = config.eos_token_id
        self._end_ids = set(ends if isinstance(ends, list) else [ends])
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")

    async def complete(
        self, prefix_LW: Tensor, suffixes: list[Suffix], generation: GenerationSpec
    ) -> list[Completion | RequestError]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._thread, self._complete, prefix_LW, suffixes, generation
        )

    @torch.inference_mode()
    def _complete(
        self, prefix_LW: Tensor, suffixes: list[Suffix], generation: GenerationSpec
    ) -> list[Completion | RequestError]:
        inner = self._llava.model.model.language_model
        prefix = inner(inputs_embeds=prefix_LW[None], use_cache=True).past_key_values
        results: list[Completion | RequestError] = []
        for low in range(0, len(suffixes), _SUFFIXES_PER_BATCH):
            batch = suffixes[low : low + _SUFFIXES_PER_BATCH]
            cache = DynamicCache()
            for layer, state in enumerate(prefix.layers):
                expanded = (t.expand(len(batch), -1, -1, -1) for t in (state.keys, state.values))
                cache.update(*expanded, layer)
            results += self._decode(cache, prefix_LW.shape[0], batch, generation)
        return results

    def _decode(
        self,
        cache: DynamicCache,
        prefix_length: int,
        batch: list[Suffix],
        generation: GenerationSpec,
    ) -> list[Completion | RequestError]:
        device = self._llava.device
        lengths = torch.tensor([len(s.token_ids) for s in batch], device=device)
        longest = int(lengths.max())
        ids_BS = torch.tensor(
            [s.token_ids + [0] * (longest - len(s.token_ids)) for s in batch], device=device
        )
        steps = torch.arange(longest, device=device)
        seen_BS = torch.cat(
            [
                torch.ones(len(batch), prefix_length, dtype=torch.long, device=device),
                (steps[None] < lengths[:, None]).long(),
            ],
            dim=1,
        )
        positions_BS = (prefix_length + steps)[None].expand(len(batch), -1)
        states = self._forward(ids_BS, cache, seen_BS, positions_BS)
        last_BW = states[torch.arange(len(batch)), lengths - 1]
        rows = [_Row(s, generation, self._end_ids) for s in batch]
        for step in range(generation.max_new_tokens):
            logits_BV = self._llava.model.lm_head(last_BW).float()
            chosen = [row.choose(logits_V) for row, logits_V in zip(rows, logits_BV, strict=True)]
            for row in rows:
                row.check_stop(self._tokenizer, generation)
            if all(row.finish_reason for row in rows) or step + 1 == generation.max_new_tokens:
                break
            ids_B1 = torch.tensor(chosen, device=device)[:, None]
            seen_BS = torch.cat([seen_BS, torch.ones_like(ids_B1)], dim=1)
            positions_B1 = (prefix_length + lengths + step)[:, None]
            last_BW = self._forward(ids_B1, cache, seen_BS, positions_B1)[:, -1]
        return [row.completion(self._tokenizer, generation) for row in rows]

    def _forward(
        self, ids_BS: Tensor, cache: DynamicCache, seen_BS: Tensor, positions_BS: Tensor
    ) -> Tensor:
        return self._llava.model.model.language_model(
            input_ids=ids_BS,
            past_key_values=cache,
            attention_mask=seen_BS,
            position_ids=positions_BS,
            use_cache=True,
        ).last_hidden_state


class _Row:
    """One suffix while its text grows."""

    def __init__(self, suffix: Suffix, generation: GenerationSpec, end_ids: set[int]) -> None:
        self._generation = generation
        self._end_ids = end_ids
        self._random = torch.Generator().manual_seed(suffix.seed)
        self._ids: list[int] = []
        self._logprobs: list[float] = []
        self.finish_reason: str | None = None

    def choose(self, logits_V: Tensor) -> int:
        """The next id; a finished row repeats its last one, which nobody reads."""
        if self.finish_reason:
            return self._ids[-1]
        logprobs_V = logits_V.log_softmax(-1)
        chosen = (
            int(logits_V.argmax()) if not self._generation.temperature else self._draw(logits_V)
        )
        self._ids.append(chosen)
        self._logprobs.append(float(logprobs_V[chosen]))
        if chosen in self._end_ids:
            self.finish_reason = "stop"
        return chosen

    def _draw(self, logits_V: Tensor) -> int:
        probs_V, order_V = (
            (logits_V / self._generation.temperature).softmax(-1).cpu().sort(descending=True)
        )
        kept_V = probs_V * (probs_V.cumsum(-1) - probs_V < self._generation.top_p)
        return int(order_V[torch.multinomial(kept_V, 1, generator=self._random)])

    def check_stop(self, tokenizer: PromptTokenizer, generation: GenerationSpec) -> None:
        if self.finish_reason or not generation.stop:
            return
        text = tokenizer.decode(self._ids)
        if any(stop in text for stop in generation.stop):
            self.finish_reason = "stop"

    def completion(self, tokenizer: PromptTokenizer, generation: GenerationSpec) -> Completion:
        text = tokenizer.decode(self._ids)
        for stop in generation.stop:
            text = text.split(stop)[0]
        return Completion(
            token_ids=tuple(self._ids),
            text=text.strip(),
            finish_reason=self.finish_reason or "length",
            mean_logprob=sum(self._logprobs) / len(self._logprobs),
        )

"""The light engine: transformers, one prefix computed once for all questions of a video.

A thread takes in videos while others are under way: each brings its prefix and its suffixes, then
all rows of all videos go through the decode steps together, and a row that has ended makes room.
Shape legend: R rows of all videos, B rows of one video, S positions, W width, V vocabulary.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from concurrent.futures import Future

import torch
from torch import Tensor
from transformers import DynamicCache

from sfray.config import GenerationSpec, RopeScaling
from sfray.errors import RequestError
from sfray.model.dynamic_rope import DynamicRope
from sfray.model.engine import Completion, Suffix
from sfray.model.growing_text import GrowingText
from sfray.model.llava import Llava
from sfray.model.prompt_tokens import PromptTokenizer
from sfray.model.shared_prefix import NAME, GroupStep, PrefixGroup

# So many rows decode together, and so many videos hold a prefix in memory.
_MAX_ROWS = 64
_MAX_VIDEOS = 8


class _Job:
    """One call of `complete`: the suffixes of one video."""

    def __init__(
        self, prefix_LW: Tensor, suffixes: list[Suffix], generation: GenerationSpec
    ) -> None:
        self.prefix_LW = prefix_LW
        self.suffixes = suffixes
        self.generation = generation
        self.future: Future[list[Completion | RequestError]] = Future()
        self.texts: list[GrowingText] = []
        self.group: PrefixGroup | None = None

    def open_rows(self) -> list[int]:
        return [row for row, text in enumerate(self.texts) if not text.finish_reason]


class TransformersEngine:
    """Runs in one thread of its own; calls from an event loop overlap."""

    def __init__(
        self,
        llava: Llava,
        tokenizer: PromptTokenizer,
        rope_scaling: RopeScaling | None = None,
    ) -> None:
        self._llava = llava
        self._tokenizer = tokenizer
        self._language_model = llava.model.model.language_model
        self._language_model.config._attn_implementation = NAME
        self._rope: DynamicRope | None = None
        if rope_scaling is not None:
            self._rope = DynamicRope(self._language_model.config, rope_scaling.factor)
            self._language_model.rotary_emb = self._rope
        self._end_ids = llava.end_ids
        self._waiting: queue.Queue[_Job] = queue.Queue()
        self._under_way: list[_Job] = []
        threading.Thread(target=self._run, name="engine", daemon=True).start()

    async def complete(
        self, prefix_LW: Tensor, suffixes: list[Suffix], generation: GenerationSpec
    ) -> list[Completion | RequestError]:
        shared = self._sharing(len(prefix_LW), suffixes)
        jobs = [_Job(prefix_LW, [suffixes[i] for i in indices], generation) for indices in shared]
        for job in jobs:
            self._waiting.put(job)
        results: dict[int, Completion | RequestError] = {}
        for indices, job in zip(shared, jobs, strict=True):
            done = await asyncio.wrap_future(job.future)
            results.update(zip(indices, done, strict=True))
        return [results[index] for index in range(len(suffixes))]

    def _sharing(self, prefix_length: int, suffixes: list[Suffix]) -> list[list[int]]:
        """Which suffixes share a prefix: all, but a stretched RoPE differs by prompt length."""
        groups: dict[int, list[int]] = {}
        for index, suffix in enumerate(suffixes):
            length = prefix_length + len(suffix.token_ids)
            beyond = max(0, length - self._rope.max_positions) if self._rope else 0
            groups.setdefault(beyond, []).append(index)
        return list(groups.values())

    @torch.inference_mode()
    def _run(self) -> None:
        while True:
            self._take_in()
            try:
                self._decode_step()
            except RuntimeError as error:  # such as out of memory: each caller decides
                for job in self._under_way:
                    job.future.set_exception(error)
                self._under_way = []
            for job in self._under_way:
                if not job.open_rows():
                    job.future.set_result([text.completion(self._tokenizer) for text in job.texts])
            self._under_way = [job for job in self._under_way if job.open_rows()]

    def _take_in(self) -> None:
        """Begins jobs that wait while there is room; waits for one if nothing is under way."""
        while True:
            try:
                job = self._waiting.get(block=not self._under_way)
            except queue.Empty:
                return
            try:
                self._begin(job)
            except RuntimeError as error:
                job.future.set_exception(error)
                continue
            self._under_way.append(job)
            num_rows = sum(len(job.open_rows()) for job in self._under_way)
            if num_rows >= _MAX_ROWS or len(self._under_way) >= _MAX_VIDEOS:
                return

    def _begin(self, job: _Job) -> None:
        """Computes the prefix and the first token of each suffix."""
        cache = DynamicCache()
        lengths = [len(suffix.token_ids) for suffix in job.suffixes]
        if self._rope is not None:
            self._rope.lengths_R = torch.tensor(
                [len(job.prefix_LW) + max(lengths)], device=self._llava.device
            )
        self._language_model(inputs_embeds=job.prefix_LW[None], past_key_values=cache)
        job.group = PrefixGroup(
            prefix=[(layer.keys[0], layer.values[0]) for layer in cache.layers],
            num_rows=len(job.suffixes),
            capacity=max(lengths) + job.generation.max_new_tokens,
        )
        job.texts = [GrowingText(s, job.generation, self._end_ids) for s in job.suffixes]
        longest, device = max(lengths), self._llava.device
        padded = [s.token_ids + [0] * (longest - len(s.token_ids)) for s in job.suffixes]
        steps = torch.arange(longest, device=device)
        lengths_B = torch.tensor(lengths, device=device)
        positions_BS = steps.where(steps < lengths_B[:, None], job.group.capacity)
        rows_B = torch.arange(len(lengths), device=device)
        group_step = GroupStep(job.group, rows_B, positions_BS)
        states = self._forward(torch.tensor(padded, device=device), [group_step])
        self._grow(job.texts, states[rows_B, lengths_B - 1])

    def _decode_step(self) -> None:
        """One more token for every open row of every video."""
        device = self._llava.device
        texts, group_steps, ids = [], [], []
        for job in self._under_way:
            rows = job.open_rows()
            if not rows or job.group is None:
                continue
            texts += [job.texts[row] for row in rows]
            ids += [job.texts[row].last_id for row in rows]
            positions = [[job.texts[row].num_positions - 1] for row in rows]
            group_steps.append(
                GroupStep(
                    job.group,
                    torch.tensor(rows, device=device),
                    torch.tensor(positions, device=device),
                )
            )
        if texts:
            states = self._forward(torch.tensor(ids, device=device)[:, None], group_steps)
            self._grow(texts, states[:, -1])

    def _forward(self, ids_RS: Tensor, group_steps: list[GroupStep]) -> Tensor:
        """(R, S, W), the last states of inputs behind their prefixes."""
        positions = [step.group.prefix_length + step.positions_BS for step in group_steps]
        if self._rope is not None:
            self._rope.lengths_R = torch.cat([step.lengths for step in group_steps])
        return self._language_model(
            input_ids=ids_RS,
            position_ids=torch.cat(positions),
            use_cache=False,
            group_steps=group_steps,
        ).last_hidden_state

    def _grow(self, texts: list[GrowingText], states_RW: Tensor) -> None:
        logits_RV = self._llava.model.lm_head(states_RW).float()
        for text, logits_V in zip(texts, logits_RV, strict=True):
            text.grow(logits_V, self._tokenizer)

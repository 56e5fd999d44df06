"""The light engine: transformers, one prefix computed once for all questions of a video.

A thread takes in videos while others are under way: each brings its prefix and its suffixes, then
all rows of all videos go through the decode steps together, and a row that has ended makes room.
Shape legend: R rows of all videos, B rows of one video, S positions, W width, V vocabulary.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache

from sfray.config import GenerationSpec, RopeScaling
from sfray.errors import RequestError
from sfray.model.engines.dynamic_rope import DynamicRope
from sfray.model.engines.growing_text import GrowingText
from sfray.model.engines.interface import Completion, Suffix, first_line
from sfray.model.engines.shared_prefix import NAME, Layers, OwnCache, SharedPass
from sfray.model.llava import Llava
from sfray.model.memory import InFlight
from sfray.model.prompt_tokens import PromptTokenizer

logger = logging.getLogger("sfray")


class _Job:
    """One call of `complete`: the suffixes of one video, told apart by their numbers.

    `prefix` is there while some of them are under way, or wait behind others of the same video.
    """

    def __init__(
        self, prefix_LW: Tensor, suffixes: list[Suffix], generation: GenerationSpec
    ) -> None:
        self.prefix_LW = prefix_LW
        self.suffixes = suffixes
        self.generation = generation
        self.future: Future[list[Completion | RequestError]] = Future()
        self.waiting = list(range(len(suffixes)))
        self.results: dict[int, Completion | RequestError] = {}
        self.prefix: Layers | None = None


@dataclass(slots=True)
class _Rows:
    """Suffixes of one video that began together, their texts and places in the own cache."""

    job: _Job
    prefix: Layers
    numbers: list[int]
    texts: list[GrowingText]
    slots: list[int]

    def open(self) -> list[int]:
        return [row for row, text in enumerate(self.texts) if not text.finish_reason]


class TransformersEngine:
    """Runs in one thread of its own; calls from an event loop overlap.

    When a GPU has too little memory, half as many requests are under way from then on; those that
    were are begun again, and give the same texts.
    """

    def __init__(
        self,
        llava: Llava,
        tokenizer: PromptTokenizer,
        rope_scaling: RopeScaling | None = None,
        in_flight: InFlight | None = None,
    ) -> None:
        in_flight = in_flight or InFlight()
        self._max_rows, self._max_videos = in_flight.num_requests, in_flight.num_videos
        self._llava = llava
        self._tokenizer = tokenizer
        self._language_model = llava.model.model.language_model
        self._language_model.config._attn_implementation = NAME
        self._rope: DynamicRope | None = None
        if rope_scaling is not None:
            self._rope = DynamicRope(self._language_model.config, rope_scaling.factor)
            self._language_model.rotary_emb = self._rope
        self._end_ids = llava.end_ids
        self._arriving: queue.Queue[_Job] = queue.Queue()
        self._waiting: deque[_Job] = deque()
        self._under_way: list[_Rows] = []
        self._own = OwnCache()
        threading.Thread(target=self._run, name="engine", daemon=True).start()

    async def complete(
        self, prefix_LW: Tensor, suffixes: list[Suffix], generation: GenerationSpec
    ) -> list[Completion | RequestError]:
        shared = self._sharing(len(prefix_LW), suffixes)
        jobs = [_Job(prefix_LW, [suffixes[i] for i in indices], generation) for indices in shared]
        for job in jobs:
            self._arriving.put(job)
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

    def _run(self) -> None:
        while True:
            self._turn()

    @torch.inference_mode()
    def _turn(self) -> None:
        """Takes in what there is room for, and one decode step."""
        self._take_in()
        out_of_memory = None
        try:
            self._decode_step()
        except torch.OutOfMemoryError as error:
            out_of_memory = first_line(error)
        except RuntimeError as error:
            self._give_up(error)
        if out_of_memory is not None:  # the error is gone, and what its frames held
            self._make_room(out_of_memory)
        self._hand_over()

    def _take_in(self) -> None:
        """Begins requests that wait while there is room; waits if nothing is under way."""
        while (room := self._max_rows - sum(len(rows.open()) for rows in self._under_way)) > 0:
            if not self._waiting:
                try:
                    self._waiting.append(self._arriving.get(block=not self._under_way))
                except queue.Empty:
                    return
            job = self._waiting[0]
            num_videos = len({rows.job for rows in self._under_way})
            if job.prefix is None and num_videos >= self._max_videos:
                return
            numbers = job.waiting[:room]
            out_of_memory = None
            try:
                self._take_on(job, numbers)
            except torch.OutOfMemoryError as error:
                out_of_memory = first_line(error)
            except RuntimeError as error:
                self._give_up(error, beginning=job)
                continue
            if out_of_memory is not None:
                self._make_room(out_of_memory, beginning=(job, numbers))
                self._hand_over()
                continue
            job.waiting = job.waiting[room:]
            if not job.waiting:
                self._waiting.popleft()

    def _take_on(self, job: _Job, numbers: list[int]) -> None:
        """Begins some suffixes. Nothing else refers to their rows: when memory runs out they go."""
        rows = self._begin(job, numbers)
        self._under_way.append(rows)
        self._keep_finished(rows)  # their slots are for what comes next in this turn

    def _begin(self, job: _Job, numbers: list[int]) -> _Rows:
        """Computes the prefix if it isn't there, and the first token of some suffixes."""
        suffixes = [job.suffixes[number] for number in numbers]
        lengths = [len(suffix.token_ids) for suffix in suffixes]
        if job.prefix is None:
            cache = DynamicCache()
            if self._rope is not None:
                self._rope.lengths_R = torch.tensor(
                    [len(job.prefix_LW) + max(lengths)], device=self._llava.device
                )
            self._language_model(inputs_embeds=job.prefix_LW[None], past_key_values=cache)
            job.prefix = [(layer.keys[0], layer.values[0]) for layer in cache.layers]
        capacity = max(lengths) + job.generation.max_new_tokens
        slots = self._own.take(len(suffixes), capacity, job.prefix)
        texts = [GrowingText(suffix, job.generation, self._end_ids) for suffix in suffixes]
        padded = [s.token_ids + [0] * (max(lengths) - len(s.token_ids)) for s in suffixes]
        positions = [range(length) for length in lengths]
        shared = SharedPass([(job.prefix, len(suffixes))], self._own, slots, positions)
        states = self._forward(torch.tensor(padded, device=self._llava.device), shared)
        self._grow(texts, states[range(len(lengths)), [length - 1 for length in lengths]])
        return _Rows(job, job.prefix, numbers, texts, slots)

    def _decode_step(self) -> None:
        """One more token for every open row of every video."""
        texts, prefixes, slots = [], [], []
        for rows in self._under_way:
            if numbers := rows.open():
                texts += [rows.texts[row] for row in numbers]
                prefixes.append((rows.prefix, len(numbers)))
                slots += [rows.slots[row] for row in numbers]
        if texts:
            lasts = [range(text.num_positions - 1, text.num_positions) for text in texts]
            shared = SharedPass(prefixes, self._own, slots, lasts)
            ids_R = torch.tensor([text.last_id for text in texts], device=self._llava.device)
            self._grow(texts, self._forward(ids_R[:, None], shared)[:, -1])

    def _hand_over(self) -> None:
        """Gives the finished texts to their jobs, and the finished jobs to their callers."""
        jobs = {rows.job for rows in self._under_way} | set(self._waiting)
        for rows in self._under_way:
            self._keep_finished(rows)
        self._under_way = [rows for rows in self._under_way if rows.open()]
        still_there = {rows.job for rows in self._under_way}
        for job in jobs:
            if job not in still_there and not job.waiting:
                job.prefix = None
            if len(job.results) == len(job.suffixes):
                job.future.set_result([job.results[n] for n in range(len(job.suffixes))])
        self._waiting = deque(job for job in self._waiting if not job.future.done())
        if not self._under_way:
            self._own.clear()

    def _keep_finished(self, rows: _Rows) -> None:
        for number, text, slot in zip(rows.numbers, rows.texts, rows.slots, strict=True):
            if text.finish_reason and number not in rows.job.results:
                rows.job.results[number] = text.completion(self._tokenizer)
                self._own.give_back(slot)

    def _give_up(self, error: RuntimeError, beginning: _Job | None = None) -> None:
        """Fails all that is under way, which may share what the error left behind."""
        jobs = {rows.job for rows in self._under_way} | ({beginning} if beginning else set())
        self._under_way = []
        self._own.clear()
        self._waiting = deque(job for job in self._waiting if job not in jobs)
        for job in jobs:  # each caller decides
            job.future.set_exception(error)

    def _make_room(self, message: str, beginning: tuple[_Job, list[int]] | None = None) -> None:
        """Drops all caches and halves what may be under way; a request that was alone fails."""
        tried = self._drop()
        if beginning is not None:
            job, numbers = beginning
            job.prefix = None
            tried.setdefault(job, []).extend(numbers)
        for job, numbers in reversed(tried.items()):
            job.waiting = sorted({*job.waiting, *numbers})
            if job not in self._waiting:
                self._waiting.appendleft(job)
        num_rows = sum(map(len, tried.values()))
        if num_rows == 1:
            ((job, (number,)),) = tried.items()
            job.waiting.remove(number)
            job.results[number] = RequestError("out_of_memory", message)
        self._max_rows = max(1, min(self._max_rows, num_rows) // 2)
        self._max_videos = max(1, min(self._max_videos, len(tried)) // 2)
        logger.warning(
            "the GPU's memory did not suffice: at most %d requests of %d videos are under way now",
            self._max_rows,
            self._max_videos,
        )
        if self._llava.device.type == "cuda":
            torch.cuda.empty_cache()

    def _drop(self) -> dict[_Job, list[int]]:
        """Lets go of all that is under way; returns which suffixes of which jobs are open."""
        tried: dict[_Job, list[int]] = {}
        for rows in self._under_way:
            self._keep_finished(rows)
            tried.setdefault(rows.job, []).extend(rows.numbers[row] for row in rows.open())
            rows.job.prefix = None
        self._under_way = []
        self._own.clear()
        return tried

    def _forward(self, ids_RS: Tensor, shared: SharedPass) -> Tensor:
        """(R, S, W), the last states of inputs behind their prefixes."""
        if self._rope is not None:
            self._rope.lengths_R = torch.tensor(shared.lengths, device=self._llava.device)
        return self._language_model(
            input_ids=ids_RS,
            position_ids=shared.position_ids,
            use_cache=False,
            shared=shared,
        ).last_hidden_state

    def _grow(self, texts: list[GrowingText], states_RW: Tensor) -> None:
        """Chooses a token for each, in few words with the device: it answers each alone slowly."""
        logits_RV = self._llava.model.lm_head(states_RW).float()
        chosen = logits_RV.argmax(-1).tolist()
        for row, text in enumerate(texts):
            if text.is_sampled:
                chosen[row] = text.draw(logits_RV[row])
        picked_R1 = logits_RV.gather(-1, torch.tensor(chosen, device=logits_RV.device)[:, None])
        logprobs = (picked_R1[:, 0] - logits_RV.logsumexp(-1)).tolist()
        for text, token_id, logprob in zip(texts, chosen, logprobs, strict=True):
            text.grow(token_id, logprob, self._tokenizer)

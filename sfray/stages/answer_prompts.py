"""The model stage (inference): from the frames of a clip to an answer for each of its requests."""

from __future__ import annotations

import asyncio
import hashlib
import time
from datetime import UTC, datetime

import torch
from torch import Tensor

from sfray.config import JobSpec
from sfray.errors import RequestError
from sfray.model.checkpoints.find import find_checkpoint
from sfray.model.engines.interface import Completion, Suffix, first_line
from sfray.model.engines.loading import load_engine
from sfray.model.presets import resolve_sampling_and_pooling
from sfray.model.prompt_tokens import PromptTokenizer
from sfray.prompts.choices import parse_choice
from sfray.prompts.templates import load_template
from sfray.records import (
    DecodedItem,
    DecodedVideo,
    Generation,
    Outcome,
    Request,
    RequestFailure,
)


class AnswerPrompts:
    """Loads the model once; calls may overlap on one event loop."""

    def __init__(self, spec: JobSpec) -> None:
        self._spec = spec
        checkpoint = find_checkpoint(spec.model, spec.storage)
        self._profile = checkpoint.profile
        _, self._pooling = resolve_sampling_and_pooling(spec, self._profile)
        self._template = load_template(spec.template, self._profile.chat_format, spec.task)
        folder = checkpoint.whole()
        self._tokenizer = PromptTokenizer.from_folder(folder)
        self._llava, self._engine = load_engine(folder, spec, self._profile)

    async def __call__(self, decoded: DecodedItem) -> list[Outcome]:
        """An outcome for each request of the item, in their order."""
        requests = decoded.item.requests
        if decoded.video is None:
            results: list[Generation | RequestFailure] = [decoded.failure or _no_reason()] * len(
                requests
            )
        else:
            results = await self._answer(decoded.video, requests)
        return [
            Outcome(request=request, decoded=decoded, result=result)
            for request, result in zip(requests, results, strict=True)
        ]

    async def _answer(
        self, video: DecodedVideo, requests: tuple[Request, ...]
    ) -> list[Generation | RequestFailure]:
        started = time.monotonic()
        try:
            visual_LW = await asyncio.to_thread(
                self._llava.visual_tokens, video.frames_THWC, self._pooling
            )
        except RuntimeError as error:
            return [RequestFailure.of(_engine_error(error))] * len(requests)
        prompts = [
            self._tokenizer.encode(self._template.render(r.prompt, r.options)) for r in requests
        ]
        # What stands before the image is the same for all, unless a template asks there already.
        sharing: dict[tuple[int, ...], list[int]] = {}
        for index, (before, _) in enumerate(prompts):
            sharing.setdefault(tuple(before), []).append(index)
        completions: dict[int, Completion | RequestError] = {}
        for before_ids, indices in sharing.items():
            prefix_LW = torch.cat([self._embed(list(before_ids)), visual_LW])
            suffixes = [
                Suffix(
                    token_ids=prompts[index][1],
                    seed=_seed(self._spec.generation.seed, requests[index].request_id),
                )
                for index in indices
            ]
            completed = await self._complete(prefix_LW, suffixes)
            completions.update(zip(indices, completed, strict=True))
        seconds = (time.monotonic() - started) / len(requests)
        return [
            self._result(
                request, completions[index], len(visual_LW), len(before) + len(after), seconds
            )
            for index, (request, (before, after)) in enumerate(zip(requests, prompts, strict=True))
        ]

    async def _complete(
        self, prefix_LW: Tensor, suffixes: list[Suffix]
    ) -> list[Completion | RequestError]:
        """If the engine fails on suffixes together, each goes alone: one costs itself only."""
        try:
            return await self._engine.complete(prefix_LW, suffixes, self._spec.generation)
        except RuntimeError as error:
            if len(suffixes) == 1:
                return [_engine_error(error)]
        return [(await self._complete(prefix_LW, [suffix]))[0] for suffix in suffixes]

    @torch.inference_mode()
    def _embed(self, token_ids: list[int]) -> Tensor:
        ids = torch.tensor(token_ids, dtype=torch.long, device=self._llava.device)
        return self._llava.model.get_input_embeddings()(ids)

    def _result(
        self,
        request: Request,
        completion: Completion | RequestError,
        num_visual_tokens: int,
        num_text_tokens: int,
        seconds: float,
    ) -> Generation | RequestFailure:
        if isinstance(completion, RequestError):
            return RequestFailure.of(completion)
        return Generation(
            text=completion.text,
            token_ids=completion.token_ids,
            finish_reason=completion.finish_reason,
            mean_logprob=completion.mean_logprob,
            num_visual_tokens=num_visual_tokens,
            num_prompt_tokens=num_visual_tokens + num_text_tokens,
            model_seconds=seconds,
            choice=parse_choice(completion.text, request.options) if request.options else None,
            answered_at=datetime.now(UTC),
        )


def _seed(seed: int, request_id: str) -> int:
    """Of a request's own, so that a rerun in another order draws the same."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{request_id}".encode()).digest()[:7], "little")


def _engine_error(error: RuntimeError) -> RequestError:
    code = "out_of_memory" if isinstance(error, torch.OutOfMemoryError) else "engine_error"
    return RequestError(code, first_line(error))


def _no_reason() -> RequestFailure:
    return RequestFailure(code="no_frames", message="the video gave no frames")

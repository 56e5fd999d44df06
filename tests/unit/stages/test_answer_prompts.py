"""The model stage on the demonstration model and a real scene."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from sfray.config import GenerationSpec, parse_job_spec
from sfray.demo.world import make_scene, render
from sfray.errors import RequestError
from sfray.model.engines.interface import Completion, Engine, Suffix
from sfray.prompts.templates import Template
from sfray.records import (
    DecodedItem,
    DecodedVideo,
    Generation,
    Outcome,
    Request,
    RequestFailure,
    VideoFacts,
    WorkItem,
)
from sfray.stages.answer_prompts import AnswerPrompts
from sfray.video.sampling import sample_frame_indices

SEED = 900_000
PROMPTS = ("Describe this video.", "How many objects are there?", "What does the object do?")


@cache
def stage() -> AnswerPrompts:
    spec: dict[str, Any] = {
        "manifest": {"uri": "unused"},
        "task": "qa",
        "model": {"id": "demo"},
        "generation": {"max_new_tokens": 24},
        "output": {"uri": "unused"},
    }
    return AnswerPrompts(parse_job_spec(spec))


def decoded(failure: RequestFailure | None = None) -> DecodedItem:
    indices = sample_frame_indices(16, 8)
    pictures = [Image.fromarray(frame) for frame in render(make_scene(SEED))[indices]]
    frames = np.stack([p.resize((96, 96), Image.Resampling.BICUBIC) for p in pictures])
    video = DecodedVideo(
        frames_THWC=frames,
        frame_indices=indices,
        pts_seconds=indices / 8,
        facts=VideoFacts(),
        reader="none",
        reader_reason="a test",
    )
    item = WorkItem(
        video_id="v",
        video_uri="v.mp4",
        fetch_uri="v.mp4",
        start_seconds=None,
        end_seconds=None,
        requests=tuple(
            Request(request_id=str(n), prompt_id=str(n), prompt=text)
            for n, text in enumerate(PROMPTS)
        ),
    )
    return DecodedItem(item=item, video=None if failure else video, failure=failure)


def results(item: DecodedItem) -> list[Generation | RequestFailure]:
    outcomes: list[Outcome] = asyncio.run(stage()(item))
    assert [outcome.request.request_id for outcome in outcomes] == ["0", "1", "2"]
    return [outcome.result for outcome in outcomes]


def test_the_model_says_what_there_is() -> None:
    scene = make_scene(SEED)
    caption, count, _ = results(decoded())
    assert isinstance(caption, Generation) and isinstance(count, Generation)
    assert caption.text == scene.caption
    assert count.text == str(len(scene.objects))
    assert caption.finish_reason == "stop"
    assert caption.num_visual_tokens == 4 * 32 + 8 * 16
    assert caption.num_prompt_tokens > caption.num_visual_tokens


def test_a_video_that_failed_fails_all_its_requests() -> None:
    failure = RequestFailure(code="no_frames", message="nothing there")
    assert results(decoded(failure)) == [failure] * 3


def test_questions_before_the_image_reach_their_own_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stage(), "_template", Template("USER: {question} <image> ASSISTANT:"))
    item = decoded()
    for request, together in zip(item.item.requests, results(item), strict=True):
        work = replace(item.item, requests=(request,))
        (alone,) = asyncio.run(stage()(replace(item, item=work)))
        assert isinstance(together, Generation) and isinstance(alone.result, Generation)
        assert together.token_ids == alone.result.token_ids
        assert together.num_prompt_tokens == alone.result.num_prompt_tokens


class BrokenFor:
    """An engine that fails as soon as one prompt is among those that it is given."""

    def __init__(self, inner: Engine, token_ids: list[int]) -> None:
        self._inner = inner
        self._token_ids = token_ids

    async def complete(
        self, prefix_LW: Tensor, suffixes: list[Suffix], generation: GenerationSpec
    ) -> list[Completion | RequestError]:
        if any(suffix.token_ids == self._token_ids for suffix in suffixes):
            raise RuntimeError("a kernel failed\nand said much more")
        return await self._inner.complete(prefix_LW, suffixes, generation)


def test_a_prompt_that_breaks_the_engine_costs_itself_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = results(decoded())
    answers = stage()
    _, poison = answers._tokenizer.encode(answers._template.render(PROMPTS[1]))
    monkeypatch.setattr(answers, "_engine", BrokenFor(answers._engine, poison))
    first, second, third = results(decoded())
    assert second == RequestFailure(code="engine_error", message="a kernel failed")
    for now, before in ((first, whole[0]), (third, whole[2])):
        assert isinstance(now, Generation) and isinstance(before, Generation)
        assert now.token_ids == before.token_ids

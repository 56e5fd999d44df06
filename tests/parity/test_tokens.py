"""From frames to greedy tokens, step by step, against figures of the reference implementation.

The figures are for a small random model in float32; `tests/resources/parity` holds them. Features
agree within 2e-5 (an independent float32 implementation differs by that much, since sums are
taken in another order), while the smallest gap between the two best logits on any way is 6e-4, so
that the tokens must be equal.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sfray.config import GenerationSpec
from sfray.model.engines.interface import Suffix
from sfray.pooling import SlowFastPooling
from sfray.prompts.templates import RenderedPrompt
from sfray.records import WorkItem
from sfray.stages.decode_video import DecodeConfig, DecodeVideo
from tests.engines import ENGINES, engine, llava, tokenizer

PARITY = Path(__file__).parent.parent / "resources" / "parity"
EXPECTED = sorted((PARITY / "expected").glob("*.json"))
IMAGE = -200
FEATURE_TOLERANCE = 2e-5


@cache
def frames(video: str) -> np.ndarray:
    uri = str(PARITY / "videos" / video)
    stage = DecodeVideo(DecodeConfig(num_frames=50, image_size=336))
    item = WorkItem(
        video_id=video,
        video_uri=uri,
        fetch_uri=uri,
        start_seconds=None,
        end_seconds=None,
        requests=(),
    )
    decoded = stage(item)
    stage.close()
    assert decoded.video is not None, decoded.failure
    return decoded.video.frames_THWC


@cache
def visual_tokens(video: str) -> Tensor:
    return llava().visual_tokens(frames(video), SlowFastPooling())


@pytest.fixture(params=EXPECTED, ids=lambda path: path.stem)
def expected(request: pytest.FixtureRequest) -> dict[str, Any]:
    return json.loads(request.param.read_text())


def split_ids(case: dict[str, Any]) -> tuple[tuple[int, ...], list[int]]:
    at = case["input_ids"].index(IMAGE)
    return tuple(case["input_ids"][:at]), case["input_ids"][at + 1 :]


def test_pixels_are_equal_bit_for_bit(expected: dict[str, Any]) -> None:
    pixels = llava().pixels(frames(expected["video"])).numpy()
    assert list(pixels.shape) == expected["pixels"]["shape"]
    assert hashlib.sha256(pixels.tobytes()).hexdigest() == expected["pixels"]["sha256"]


def test_pooled_features_agree(expected: dict[str, Any]) -> None:
    figures = expected["slowfast"]
    features = visual_tokens(expected["video"])
    assert [1, *features.shape] == figures["shape"]
    for row, columns in figures["first_8_columns_of_rows"].items():
        np.testing.assert_allclose(features[int(row), :8], columns, atol=FEATURE_TOLERANCE)
    assert features.mean().item() == pytest.approx(figures["mean"], abs=FEATURE_TOLERANCE)
    assert features.std().item() == pytest.approx(figures["std"], abs=FEATURE_TOLERANCE)


def test_prompts_are_tokenised_and_spliced_alike(expected: dict[str, Any]) -> None:
    for case in expected["cases"]:
        before, after = split_ids(case)
        plain = tokenizer()
        prompt = RenderedPrompt(plain.decode(list(before)), plain.decode(after))
        assert plain.encode(prompt) == (list(before), after)
        num_visual = len(visual_tokens(expected["video"]))
        assert len(before) + num_visual + len(after) == case["prefill_len"]


@pytest.mark.parametrize("name", ENGINES)
def test_greedy_tokens_are_equal(name: str, expected: dict[str, Any]) -> None:
    by_prefix: dict[tuple[int, ...], list[dict[str, Any]]] = {}
    for case in expected["cases"]:
        by_prefix.setdefault(split_ids(case)[0], []).append(case)
    for before, cases in by_prefix.items():
        with torch.inference_mode():
            text = llava().model.get_input_embeddings()(torch.tensor(before))
        prefix = torch.cat([text, visual_tokens(expected["video"])])
        suffixes = [Suffix(token_ids=split_ids(case)[1], seed=0) for case in cases]
        completions = asyncio.run(
            engine(name).complete(prefix, suffixes, GenerationSpec(max_new_tokens=32))
        )
        for case, completion in zip(cases, completions, strict=True):
            assert list(completion.token_ids) == case["output_ids"]

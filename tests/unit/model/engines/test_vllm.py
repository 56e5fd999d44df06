"""What only vLLM's engine has: its vision side without language layers, long prompts, its death."""

from __future__ import annotations

import asyncio
import os
import signal

import psutil
import pytest
import torch

from sfray.config import GenerationSpec, parse_job_spec
from sfray.errors import CheckpointError, EngineLostError, RequestError
from sfray.model.engines.interface import Completion, Suffix
from sfray.model.engines.loading import load_engine
from sfray.model.profile import read_profile
from tests.engines import CHECKPOINT, llava

PREFIX = torch.randn(20, 128, generator=torch.Generator().manual_seed(0))
PROFILE = read_profile(CHECKPOINT)
SPEC = parse_job_spec(
    {
        "manifest": {"uri": "unused"},
        "task": "qa",
        "model": {"id": str(CHECKPOINT), "engine": "vllm", "dtype": "float32"},
        "output": {"uri": "unused"},
    }
)


def test_without_vllm_one_sentence_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sfray.model.engines.loading.find_spec", lambda _: None)
    with pytest.raises(CheckpointError, match="install sfray\\[vllm\\]"):
        load_engine(CHECKPOINT, SPEC, PROFILE)


def test_one_request_too_long_and_then_the_death_of_the_engine() -> None:
    pytest.importorskip("vllm")
    of_others = set(psutil.Process().children(recursive=True))
    vision, engine = load_engine(CHECKPOINT, SPEC, PROFILE)
    assert len(vision.model.model.language_model.layers) == 0
    frames = torch.randint(0, 255, (3, 336, 336, 3), dtype=torch.uint8).numpy()
    assert torch.equal(
        vision.visual_tokens(frames, PROFILE.pooling),
        llava().visual_tokens(frames, PROFILE.pooling),
    )
    too_long = [5] * PROFILE.max_position_embeddings
    suffixes = [Suffix(token_ids=ids, seed=0) for ids in (too_long, [5, 6])]
    long, short = asyncio.run(engine.complete(PREFIX, suffixes, GenerationSpec(max_new_tokens=2)))
    assert isinstance(long, RequestError)
    assert long.code == "engine_error"
    assert isinstance(short, Completion)

    for process in set(psutil.Process().children(recursive=True)) - of_others:
        if "EngineCore" in process.name():
            os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(EngineLostError):
        asyncio.run(engine.complete(PREFIX, suffixes[1:], GenerationSpec(max_new_tokens=2)))

"""The engines under test on the small random parity model, each loaded once a process."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

from sfray.model.engines.interface import Engine
from sfray.model.engines.transformers import TransformersEngine
from sfray.model.llava import Llava
from sfray.model.prompt_tokens import PromptTokenizer

CHECKPOINT = Path(__file__).parent / "resources" / "parity" / "checkpoint"
ENGINES = [
    "transformers",
    pytest.param(
        "vllm",
        marks=pytest.mark.skipif(find_spec("vllm") is None, reason="needs make setup-vllm"),
    ),
]


@cache
def llava() -> Llava:
    return Llava(CHECKPOINT, "float32", (24, 24))


@cache
def tokenizer() -> PromptTokenizer:
    return PromptTokenizer.from_folder(CHECKPOINT)


@cache
def engine(name: str) -> Engine:
    if name == "transformers":
        return TransformersEngine(llava(), tokenizer())
    from sfray.model.engines.vllm import VllmEngine
    from sfray.model.profile import read_profile

    profile = read_profile(CHECKPOINT)
    return VllmEngine(CHECKPOINT, llava(), tokenizer(), profile, num_gpus=1)

"""The RoPE option beyond the model's own positions, against transformers on a fresh model."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForImageTextToText

from sfray.config import GenerationSpec, RopeScaling
from sfray.model.engines.interface import Completion, Suffix
from sfray.model.engines.transformers import TransformersEngine
from sfray.model.llava import Llava
from tests.engines import CHECKPOINT, tokenizer

FACTOR = 2.0
NUM_POSITIONS = 4096
GENERATION = GenerationSpec(max_new_tokens=12)


@pytest.fixture(scope="module")
def engine() -> Iterator[TransformersEngine]:
    llava = Llava(CHECKPOINT, "float32", (24, 24))
    assert llava.model.config.text_config.max_position_embeddings == NUM_POSITIONS
    yield TransformersEngine(llava, tokenizer(), RopeScaling(type="dynamic", factor=FACTOR))


def prefix(length: int) -> Tensor:
    return torch.randn(length, 128, generator=torch.Generator().manual_seed(length))


def answers(engine: TransformersEngine, length: int, suffixes: list[list[int]]) -> list[list[int]]:
    asked = [Suffix(token_ids=ids, seed=0) for ids in suffixes]
    done = asyncio.run(engine.complete(prefix(length), asked, GENERATION))
    return [list(c.token_ids) for c in done if isinstance(c, Completion)]


@torch.inference_mode()
def fresh(length: int, suffix: list[int]) -> list[int]:
    """What transformers gives that has seen nothing before."""
    model = AutoModelForImageTextToText.from_pretrained(CHECKPOINT, dtype=torch.float32).eval()
    text = model.config.text_config
    rope = {"rope_type": "dynamic", "factor": FACTOR}
    text.rope_parameters = text.rope_parameters | rope
    rotary = type(model.model.language_model.rotary_emb)(text)
    model.model.language_model.rotary_emb = rotary
    embeddings = torch.cat([prefix(length), model.get_input_embeddings()(torch.tensor(suffix))])
    out = model.generate(
        inputs_embeds=embeddings[None],
        attention_mask=torch.ones(1, len(embeddings), dtype=torch.long),
        max_new_tokens=GENERATION.max_new_tokens,
        do_sample=False,
    )
    return out[0].tolist()


@pytest.mark.parametrize("length", [100, NUM_POSITIONS - 7, NUM_POSITIONS - 2, 6000])
def test_tokens_are_those_of_a_fresh_process(engine: TransformersEngine, length: int) -> None:
    """Within the model's positions, crossing them while decoding, on both sides, and beyond."""
    suffixes = [[5, 6, 7], [9], [11, 12, 13, 14, 15, 16], [7, 8, 9]]
    assert answers(engine, length, suffixes) == [fresh(length, ids) for ids in suffixes]


def test_a_long_prompt_stretches_no_other(engine: TransformersEngine) -> None:
    before = answers(engine, 100, [[5, 6, 7]])
    stretched = answers(engine, 8000, [[5, 6, 7]])
    assert answers(engine, 100, [[5, 6, 7]]) == before
    plain = TransformersEngine(Llava(CHECKPOINT, "float32", (24, 24)), tokenizer())
    assert answers(plain, 100, [[5, 6, 7]]) == before
    assert answers(plain, 8000, [[5, 6, 7]]) != stretched

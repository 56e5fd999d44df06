"""Both engines against transformers' own `generate`, on the small random parity model."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import torch
from torch import Tensor

from sfray.config import GenerationSpec
from sfray.model.engines.interface import Completion, Engine, Suffix
from sfray.model.engines.shared_prefix import OwnCache
from sfray.model.engines.transformers import TransformersEngine
from sfray.model.memory import InFlight
from tests.engines import ENGINES, llava, tokenizer
from tests.engines import engine as loaded_engine

SUFFIXES = [[5, 6, 7], [9], [11, 12, 13, 14, 15, 16], [300, 301], [9]]


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    return loaded_engine(request.param)


def prefix(seed: int = 0) -> Tensor:
    return torch.randn(20, 128, generator=torch.Generator().manual_seed(seed))


def complete(
    engine: Engine, suffixes: list[list[int]], generation: GenerationSpec, seed: int = 0
) -> list[Completion]:
    asked = [Suffix(token_ids=ids, seed=seed + n) for n, ids in enumerate(suffixes)]
    results = asyncio.run(engine.complete(prefix(), asked, generation))
    assert all(isinstance(result, Completion) for result in results)
    return results  # type: ignore[return-value]


@torch.inference_mode()
def one_at_a_time(suffix: list[int], max_new_tokens: int) -> list[int]:
    model = llava().model
    embeddings = torch.cat([prefix(), model.get_input_embeddings()(torch.tensor(suffix))])[None]
    mask = torch.ones(embeddings.shape[:2], dtype=torch.long)
    out = model.generate(
        inputs_embeds=embeddings,
        attention_mask=mask,
        max_new_tokens=max_new_tokens,
        do_sample=False,
    )
    return out[0].tolist()


def test_greedy_tokens_are_those_of_one_at_a_time(engine: Engine) -> None:
    generation = GenerationSpec(max_new_tokens=12)
    for suffix, completion in zip(SUFFIXES, complete(engine, SUFFIXES, generation), strict=True):
        assert list(completion.token_ids) == one_at_a_time(suffix, 12)


def test_the_finish_reason_and_the_logprob_are_real(engine: Engine) -> None:
    (completion,) = complete(engine, [[5, 6, 7]], GenerationSpec(max_new_tokens=3))
    assert (len(completion.token_ids), completion.finish_reason) == (3, "length")
    model = llava().model
    ids = [5, 6, 7, *completion.token_ids]
    with torch.inference_mode():
        text = model.get_input_embeddings()(torch.tensor(ids))
        states = model.model.language_model(
            inputs_embeds=torch.cat([prefix(), text])[None]
        ).last_hidden_state
        logprobs = model.lm_head(states[0]).log_softmax(-1)
    told = [logprobs[20 + 3 - 1 + n, token].item() for n, token in enumerate(completion.token_ids)]
    assert completion.mean_logprob == pytest.approx(sum(told) / 3, abs=1e-4)


def test_a_stop_text_ends_an_answer_and_is_cut_off(engine: Engine) -> None:
    (free,) = complete(engine, [[5, 6, 7]], GenerationSpec(max_new_tokens=12))
    stop = free.text[3:5]
    (stopped,) = complete(engine, [[5, 6, 7]], GenerationSpec(max_new_tokens=12, stop=(stop,)))
    assert stopped.finish_reason == "stop"
    assert stopped.text == free.text.split(stop)[0].strip()
    assert len(stopped.token_ids) < 12


def test_sampling_depends_on_the_seed_of_the_request_alone(engine: Engine) -> None:
    generation = GenerationSpec(max_new_tokens=8, temperature=1.5, top_p=0.95)
    first = complete(engine, SUFFIXES, generation, seed=1)
    again = complete(engine, SUFFIXES, generation, seed=1)
    other = complete(engine, SUFFIXES, generation, seed=99)
    alone = complete(engine, SUFFIXES[:1], generation, seed=1)
    assert [c.token_ids for c in first] == [c.token_ids for c in again]
    assert [c.token_ids for c in first] != [c.token_ids for c in other]
    assert alone[0].token_ids == first[0].token_ids
    assert first[1].token_ids != first[4].token_ids, "the same suffix under another seed"


def test_a_tiny_nucleus_is_greedy(engine: Engine) -> None:
    greedy = complete(engine, SUFFIXES, GenerationSpec(max_new_tokens=6))
    nucleus = complete(
        engine, SUFFIXES, GenerationSpec(max_new_tokens=6, temperature=1.0, top_p=1e-6)
    )
    assert [c.token_ids for c in greedy] == [c.token_ids for c in nucleus]


def test_calls_may_overlap(engine: Engine) -> None:
    async def both() -> list[list[Completion]]:
        generation = GenerationSpec(max_new_tokens=4)
        suffixes = [Suffix(token_ids=ids, seed=0) for ids in SUFFIXES]
        calls = (engine.complete(prefix(seed), suffixes, generation) for seed in (0, 1))
        return await asyncio.gather(*calls)  # type: ignore[arg-type]

    first, second = asyncio.run(both())
    assert [c.token_ids for c in first] != [c.token_ids for c in second]
    alone = complete(engine, SUFFIXES, GenerationSpec(max_new_tokens=4))
    assert [c.token_ids for c in first] == [c.token_ids for c in alone]


def test_rows_that_end_at_once_leave_their_slots_to_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    light = TransformersEngine(llava(), tokenizer(), in_flight=InFlight(4, 1))
    num_slots: list[int] = []
    grow = OwnCache._grow

    def watched(own: OwnCache, number: int, *rest: Any) -> None:
        num_slots.append(number)
        grow(own, number, *rest)

    monkeypatch.setattr(OwnCache, "_grow", watched)
    complete(light, SUFFIXES * 4, GenerationSpec(max_new_tokens=1))
    assert max(num_slots) == 4


def test_a_failure_under_way_reaches_its_callers_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    light = loaded_engine("transformers")
    generation = GenerationSpec(max_new_tokens=4)
    before = complete(light, SUFFIXES, generation)

    def fail() -> None:
        raise RuntimeError("out of something")

    with monkeypatch.context() as patched:
        patched.setattr(light, "_decode_step", fail)
        with pytest.raises(RuntimeError, match="out of something"):
            complete(light, SUFFIXES, generation)
    assert complete(light, SUFFIXES, generation) == before

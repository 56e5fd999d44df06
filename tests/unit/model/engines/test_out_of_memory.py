"""A GPU that is too small for what is under way, by an allocator that fails."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from sfray.config import GenerationSpec
from sfray.errors import RequestError
from sfray.model.engines.interface import Completion, Suffix
from sfray.model.engines.shared_prefix import SharedPass
from sfray.model.engines.transformers import TransformersEngine
from sfray.model.memory import InFlight
from sfray.pooling import SlowFastPooling
from tests.engines import llava, tokenizer

GENERATION = GenerationSpec(max_new_tokens=6)
SUFFIXES = [[5, 6, 7], [9], [11, 12, 13, 14, 15, 16], [300, 301], [9], [40, 41], [7]]


def prefix(seed: int) -> Tensor:
    return torch.randn(20, 128, generator=torch.Generator().manual_seed(seed))


def answers(engine: TransformersEngine) -> list[list[tuple[int, ...] | RequestError]]:
    """Token ids: mean log-probabilities differ in the last digits with the size of a batch."""

    async def of_all() -> list[list[Completion | RequestError]]:
        suffixes = [Suffix(token_ids=ids, seed=n) for n, ids in enumerate(SUFFIXES)]
        calls = (engine.complete(prefix(video), suffixes, GENERATION) for video in range(3))
        return await asyncio.gather(*calls)

    return [
        [r.token_ids if isinstance(r, Completion) else r for r in video]
        for video in asyncio.run(of_all())
    ]


def failing(
    engine: TransformersEngine, fails: Callable[[Tensor, SharedPass], bool]
) -> TransformersEngine:
    forward = engine._forward

    def allocate(ids_RS: Tensor, shared: SharedPass) -> Tensor:
        if fails(ids_RS, shared):
            raise torch.OutOfMemoryError("out of memory\nand much more")
        return forward(ids_RS, shared)

    engine._forward = allocate  # type: ignore[method-assign]
    return engine


@pytest.mark.parametrize(
    "most", [InFlight(3, 1), InFlight(1, 1), InFlight(5, 2), InFlight(64, 8)], ids=str
)
def test_however_few_are_under_way_the_texts_are_the_same(most: InFlight) -> None:
    engine = TransformersEngine(llava(), tokenizer(), in_flight=most)
    assert answers(engine) == answers(TransformersEngine(llava(), tokenizer()))


def test_half_as_many_go_on_and_all_texts_are_as_before(caplog: pytest.LogCaptureFixture) -> None:
    expected = answers(TransformersEngine(llava(), tokenizer()))
    seen: list[int] = []

    def fails(ids_RS: Tensor, _: SharedPass) -> bool:
        seen.append(len(ids_RS))
        return len(ids_RS) > 4

    engine = failing(TransformersEngine(llava(), tokenizer()), fails)
    assert answers(engine) == expected
    assert max(seen) > 4, "there was something to fail"
    assert "memory did not suffice" in caplog.text
    seen.clear()
    assert answers(engine) == expected
    assert max(seen) <= 4, "it stays at what fits"


def test_what_is_begun_again_finds_the_memory_of_what_was_dropped() -> None:
    """Prefixes are what takes the memory: there is room for one."""
    expected = answers(TransformersEngine(llava(), tokenizer()))
    prefixes = weakref.WeakValueDictionary[int, Tensor]()
    failed: list[bool] = []

    def fails(_: Tensor, shared: SharedPass) -> bool:
        prefixes.update({id(layers[0][0]): layers[0][0] for layers, _ in shared.prefixes})
        failed.append(len(prefixes) > 1)
        return failed[-1]

    assert answers(failing(TransformersEngine(llava(), tokenizer()), fails)) == expected
    assert sum(failed) == 1


def test_a_request_that_fails_alone_costs_itself_only() -> None:
    expected = answers(TransformersEngine(llava(), tokenizer()))
    engine = failing(TransformersEngine(llava(), tokenizer()), lambda ids_RS, _: 300 in ids_RS)
    for got, before in zip(answers(engine), expected, strict=True):
        failed = got.pop(3)
        assert isinstance(failed, RequestError) and failed.code == "out_of_memory"
        assert str(failed) == "out of memory"
        del before[3]
        assert got == before


def test_the_tower_takes_fewer_frames_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    vision = llava()
    frames_THWC = np.random.default_rng(0).integers(0, 256, (7, 336, 336, 3), np.uint8)
    pooling = SlowFastPooling(num_slow_frames=2)
    expected = vision.visual_tokens(frames_THWC, pooling)
    features = vision._features

    def allocate(frames_THWC: np.ndarray) -> Tensor:
        if len(frames_THWC) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return features(frames_THWC)

    monkeypatch.setattr(vision, "_features", allocate)
    monkeypatch.setattr(vision, "_frames_per_batch", 16)
    torch.testing.assert_close(vision.visual_tokens(frames_THWC, pooling), expected)
    monkeypatch.setattr(vision, "_features", lambda frames_THWC: allocate(np.zeros((3, 1))))
    with pytest.raises(torch.OutOfMemoryError):
        vision.visual_tokens(frames_THWC, pooling)

"""Attention in two parts against plain attention over the whole sequence."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModel,
    DynamicCache,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    Qwen2Config,
)

from sfray.model.engines.shared_prefix import NAME, Layers, OwnCache, SharedPass

SIZES = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
CONFIGS = [
    LlamaConfig(**SIZES, num_key_value_heads=4),
    LlamaConfig(**SIZES, num_key_value_heads=2),
    MistralConfig(**SIZES, num_key_value_heads=1, sliding_window=None),
    Qwen2Config(**SIZES, num_key_value_heads=2),
]
SUFFIXES = [[[3, 4, 5, 6], [7], [8, 9]], [[3, 4, 5, 6, 7, 8]]]


def language_model(config: PreTrainedConfig) -> torch.nn.Module:
    torch.manual_seed(0)
    return AutoModel.from_config(config, attn_implementation=NAME).eval()


def prefix(model: torch.nn.Module, length: int, seed: int) -> tuple[Tensor, Layers]:
    embeddings = torch.randn(1, length, 32, generator=torch.Generator().manual_seed(seed))
    cache = DynamicCache()
    model(inputs_embeds=embeddings, past_key_values=cache)
    return embeddings, [(layer.keys[0], layer.values[0]) for layer in cache.layers]


def plain_states(model: torch.nn.Module, embeddings: Tensor, ids: list[int]) -> Tensor:
    """(S, W), the states of the ids behind the prefix, each sequence alone."""
    text = model.get_input_embeddings()(torch.tensor([ids]))
    states = model(inputs_embeds=torch.cat([embeddings, text], dim=1)).last_hidden_state
    return states[0, embeddings.shape[1] :]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.model_type}-{c.num_key_value_heads}")
@torch.inference_mode()
def test_suffixes_of_several_videos_see_what_they_would_see_alone(
    config: PreTrainedConfig,
) -> None:
    model = language_model(config)
    own = OwnCache()
    prefixes, slots, expected, suffixes = [], [], [], []
    for number, of_video in enumerate(SUFFIXES):
        embeddings, layers = prefix(model, length=11 + 5 * number, seed=number)
        prefixes.append((layers, len(of_video)))
        slots += own.take(len(of_video), 8, layers)
        suffixes += of_video
        expected += [plain_states(model, embeddings, ids) for ids in of_video]
    positions = [range(len(ids)) for ids in suffixes]
    shared = SharedPass(prefixes, own, slots, positions, max_scores=64)  # several products each
    states = model(
        input_ids=torch.tensor([ids + [0] * (6 - len(ids)) for ids in suffixes]),
        position_ids=shared.position_ids,
        use_cache=False,
        shared=shared,
    ).last_hidden_state
    for row, alone in zip(states, expected, strict=True):
        torch.testing.assert_close(row[: len(alone)], alone, atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_rows_go_on_alone_after_others_have_ended_and_while_others_begin() -> None:
    model = language_model(CONFIGS[1])
    embeddings, layers = prefix(model, length=7, seed=3)
    own = OwnCache()
    a, b, c = own.take(3, 4, layers)

    def step(slots: list[int], position: int, ids: list[int]) -> Tensor:
        rows = [range(position, position + 1)] * len(slots)
        shared = SharedPass([(layers, len(slots))], own, slots, rows)
        return model(
            input_ids=torch.tensor(ids)[:, None],
            position_ids=shared.position_ids,
            use_cache=False,
            shared=shared,
        ).last_hidden_state[:, 0]

    step([a, b, c], 0, [3, 4, 5])
    own.give_back(b)
    step([a, c], 1, [6, 7])
    d, e = own.take(2, 9, layers)
    assert d == b and own.num_slots == 4, "an ended row's place is taken again"
    first = step([d, e], 0, [10, 11])
    (last,) = step([c], 2, [8])
    for states, ids in ((last, [5, 7, 8]), (first[0], [10]), (first[1], [11])):
        alone = plain_states(model, embeddings, ids)[-1]
        torch.testing.assert_close(states, alone, atol=1e-5, rtol=1e-5)


def test_a_video_is_kept_once_however_many_questions_it_has() -> None:
    keys = torch.zeros(4, 1000, 8)
    own = OwnCache()
    own.take(26, 20, [(keys, keys)])
    assert sum(t.numel() for layer in own.layers for t in layer) == 2 * 26 * 4 * 21 * 8

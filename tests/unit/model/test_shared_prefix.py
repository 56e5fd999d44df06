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

from sfray.model.shared_prefix import NAME, GroupStep, PrefixGroup

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


def prefix(model: torch.nn.Module, length: int, seed: int) -> tuple[Tensor, DynamicCache]:
    embeddings = torch.randn(1, length, 32, generator=torch.Generator().manual_seed(seed))
    cache = DynamicCache()
    model(inputs_embeds=embeddings, past_key_values=cache)
    return embeddings, cache


def plain_states(model: torch.nn.Module, embeddings: Tensor, ids: list[int]) -> Tensor:
    """(S, W), the states of the ids behind the prefix, each sequence alone."""
    text = model.get_input_embeddings()(torch.tensor([ids]))
    states = model(inputs_embeds=torch.cat([embeddings, text], dim=1)).last_hidden_state
    return states[0, embeddings.shape[1] :]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.model_type}-{c.num_key_value_heads}")
@torch.inference_mode()
def test_suffixes_of_several_videos_see_what_they_would_see_alone(
    config: PreTrainedConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sfray.model.shared_prefix.MAX_SCORES", 64)  # several products each
    model = language_model(config)
    steps, expected, padded = [], [], []
    for number, suffixes in enumerate(SUFFIXES):
        embeddings, cache = prefix(model, length=11 + 5 * number, seed=number)
        group = PrefixGroup(
            prefix=[(layer.keys[0], layer.values[0]) for layer in cache.layers],
            num_rows=len(suffixes),
            capacity=8,
        )
        positions = [[*range(len(ids)), *[8] * (6 - len(ids))] for ids in suffixes]
        rows, lengths = torch.arange(len(suffixes)), [len(ids) for ids in suffixes]
        steps.append(GroupStep(group, rows, torch.tensor(positions), lengths))
        padded += [ids + [0] * (6 - len(ids)) for ids in suffixes]
        expected += [plain_states(model, embeddings, ids) for ids in suffixes]
    states = model(
        input_ids=torch.tensor(padded),
        position_ids=torch.cat([s.group.prefix_length + s.positions_BS for s in steps]),
        use_cache=False,
        group_steps=steps,
    ).last_hidden_state
    for row, alone in zip(states, expected, strict=True):
        torch.testing.assert_close(row[: len(alone)], alone, atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_rows_go_on_alone_after_others_have_ended() -> None:
    model = language_model(CONFIGS[1])
    embeddings, cache = prefix(model, length=7, seed=3)
    group = PrefixGroup(
        prefix=[(layer.keys[0], layer.values[0]) for layer in cache.layers],
        num_rows=3,
        capacity=4,
    )

    def step(rows: list[int], position: int, ids: list[int]) -> Tensor:
        positions = torch.full((len(rows), 1), position)
        return model(
            input_ids=torch.tensor(ids)[:, None],
            position_ids=7 + positions,
            use_cache=False,
            group_steps=[
                GroupStep(group, torch.tensor(rows), positions, [position + 1] * len(rows))
            ],
        ).last_hidden_state[:, 0]

    step([0, 1, 2], 0, [3, 4, 5])
    step([0, 2], 1, [6, 7])
    (last,) = step([2], 2, [8])
    alone = plain_states(model, embeddings, [5, 7, 8])[-1]
    torch.testing.assert_close(last, alone, atol=1e-5, rtol=1e-5)


def test_a_video_is_kept_once_however_many_questions_it_has() -> None:
    keys = torch.zeros(4, 1000, 8)
    group = PrefixGroup(prefix=[(keys, keys)], num_rows=26, capacity=20)
    own = sum(t.numel() for layer in group.own for t in layer)
    assert group.prefix[0][0] is keys
    assert own == 2 * 26 * 4 * 21 * 8

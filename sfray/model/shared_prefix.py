"""Attention in two parts: all suffixes of a video share one copy of its prefix.

Each suffix attends to the prefix (one matrix product for all suffixes of a video) and to its own
positions, and the two parts are merged by their log-sum-exp, which gives exactly what attention
over both at once gives. Against a copy of the cache for each suffix this takes a 26th of the memory
for 26 questions. Registered with transformers as an attention function, so that its model code runs
unchanged. Rows of several videos go through projections and MLP together.
Shape legend: R rows of all videos, B rows of one video, S positions, P prefix positions, C own
positions, H heads, K key/value heads, G = H / K, E width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from sfray.model.memory import MAX_SCORES

NAME = "sfray_shared_prefix"


@dataclass(slots=True)
class PrefixGroup:
    """The suffixes of one video: the prefix's keys and values once, and their own beside it.

    `prefix` and `own` hold (keys, values) by layer: (K, P, E), and (B, K, C + 1, E) where the last
    position takes what padding writes and is never seen.
    """

    prefix: list[tuple[Tensor, Tensor]]
    num_rows: int
    capacity: int
    own: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for keys_KPE, _ in self.prefix:
            num_heads, _, width = keys_KPE.shape
            shape = (self.num_rows, num_heads, self.capacity + 1, width)
            self.own.append((keys_KPE.new_zeros(shape), keys_KPE.new_zeros(shape)))

    @property
    def prefix_length(self) -> int:
        return self.prefix[0][0].shape[1]


@dataclass(frozen=True, slots=True)
class GroupStep:
    """What one forward pass does for the rows of a group.

    Attributes:
        rows: int64 (B,), which rows of the group take part, in the order of the batch.
        positions: int64 (B, S), where in the rows' own part each input stands; `capacity` for
            padding.
        own_lengths: how many own positions each row has after this pass. The positions say so too,
            but the host would wait for the GPU to tell.
    """

    group: PrefixGroup
    rows_B: Tensor
    positions_BS: Tensor
    own_lengths: list[int]

    @property
    def lengths(self) -> list[int]:
        """The same with the prefix."""
        return [self.group.prefix_length + length for length in self.own_lengths]


def shared_prefix_attention(
    module: Any,
    query_RHSE: Tensor,
    key_RKSE: Tensor,
    value_RKSE: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    group_steps: Sequence[GroupStep] | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface; without `group_steps` it is plain causal attention."""
    if group_steps is None:
        out, _ = sdpa_attention_forward(
            module, query_RHSE, key_RKSE, value_RKSE, attention_mask, scaling=scaling, **kwargs
        )
        return out, None
    scale = scaling if scaling is not None else query_RHSE.shape[-1] ** -0.5
    outputs, first = [], 0
    for step in group_steps:
        rows = slice(first, first + len(step.rows_B))
        first = rows.stop
        outputs.append(
            _attend(
                step, module.layer_idx, query_RHSE[rows], key_RKSE[rows], value_RKSE[rows], scale
            )
        )
    return torch.cat(outputs).transpose(1, 2), None


def _attend(
    step: GroupStep,
    layer: int,
    query_BHSE: Tensor,
    key_BKSE: Tensor,
    value_BKSE: Tensor,
    scale: float,
) -> Tensor:
    """(B, H, S, E): attention of one video's rows to the prefix and to themselves."""
    own_keys, own_values = step.group.own[layer]
    rows_B1, positions_BS = step.rows_B[:, None], step.positions_BS
    # Advanced indices on both sides of a slice put the indexed axes first: (B, S, K, E).
    own_keys[rows_B1, :, positions_BS] = key_BKSE.transpose(1, 2)
    own_values[rows_B1, :, positions_BS] = value_BKSE.transpose(1, 2)
    num_rows, num_heads, num_steps, width = query_BHSE.shape
    num_kv_heads = key_BKSE.shape[1]
    query_BKGSE = query_BHSE.unflatten(1, (num_kv_heads, num_heads // num_kv_heads))
    # Of the own part only what has been written: up to the furthest position of any row.
    length = max(step.own_lengths)
    keys_BKCE = own_keys[step.rows_B, :, :length]
    values_BKCE = own_values[step.rows_B, :, :length]
    seen_BSC = torch.arange(length, device=positions_BS.device) <= positions_BS[..., None]
    own = _part(
        query_BKGSE, keys_BKCE[:, :, None], values_BKCE[:, :, None], scale, seen_BSC[:, None, None]
    )
    # One long row of queries for each key/value head, all against the one prefix.
    query_KQE = query_BKGSE.permute(1, 0, 2, 3, 4).reshape(num_kv_heads, -1, width)
    prefix_keys, prefix_values = step.group.prefix[layer]
    chunk = max(1, MAX_SCORES // (num_kv_heads * prefix_keys.shape[1]))
    parts = [
        _part(queries, prefix_keys, prefix_values, scale) for queries in query_KQE.split(chunk, 1)
    ]
    shape = (num_kv_heads, num_rows, num_heads // num_kv_heads, num_steps, -1)
    prefix = tuple(
        torch.cat(tensors, 1).reshape(shape).permute(1, 0, 2, 3, 4)
        for tensors in zip(*parts, strict=True)
    )
    return _merged(own, (prefix[0], prefix[1])).flatten(1, 2)


def _part(
    query: Tensor, keys: Tensor, values: Tensor, scale: float, seen: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Attention to some positions, and the log-sum-exp of its scores (float32, last axis 1)."""
    # In place: the scores are the largest tensors of a step.
    scores = (query @ keys.transpose(-1, -2)).float().mul_(scale)
    if seen is not None:
        scores.masked_fill_(~seen, float("-inf"))
    total = scores.logsumexp(-1, keepdim=True)
    return scores.sub_(total).exp_().to(values.dtype) @ values, total


def _merged(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> Tensor:
    """The attention over the positions of both parts."""
    total = torch.logaddexp(one[1], other[1])
    weights = [(part[1] - total).exp() for part in (one, other)]
    return (one[0] * weights[0] + other[0] * weights[1]).to(one[0].dtype)


AttentionInterface.register(NAME, shared_prefix_attention)

"""Attention in two parts: all suffixes of a video share one copy of its prefix.

Each suffix attends to the prefix (one matrix product for all suffixes of a video) and to its own
positions, and the two parts are merged by their log-sum-exp, which gives exactly what attention
over both at once gives. Against a copy of the cache for each suffix this takes a 26th of the memory
for 26 questions. Registered with transformers as an attention function, so that its model code runs
unchanged. Rows of several videos go through all but the prefixes together: on a GPU a step takes as
long as the host takes to start its kernels.
Shape legend: R rows of all videos, B rows of one video, S positions, P prefix positions, C own
positions, H heads, K key/value heads, G = H / K, E width of a head, Q = B * G * S queries.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from sfray.model.memory import MAX_SCORES

NAME = "sfray_shared_prefix"
# Keys and values by layer: of a prefix (K, P, E) each.
Layers = list[tuple[Tensor, Tensor]]


class OwnCache:
    """Keys and values of the suffixes' own positions, with a slot for each row of any video.

    `layers` hold (slots, K, C + 1, E) each: the last position takes what padding writes.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.layers: Layers = []
        self.num_slots = 0
        self.capacity = 0
        self._free: list[int] = []

    def take(self, num_rows: int, capacity: int, prefix: Layers) -> list[int]:
        """Slots for rows behind a prefix with room for so many positions each.

        Raises:
            RuntimeError: there is no memory for them, and what was there is of no use any more.
        """
        num_new = max(0, num_rows - len(self._free))
        if num_new or capacity > self.capacity:
            self._grow(self.num_slots + num_new, max(capacity, self.capacity), prefix)
        taken, self._free = self._free[:num_rows], self._free[num_rows:]
        return taken

    def give_back(self, slot: int) -> None:
        self._free.append(slot)

    def _grow(self, num_slots: int, capacity: int, prefix: Layers) -> None:
        """One layer after the other, so that little is there twice."""
        for layer, (keys_KPE, _) in enumerate(prefix):
            num_heads, _, width = keys_KPE.shape
            shape = (num_slots, num_heads, capacity + 1, width)
            keys, values = keys_KPE.new_zeros(shape), keys_KPE.new_zeros(shape)
            if not self.num_slots:
                self.layers.append((keys, values))
                continue
            for new, old in zip((keys, values), self.layers[layer], strict=True):
                new[: self.num_slots, :, : self.capacity] = old[:, :, : self.capacity]
            self.layers[layer] = (keys, values)
        self._free += range(self.num_slots, num_slots)
        self.num_slots, self.capacity = num_slots, capacity


class SharedPass:
    """What one forward pass does: rows of some videos, those of a video together.

    Args:
        prefixes: of each video, and how many rows of the batch are behind it.
        slots: of each row in the cache of own positions.
        positions: of each row, where its inputs stand behind the prefix; fewer are padded.
        max_scores: of one matrix product with a prefix, where the scores are kept.
    """

    def __init__(
        self,
        prefixes: list[tuple[Layers, int]],
        own: OwnCache,
        slots: list[int],
        positions: list[range],
        max_scores: int = MAX_SCORES,
    ) -> None:
        self.prefixes = prefixes
        self.own = own
        self.max_scores = max_scores
        longest = max(map(len, positions))
        padded = [[*row, *[own.capacity] * (longest - len(row))] for row in positions]
        device = own.layers[0][0].device
        self.slots_R = torch.tensor(slots, device=device)
        self.positions_RS = torch.tensor(padded, device=device)
        # Of the own part only what has been written: up to the furthest position of any row.
        self.own_length = max(row.stop for row in positions)
        steps_C = torch.arange(self.own_length, device=device)
        self.hidden_RSC = steps_C > self.positions_RS[..., None]
        starts = [prefix[0][0].shape[1] for prefix, num_rows in prefixes for _ in range(num_rows)]
        self._starts_R = torch.tensor(starts, device=device)
        self.lengths = [start + row.stop for start, row in zip(starts, positions, strict=True)]

    @property
    def position_ids(self) -> Tensor:
        """int64 (R, S), counted from the start of the prefix."""
        return self._starts_R[:, None] + self.positions_RS


def shared_prefix_attention(
    module: Any,
    query_RHSE: Tensor,
    key_RKSE: Tensor,
    value_RKSE: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    shared: SharedPass | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface; without `shared` it is plain causal attention."""
    if shared is None:
        out, _ = sdpa_attention_forward(
            module, query_RHSE, key_RKSE, value_RKSE, attention_mask, scaling=scaling, **kwargs
        )
        return out, None
    scale = scaling if scaling is not None else query_RHSE.shape[-1] ** -0.5
    num_heads, num_kv_heads = query_RHSE.shape[1], key_RKSE.shape[1]
    query_RKGSE = query_RHSE.unflatten(1, (num_kv_heads, num_heads // num_kv_heads))
    layer = module.layer_idx
    own = _own_part(shared, layer, query_RKGSE, key_RKSE, value_RKSE, scale)
    prefix = _prefix_part(shared, layer, query_RKGSE, scale)
    return _merged(own, prefix).flatten(1, 2).transpose(1, 2), None


def _own_part(
    shared: SharedPass,
    layer: int,
    query_RKGSE: Tensor,
    key_RKSE: Tensor,
    value_RKSE: Tensor,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """Attention of all rows to themselves, after writing their new keys and values."""
    own_keys, own_values = shared.own.layers[layer]
    slots_R, slots_R1, positions_RS = shared.slots_R, shared.slots_R[:, None], shared.positions_RS
    # Advanced indices on both sides of a slice put the indexed axes first: (R, S, K, E).
    own_keys[slots_R1, :, positions_RS] = key_RKSE.transpose(1, 2)
    own_values[slots_R1, :, positions_RS] = value_RKSE.transpose(1, 2)
    keys_RKCE = own_keys[slots_R, :, : shared.own_length]
    values_RKCE = own_values[slots_R, :, : shared.own_length]
    hidden = shared.hidden_RSC[:, None, None]
    return _part(query_RKGSE, keys_RKCE[:, :, None], values_RKCE[:, :, None], scale, hidden)


def _prefix_part(
    shared: SharedPass, layer: int, query_RKGSE: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """Attention of each video's rows to its prefix."""
    _, num_kv_heads, num_groups, num_steps, width = query_RKGSE.shape
    in_chunks = partial(_part_in_chunks, max_scores=shared.max_scores)
    part = _flash_part if _has_flash_attention(query_RKGSE) else in_chunks
    outputs: list[tuple[Tensor, Tensor]] = []
    counts = [num_rows for _, num_rows in shared.prefixes]
    for (prefix, _), query_BKGSE in zip(shared.prefixes, query_RKGSE.split(counts), strict=True):
        # One long row of queries for each key/value head, all against the one prefix.
        query_KQE = query_BKGSE.transpose(0, 1).reshape(num_kv_heads, -1, width)
        shape = (num_kv_heads, len(query_BKGSE), num_groups, num_steps, -1)
        out, total = part(query_KQE, *prefix[layer], scale)
        outputs.append((out.reshape(shape), total.reshape(shape)))
    outs, totals = zip(*outputs, strict=True)
    return torch.cat(outs, 1).transpose(0, 1), torch.cat(totals, 1).transpose(0, 1)


def _flash_part(
    query_KQE: Tensor, keys_KPE: Tensor, values_KPE: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """As `_part`, by the one kernel that SDPA runs on, which gives the log-sum-exp too."""
    out, total, *_ = torch.ops.aten._scaled_dot_product_flash_attention(
        query_KQE[None], keys_KPE[None], values_KPE[None], scale=scale
    )
    return out[0], total[0, ..., None]


def _part_in_chunks(
    query_KQE: Tensor, keys_KPE: Tensor, values_KPE: Tensor, scale: float, *, max_scores: int
) -> tuple[Tensor, Tensor]:
    chunk = max(1, max_scores // keys_KPE.shape[:2].numel())
    parts = [_part(part, keys_KPE, values_KPE, scale) for part in query_KQE.split(chunk, 1)]
    outs, totals = zip(*parts, strict=True)
    return torch.cat(outs, 1), torch.cat(totals, 1)


def _has_flash_attention(query: Tensor) -> bool:
    """Half precision on GPUs since Ampere, heads of a width that its kernels take."""
    return (
        query.is_cuda
        and query.dtype in (torch.bfloat16, torch.float16)
        and query.shape[-1] % 8 == 0
        and query.shape[-1] <= 256
        and torch.cuda.get_device_capability(query.device) >= (8, 0)
    )


def _part(
    query: Tensor, keys: Tensor, values: Tensor, scale: float, hidden: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Attention to some positions, and the log-sum-exp of its scores (float32, last axis 1)."""
    # In place: the scores are the largest tensors of a step.
    scores = (query @ keys.transpose(-1, -2)).float().mul_(scale)
    if hidden is not None:
        scores.masked_fill_(hidden, float("-inf"))
    total = scores.logsumexp(-1, keepdim=True)
    return scores.sub_(total).exp_().to(values.dtype) @ values, total


def _merged(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> Tensor:
    """The attention over the positions of both parts."""
    total = torch.logaddexp(one[1], other[1])
    weights = [(part[1] - total).exp() for part in (one, other)]
    return (one[0] * weights[0] + other[0] * weights[1]).to(one[0].dtype)


AttentionInterface.register(NAME, shared_prefix_attention)

"""RoPE that stretches with the length of a text beyond the model's own positions (dynamic NTK).

The frequencies of a forward pass depend on how long a row's text is by then: those of the prefill
on all of the prompt, those of a decode step on the prompt and what has been generated. What is in
the KV cache stays as it was written. So a fresh process gives the same, and a long prompt of before
doesn't stretch the short one after it. (transformers' own module keeps one length for all rows.)
Shape legend: R rows, S positions, E width of a head.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class DynamicRope(nn.Module):
    """Stands in for a language model's `rotary_emb`; `lengths_R` is set before each pass.

    Args:
        config: the language model's, with `rope_parameters` and `max_position_embeddings`.
        factor: how much further than the model's own positions the stretching reaches.
    """

    lengths_R: Tensor

    def __init__(self, config: Any, factor: float) -> None:
        super().__init__()
        self._base = float(config.rope_parameters["rope_theta"])
        self._width = getattr(config, "head_dim", None) or (
            config.hidden_size // config.num_attention_heads
        )
        self.max_positions = int(config.max_position_embeddings)
        self._factor = factor

    @torch.no_grad()
    def forward(self, states: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines (R, S, E) for int64 positions (R, S), in the dtype of `states`."""
        angles_RSE = position_ids[..., None].float() * self._frequencies()[:, None].repeat(1, 1, 2)
        return angles_RSE.cos().to(states.dtype), angles_RSE.sin().to(states.dtype)

    def _frequencies(self) -> Tensor:
        """float32 (R, E / 2)."""
        lengths_R = self.lengths_R.clamp(min=self.max_positions).float()
        stretch_R = self._factor * lengths_R / self.max_positions - (self._factor - 1)
        base_R = self._base * stretch_R ** (self._width / (self._width - 2))
        exponents = torch.arange(0, self._width, 2, device=lengths_R.device).float() / self._width
        return 1.0 / base_R[:, None] ** exponents

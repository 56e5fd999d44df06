"""vLLM's language models, loading their weights out of a LLaVA checkpoint without a copy of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import Tensor
from vllm.model_executor.models.llama import LlamaForCausalLM
from vllm.model_executor.models.mistral import MistralForCausalLM
from vllm.model_executor.models.qwen2 import Qwen2ForCausalLM

# Checkpoints name their weights in the way of the release that wrote them.
_PREFIXES = {
    "language_model.model.": "model.",
    "language_model.lm_head.": "lm_head.",
    "model.language_model.": "model.",
    "lm_head.": "lm_head.",
}
Weights = Iterable[tuple[str, Tensor]]


class LlamaInsideLlava(LlamaForCausalLM):
    def load_weights(self, weights: Weights) -> set[str]:
        return super().load_weights(_language_weights(weights))


class MistralInsideLlava(MistralForCausalLM):
    def load_weights(self, weights: Weights) -> set[str]:
        return super().load_weights(_language_weights(weights))


class Qwen2InsideLlava(Qwen2ForCausalLM):
    def load_weights(self, weights: Weights) -> set[str]:
        return super().load_weights(_language_weights(weights))


def _language_weights(weights: Weights) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in weights:
        for prefix, ours in _PREFIXES.items():
            if name.startswith(prefix):
                yield ours + name.removeprefix(prefix), tensor
                break

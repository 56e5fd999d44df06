"""Which engine answers, and its making."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch

from sfray.config import JobSpec
from sfray.errors import CheckpointError
from sfray.model.engines.interface import Engine
from sfray.model.engines.transformers import TransformersEngine
from sfray.model.llava import Llava
from sfray.model.memory import InFlight, memory_need
from sfray.model.presets import ModelProfile
from sfray.model.prompt_tokens import PromptTokenizer


def load_engine(folder: Path, spec: JobSpec, profile: ModelProfile) -> tuple[Llava, Engine]:
    """The vision side and the engine of a model; `auto` takes vLLM on a GPU, where it is there.

    Raises:
        CheckpointError: the model doesn't load, or the engine that is asked for isn't here.
    """
    model, asked = spec.model, spec.resources.num_gpus_per_replica
    num_gpus = 1.0 if asked == "auto" else asked
    tokenizer = PromptTokenizer.from_folder(folder)
    has_vllm = find_spec("vllm") is not None
    if model.engine == "vllm" and not has_vllm:
        raise CheckpointError(
            "model.engine is 'vllm', which is not installed here: install sfray[vllm] on the nodes "
            "that answer, or set model.engine to transformers"
        )
    # Only the light engine stretches RoPE by the length of each prompt.
    may_vllm = model.engine == "auto" and torch.cuda.is_available() and not model.rope_scaling
    if not (has_vllm and (model.engine == "vllm" or may_vllm)):
        in_flight = _held_to_share(spec, profile, num_gpus) if torch.cuda.is_available() else None
        llava = Llava(folder, model.dtype, profile.patch_grid)
        return llava, TransformersEngine(llava, tokenizer, model.rope_scaling, in_flight)
    from sfray.model.engines.vllm import VllmEngine

    llava = Llava(folder, model.dtype, profile.patch_grid, language_layers=False)
    return llava, VllmEngine(folder, llava, tokenizer, profile, num_gpus)


def _held_to_share(spec: JobSpec, profile: ModelProfile, share: float) -> InFlight:
    """Bounds this process to its share of the GPU, and says what of the job fits into it."""
    torch.cuda.set_per_process_memory_fraction(min(1.0, share))
    _, gpu_bytes = torch.cuda.mem_get_info()
    return memory_need(spec, profile).fitting(share * gpu_bytes) or InFlight(1, 1)

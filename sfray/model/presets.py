"""What is known of a model without loading it: sizes, prompt format, how it looks at a video."""

from __future__ import annotations

from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

from sfray.config import JobSpec, ModelSpec, StorageSpec
from sfray.demo import preset as demo
from sfray.errors import CheckpointError
from sfray.model.profile import ModelProfile, VisionTower, read_profile
from sfray.pooling import SlowFastPooling, SlowPool
from sfray.storage.uris import scheme_of

DEMO = "demo"
# ViT-L/14 at 336 pixels, read before its last layer.
_CLIP = VisionTower(
    kind="clip_vision_model",
    image_size=336,
    patch_size=14,
    hidden_size=1024,
    intermediate_size=4096,
    num_layers_read=23,
)
# The shape-optimised 400M model, without its last layer.
_SIGLIP = VisionTower(
    kind="siglip_vision_model",
    image_size=384,
    patch_size=14,
    hidden_size=1152,
    intermediate_size=4304,
    num_layers_read=26,
)
_VICUNA_7B: dict[str, Any] = {
    "text_kind": "llama",
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_layers": 32,
    "num_heads": 32,
    "num_kv_heads": 32,
    "head_width": 128,
    "vocab_size": 32064,
    "max_position_embeddings": 4096,
    "tower": _CLIP,
    "chat_format": "vicuna_v1",
}
_VICUNA_13B = _VICUNA_7B | {
    "hidden_size": 5120,
    "intermediate_size": 13824,
    "num_layers": 40,
    "num_heads": 40,
    "num_kv_heads": 40,
}
_MISTRAL_7B = _VICUNA_7B | {
    "text_kind": "mistral",
    "intermediate_size": 14336,
    "num_kv_heads": 8,
    "max_position_embeddings": 32768,
    "chat_format": "mistral_instruct",
}
_YI_34B = _VICUNA_7B | {
    "hidden_size": 7168,
    "intermediate_size": 20480,
    "num_layers": 60,
    "num_heads": 56,
    "num_kv_heads": 8,
    "vocab_size": 64064,
    "chat_format": "chatml",
}
_QWEN2_7B: dict[str, Any] = {
    "text_kind": "qwen2",
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_layers": 28,
    "num_heads": 28,
    "num_kv_heads": 4,
    "head_width": 128,
    "vocab_size": 152128,
    "max_position_embeddings": 32768,
    "tower": _SIGLIP,
    "chat_format": "qwen2",
}
_QWEN2_HALF_B = _QWEN2_7B | {
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_layers": 24,
    "num_heads": 14,
    "num_kv_heads": 2,
    "head_width": 64,
    "vocab_size": 152000,
    "tied_embeddings": True,
}
_MODELS = {
    "LlavaNextForConditionalGeneration": {
        "llava-hf/llava-v1.6-vicuna-7b-hf": _VICUNA_7B,
        "llava-hf/llava-v1.6-vicuna-13b-hf": _VICUNA_13B,
        "llava-hf/llava-v1.6-mistral-7b-hf": _MISTRAL_7B,
        "llava-hf/llava-v1.6-34b-hf": _YI_34B,
    },
    "LlavaForConditionalGeneration": {
        "llava-hf/llava-1.5-7b-hf": _VICUNA_7B,
        "llava-hf/llava-1.5-13b-hf": _VICUNA_13B,
    },
    "LlavaOnevisionForConditionalGeneration": {
        "llava-hf/llava-onevision-qwen2-7b-ov-hf": _QWEN2_7B,
        "llava-hf/llava-onevision-qwen2-0.5b-ov-hf": _QWEN2_HALF_B,
    },
}
PRESETS = {
    model_id: ModelProfile(id=model_id, architecture=architecture, **sizes)
    for architecture, models in _MODELS.items()
    for model_id, sizes in models.items()
}


def model_profile(model: ModelSpec, storage: StorageSpec) -> ModelProfile:
    """The profile of a model, with the positions that the job's RoPE option adds.

    Raises:
        CheckpointError: the id is neither a known one nor a folder with a usable config.
    """
    profile = _own_profile(model, storage)
    if model.rope_scaling is None:
        return profile
    stretched = int(profile.max_position_embeddings * model.rope_scaling.factor)
    return replace(profile, max_position_embeddings=stretched)


def _own_profile(model: ModelSpec, storage: StorageSpec) -> ModelProfile:
    """Built in, or read from a folder's config.json."""
    if model.id in PRESETS:
        return PRESETS[model.id]
    if is_on_s3(model.id):
        from sfray.model.s3_checkpoint import find_checkpoint

        return read_profile(find_checkpoint(model, storage).small_files())
    folder = demo_folder() if model.id == DEMO else Path(model.id)
    if not folder.is_dir():
        known = ", ".join([DEMO, *PRESETS])
        raise CheckpointError(
            f"model.id {model.id!r} is neither a checkpoint folder, here or on s3://, nor one of: "
            f"{known}"
        )
    profile = read_profile(folder)
    if model.id != DEMO:
        return profile
    return replace(
        profile, num_frames=demo.NUM_FRAMES, pooling=demo.POOLING, chat_format=demo.TEMPLATE
    )


def is_on_s3(model_id: str) -> bool:
    """Whether a model is a checkpoint folder on S3."""
    return scheme_of(model_id) == "s3"


def demo_folder() -> Path:
    """The folder of the demonstration model's checkpoint."""
    return Path(str(resources.files("sfray.demo") / "checkpoint"))


def resolve_sampling_and_pooling(
    spec: JobSpec, profile: ModelProfile
) -> tuple[int, SlowFastPooling]:
    """The job's frame count and pooling, the profile's where the job says nothing."""
    wanted, default = spec.pooling, profile.pooling
    grid = default.fast_grid if wanted.fast_grid is None else wanted.fast_grid
    slow = wanted.num_slow_frames
    pooling = SlowFastPooling(
        num_slow_frames=default.num_slow_frames if slow is None else slow,
        slow_pool=default.slow_pool if wanted.slow_pool is None else SlowPool(wanted.slow_pool),
        fast_grid=None if grid == "off" else grid,
    )
    return spec.sampling.num_frames or profile.num_frames, pooling

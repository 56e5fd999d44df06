"""What is known of a model without loading it: sizes, prompt format, how it looks at a video."""

from __future__ import annotations

from typing import Any

from sfray.config import JobSpec
from sfray.model.profile import ModelProfile, VisionTower
from sfray.pooling import SlowFastPooling, SlowPool

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

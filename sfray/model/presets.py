"""What is known of a model without loading it: sizes, prompt format, how it looks at a video."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from sfray.config import JobSpec, ModelSpec, StorageSpec
from sfray.demo import preset as demo
from sfray.errors import CheckpointError
from sfray.pooling import SlowFastPooling, SlowPool

DEMO = "demo"
# The sizes of Vicuna 7B (Llama 2), from which the others are told by what differs.
_NUM_FRAMES = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelProfile:
    """Sizes as in the checkpoint's config; `patch_grid` is rows and columns of patches."""

    id: str
    architecture: str
    image_size: int
    patch_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    vocab_size: int
    max_position_embeddings: int
    chat_format: str
    num_frames: int = _NUM_FRAMES
    pooling: SlowFastPooling = field(default_factory=SlowFastPooling)

    @property
    def patch_grid(self) -> tuple[int, int]:
        side = self.image_size // self.patch_size
        return side, side


def _next(model_id: str, chat_format: str, **sizes: Any) -> ModelProfile:
    """A LLaVA-NeXT checkpoint with CLIP ViT-L/14 at 336 pixels."""
    values: dict[str, Any] = {
        "architecture": "LlavaNextForConditionalGeneration",
        "image_size": 336,
        "patch_size": 14,
    }
    return ModelProfile(id=model_id, chat_format=chat_format, **values | sizes)


_VICUNA_7B: dict[str, Any] = {
    "hidden_size": 4096,
    "num_layers": 32,
    "num_heads": 32,
    "num_kv_heads": 32,
    "vocab_size": 32064,
    "max_position_embeddings": 4096,
}
_VICUNA_13B = _VICUNA_7B | {
    "hidden_size": 5120,
    "num_layers": 40,
    "num_heads": 40,
    "num_kv_heads": 40,
}
_LLAVA: dict[str, Any] = {"architecture": "LlavaForConditionalGeneration"}
PRESETS = {
    profile.id: profile
    for profile in (
        _next("llava-hf/llava-v1.6-vicuna-7b-hf", "vicuna_v1", **_VICUNA_7B),
        _next("llava-hf/llava-v1.6-vicuna-13b-hf", "vicuna_v1", **_VICUNA_13B),
        _next(
            "llava-hf/llava-v1.6-mistral-7b-hf",
            "mistral_instruct",
            **_VICUNA_7B | {"num_kv_heads": 8, "max_position_embeddings": 32768},
        ),
        _next(
            "llava-hf/llava-v1.6-34b-hf",
            "chatml",
            hidden_size=7168,
            num_layers=60,
            num_heads=56,
            num_kv_heads=8,
            vocab_size=64064,
            max_position_embeddings=4096,
        ),
        _next("llava-hf/llava-1.5-7b-hf", "vicuna_v1", **_VICUNA_7B | _LLAVA),
        _next("llava-hf/llava-1.5-13b-hf", "vicuna_v1", **_VICUNA_13B | _LLAVA),
    )
}
ARCHITECTURES = ("LlavaNextForConditionalGeneration", "LlavaForConditionalGeneration")


def model_profile(model: ModelSpec, storage: StorageSpec) -> ModelProfile:
    """The profile of a model: built in, or read from a folder's config.json.

    Raises:
        CheckpointError: the id is neither a known one nor a folder with a usable config.
    """
    if model.id in PRESETS:
        return PRESETS[model.id]
    folder = demo_folder() if model.id == DEMO else Path(model.id)
    if not folder.is_dir():
        known = ", ".join([DEMO, *PRESETS])
        raise CheckpointError(
            f"model.id {model.id!r} is neither a checkpoint folder nor one of: {known}"
        )
    profile = _from_folder(folder)
    if model.id != DEMO:
        return profile
    return ModelProfile(
        **{name: getattr(profile, name) for name in profile.__slots__}
        | {"num_frames": demo.NUM_FRAMES, "pooling": demo.POOLING, "chat_format": demo.TEMPLATE}
    )


def demo_folder() -> Path:
    """The folder of the demonstration model's checkpoint."""
    return Path(str(resources.files("sfray.demo") / "checkpoint"))


def read_config(folder: Path) -> dict[str, Any]:
    """The config.json of a checkpoint folder."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder}/config.json can't be read: {error}") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{folder}/config.json is no mapping")
    return config


def _from_folder(folder: Path) -> ModelProfile:
    config = read_config(folder)
    architecture = (config.get("architectures") or ["none"])[0]
    if architecture not in ARCHITECTURES:
        raise CheckpointError(
            f"{folder} holds a {architecture}; supported are: {', '.join(ARCHITECTURES)}"
        )
    try:
        vision, text = config["vision_config"], config["text_config"]
        heads = text["num_attention_heads"]
        return ModelProfile(
            id=str(folder),
            architecture=architecture,
            image_size=vision["image_size"],
            patch_size=vision["patch_size"],
            hidden_size=text["hidden_size"],
            num_layers=text["num_hidden_layers"],
            num_heads=heads,
            num_kv_heads=text.get("num_key_value_heads") or heads,
            vocab_size=text["vocab_size"],
            max_position_embeddings=text["max_position_embeddings"],
            chat_format=_chat_format(folder, text.get("model_type")),
        )
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{folder}/config.json lacks {error} of vision or text") from error


def _chat_format(folder: Path, model_type: str | None) -> str:
    """Told by the checkpoint's own chat template, else by the kind of its language model."""
    for name in ("chat_template.jinja", "chat_template.json", "tokenizer_config.json"):
        path = folder / name
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        for mark, chat_format in (("<|im_start|>", "chatml"), ("[INST]", "mistral_instruct")):
            if mark in text:
                return chat_format
    return "mistral_instruct" if model_type == "mistral" else "vicuna_v1"


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

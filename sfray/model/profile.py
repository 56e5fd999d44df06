"""The sizes of a model, as a checkpoint's config.json says them. Needs no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sfray.errors import CheckpointError
from sfray.pooling import SlowFastPooling

ARCHITECTURES = (
    "LlavaNextForConditionalGeneration",
    "LlavaForConditionalGeneration",
    "LlavaOnevisionForConditionalGeneration",
)
_NUM_FRAMES = 50
# A config leaves out what is as in its class: the language model's sizes, the tower's.
_TEXT_DEFAULTS: dict[str, dict[str, int]] = {
    "llama": {
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "vocab_size": 32000,
        "max_position_embeddings": 2048,
    },
    "mistral": {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 32000,
        "max_position_embeddings": 131072,
        "sliding_window": 4096,
    },
    "qwen2": {
        "hidden_size": 4096,
        "intermediate_size": 22016,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "vocab_size": 151936,
        "max_position_embeddings": 32768,
    },
}
_TOWER_DEFAULTS: dict[str, dict[str, int]] = {
    kind: {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "image_size": 224,
        "patch_size": patch_size,
    }
    for kind, patch_size in (("clip_vision_model", 32), ("siglip_vision_model", 16))
}


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionTower:
    """A tower; `num_layers_read` of its layers lie before the features that are read."""

    kind: Literal["clip_vision_model", "siglip_vision_model"]
    image_size: int
    patch_size: int
    hidden_size: int
    intermediate_size: int
    num_layers_read: int

    @property
    def has_class_token(self) -> bool:
        return self.kind == "clip_vision_model"

    @property
    def patch_grid(self) -> tuple[int, int]:
        """Rows and columns; pixels that fill no patch (6 of 384 at 14) are not seen."""
        side = self.image_size // self.patch_size
        return side, side


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelProfile:
    """Sizes as in the checkpoint's config. `max_position_embeddings` is what the attention sees:
    at most a sliding window."""

    id: str
    architecture: str
    text_kind: Literal["llama", "mistral", "qwen2"]
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_width: int
    vocab_size: int
    max_position_embeddings: int
    tied_embeddings: bool = False
    tower: VisionTower
    chat_format: str
    num_frames: int = _NUM_FRAMES
    pooling: SlowFastPooling = field(default_factory=SlowFastPooling)

    @property
    def image_size(self) -> int:
        return self.tower.image_size

    @property
    def patch_grid(self) -> tuple[int, int]:
        return self.tower.patch_grid


def read_profile(folder: Path) -> ModelProfile:
    """The profile of a checkpoint folder.

    Raises:
        CheckpointError: no config, or one of a model that can't be run; one sentence.
    """
    config = _read_config(folder)
    architecture = (config.get("architectures") or ["none"])[0]
    if architecture not in ARCHITECTURES:
        raise CheckpointError(
            f"{folder} holds a {architecture}; supported are: {', '.join(ARCHITECTURES)}"
        )
    tower = _tower(folder, config)
    kind, text = _part(folder, config, "text_config", _TEXT_DEFAULTS)
    heads = text["num_attention_heads"]
    positions = text["max_position_embeddings"]
    window = text.get("sliding_window") if text.get("use_sliding_window", True) else None
    return ModelProfile(
        id=str(folder),
        architecture=architecture,
        text_kind=kind,  # type: ignore[arg-type]
        hidden_size=text["hidden_size"],
        intermediate_size=text["intermediate_size"],
        num_layers=text["num_hidden_layers"],
        num_heads=heads,
        num_kv_heads=text.get("num_key_value_heads") or heads,
        head_width=text.get("head_dim") or text["hidden_size"] // heads,
        vocab_size=text["vocab_size"],
        max_position_embeddings=min(positions, window or positions),
        tied_embeddings=bool(
            config.get("tie_word_embeddings") or text.get("tie_word_embeddings", False)
        ),
        tower=tower,
        chat_format=_chat_format(folder, kind),
    )


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder}/config.json can't be read: {error}") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{folder}/config.json is no mapping")
    return config


def _part(
    folder: Path, config: Mapping[str, Any], name: str, defaults: dict[str, dict[str, int]]
) -> tuple[str, dict[str, Any]]:
    """The kind and the values of the language model or the tower."""
    part = config.get(name) or {}
    kind = part.get("model_type")
    if kind not in defaults:
        raise CheckpointError(
            f"{folder}/config.json: {name}.model_type is {kind!r}; supported are: "
            f"{', '.join(defaults)}"
        )
    return kind, defaults[kind] | part


def _tower(folder: Path, config: Mapping[str, Any]) -> VisionTower:
    kind, vision = _part(folder, config, "vision_config", _TOWER_DEFAULTS)
    onevision = config["architectures"][0] == "LlavaOnevisionForConditionalGeneration"
    layer = config.get("vision_feature_layer", -1 if onevision else -2)
    num_states = vision["num_hidden_layers"] + 1
    if not isinstance(layer, int) or not -num_states <= layer < num_states:
        raise CheckpointError(
            f"{folder}/config.json: vision_feature_layer is {layer!r}, but must be one of the "
            f"tower's {num_states} states, counted from 0 or from -1 backwards"
        )
    tower = VisionTower(
        kind=kind,  # type: ignore[arg-type]
        image_size=vision["image_size"],
        patch_size=vision["patch_size"],
        hidden_size=vision["hidden_size"],
        intermediate_size=vision["intermediate_size"],
        num_layers_read=layer % num_states,
    )
    strategy = config.get("vision_feature_select_strategy", "full" if onevision else "default")
    wanted = "default" if tower.has_class_token else "full"
    if strategy != wanted:
        raise CheckpointError(
            f"{folder}/config.json: vision_feature_select_strategy is {strategy!r}, but the "
            f"patches of a {kind} without anything else are {wanted!r}"
        )
    return tower


def _chat_format(folder: Path, text_kind: str) -> str:
    """Told by the checkpoint's own chat template, else by the kind of its language model."""
    for name in ("chat_template.jinja", "chat_template.json", "tokenizer_config.json"):
        path = folder / name
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        if "<|im_start|>" in text:
            return "qwen2" if text_kind == "qwen2" else "chatml"
        if "[INST]" in text:
            return "mistral_instruct"
    return {"mistral": "mistral_instruct", "qwen2": "qwen2"}.get(text_kind, "vicuna_v1")

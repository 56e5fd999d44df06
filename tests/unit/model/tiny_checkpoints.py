"""Small random checkpoints of the model families, saved as `from_pretrained` loads them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import (
    CLIPVisionConfig,
    GenerationConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    SiglipVisionConfig,
)

PARITY = Path(__file__).parents[2] / "resources" / "parity" / "checkpoint"
VOCABULARY = 1088
TEXT: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 8192,
    "initializer_range": 0.3,
}
TOWER: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "patch_size": 14,
    "initializer_range": 0.2,
}
CLIP = CLIPVisionConfig(image_size=336, **TOWER)
SIGLIP = SiglipVisionConfig(image_size=384, vision_use_head=False, **TOWER)
FAMILIES: dict[str, tuple[type[PreTrainedModel], PreTrainedConfig]] = {
    "llava-1.5 on vicuna": (
        LlavaForConditionalGeneration,
        LlavaConfig(
            vision_config=CLIP,
            text_config=LlamaConfig(**TEXT | {"num_key_value_heads": 4}),
            image_token_index=VOCABULARY - 1,
        ),
    ),
    "llava-1.6 on mistral": (
        LlavaNextForConditionalGeneration,
        LlavaNextConfig(
            vision_config=CLIP,
            text_config=MistralConfig(sliding_window=None, **TEXT),
            image_token_index=VOCABULARY - 1,
        ),
    ),
    "llava-1.6 on yi": (
        LlavaNextForConditionalGeneration,
        LlavaNextConfig(
            vision_config=CLIP,
            text_config=LlamaConfig(**TEXT, rope_parameters={"rope_theta": 5e6}),
            image_token_index=VOCABULARY - 1,
        ),
    ),
    "llava-onevision on qwen2": (
        LlavaOnevisionForConditionalGeneration,
        LlavaOnevisionConfig(
            vision_config=SIGLIP,
            text_config=Qwen2Config(**TEXT),
            image_token_index=VOCABULARY - 1,
        ),
    ),
    "llava-onevision on a small qwen2": (
        LlavaOnevisionForConditionalGeneration,
        LlavaOnevisionConfig(
            vision_config=SIGLIP,
            text_config=Qwen2Config(**TEXT, tie_word_embeddings=True),
            image_token_index=VOCABULARY - 1,
        ),
    ),
}


def save_checkpoint(folder: Path, family: str) -> Path:
    """A checkpoint with the tokenizer of the parity model."""
    architecture, config = FAMILIES[family]
    torch.manual_seed(0)
    model = architecture(config)
    model.generation_config = GenerationConfig(eos_token_id=2, pad_token_id=0)
    model.save_pretrained(folder)
    shutil.copy(PARITY / "tokenizer.json", folder)
    siglip = config.vision_config.model_type == "siglip_vision_model"
    settings = json.loads((PARITY / "preprocessor_config.json").read_text())
    if siglip:
        settings |= {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder

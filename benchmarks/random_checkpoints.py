"""Random checkpoints of a model's real sizes, made without a download."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForImageTextToText,
    CLIPVisionConfig,
    GenerationConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaNextConfig,
    LlavaOnevisionConfig,
    MistralConfig,
    PreTrainedConfig,
    Qwen2Config,
    SiglipVisionConfig,
)

from sfray.model.profile import ModelProfile

# Wide enough that a text depends on the video and the question.
_SPREAD = 0.03


def config_of(sizes: ModelProfile) -> PreTrainedConfig:
    """transformers' config of a model of these sizes; the tower's last layer, unread, included."""
    tower = sizes.tower
    vision = {
        "image_size": tower.image_size,
        "patch_size": tower.patch_size,
        "hidden_size": tower.hidden_size,
        "intermediate_size": tower.intermediate_size,
        "num_attention_heads": 16,
        "num_hidden_layers": tower.num_layers_read + tower.has_class_token,
    }
    text_config = {"llama": LlamaConfig, "mistral": MistralConfig, "qwen2": Qwen2Config}
    text = text_config[sizes.text_kind](
        hidden_size=sizes.hidden_size,
        intermediate_size=sizes.intermediate_size,
        num_hidden_layers=sizes.num_layers,
        num_attention_heads=sizes.num_heads,
        num_key_value_heads=sizes.num_kv_heads,
        vocab_size=sizes.vocab_size,
        max_position_embeddings=sizes.max_position_embeddings,
        tie_word_embeddings=sizes.tied_embeddings,
        initializer_range=_SPREAD,
    )
    config = {
        "LlavaNextForConditionalGeneration": LlavaNextConfig,
        "LlavaForConditionalGeneration": LlavaConfig,
        "LlavaOnevisionForConditionalGeneration": LlavaOnevisionConfig,
    }[sizes.architecture]
    towers = {"clip_vision_model": CLIPVisionConfig, "siglip_vision_model": SiglipVisionConfig}
    if not tower.has_class_token:
        vision["vision_use_head"] = False
    return config(
        vision_config=towers[tower.kind](**vision),
        text_config=text,
        image_token_index=sizes.vocab_size - 1,
    )


def save_random(folder: Path, sizes: ModelProfile, device: str) -> Path:
    """A bfloat16 checkpoint, its weights drawn on the device; texts of words `w0`, `w1` and so on.

    Its end token is one that is never generated.
    """
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForImageTextToText.from_config(config_of(sizes), dtype=torch.bfloat16)
    end = sizes.vocab_size - 2
    # Its logit is 0: never the largest of all.
    torch.nn.init.zeros_(model.lm_head.weight.data[end])
    model.generation_config = GenerationConfig(eos_token_id=end, pad_token_id=0)
    model.save_pretrained(folder)
    settings = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    words = Tokenizer(models.WordLevel({f"w{n}": n for n in range(sizes.vocab_size)}, "w0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.save(str(folder / "tokenizer.json"))
    return folder

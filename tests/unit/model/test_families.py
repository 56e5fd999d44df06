"""Every family of models on a random checkpoint, through the real loading code, against
transformers' own layers and `generate`."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModelForImageTextToText,
    CLIPVisionConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedModel,
    Qwen2Config,
    SiglipVisionConfig,
)

from sfray.config import GenerationSpec
from sfray.errors import CheckpointError
from sfray.model import profile as profiles
from sfray.model.engines.interface import Completion, Suffix
from sfray.model.engines.transformers import TransformersEngine
from sfray.model.llava import Llava
from sfray.model.presets import PRESETS
from sfray.model.profile import ModelProfile, read_profile
from sfray.model.prompt_tokens import PromptTokenizer
from sfray.model.slowfast import pool_slow_fast
from sfray.pooling import SlowFastPooling
from tests.unit.model.tiny_checkpoints import FAMILIES, save_checkpoint

POOLING = SlowFastPooling(num_slow_frames=1, fast_grid=(2, 2))
BEFORE, SUFFIXES = [1, 40, 41], [[50, 51, 52], [60]]
NUM_NEW = 10


@torch.inference_mode()
def reference_features(model: PreTrainedModel, frames_THWC: np.ndarray) -> Tensor:
    """(T, N, W) by the words of the checkpoint's config, all layers computed."""
    settings = model.config
    pixels = torch.from_numpy(frames_THWC).permute(0, 3, 1, 2).float() / 255
    if settings.vision_config.model_type == "siglip_vision_model":
        pixels = (pixels - 0.5) / 0.5
    else:
        pixels = (pixels - torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]) / (
            torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
        )
    states = model.model.vision_tower(pixels, output_hidden_states=True).hidden_states
    features = states[settings.vision_feature_layer]
    if settings.vision_feature_select_strategy == "default":
        features = features[:, 1:]
    return model.model.multi_modal_projector(features)


@torch.inference_mode()
def reference_ids(model: PreTrainedModel, prefix_LW: Tensor, suffix: list[int]) -> list[int]:
    text = model.get_input_embeddings()(torch.tensor(suffix))
    embeddings = torch.cat([prefix_LW, text])[None]
    mask = torch.ones(embeddings.shape[:2], dtype=torch.long)
    return model.generate(
        inputs_embeds=embeddings, attention_mask=mask, max_new_tokens=NUM_NEW, do_sample=False
    )[0].tolist()


@pytest.mark.parametrize("family", FAMILIES)
def test_features_and_greedy_tokens_are_those_of_transformers(family: str, tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path / "model", family)
    profile = read_profile(folder)
    grid = 27 if "onevision" in family else 24
    assert profile.patch_grid == (grid, grid)
    size = profile.image_size
    frames_THWC = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), np.uint8)

    llava = Llava(folder, "float32", profile.patch_grid)
    visual_LW = llava.visual_tokens(frames_THWC, POOLING)
    raw = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    expected_LW = pool_slow_fast(reference_features(raw, frames_THWC), profile.patch_grid, POOLING)
    assert len(visual_LW) == grid * grid // 2 + 2 * 4
    torch.testing.assert_close(visual_LW, expected_LW, atol=1e-4, rtol=1e-4)

    with torch.inference_mode():
        text = raw.get_input_embeddings()(torch.tensor(BEFORE))
    prefix_LW = torch.cat([text, visual_LW])
    engine = TransformersEngine(llava, PromptTokenizer.from_folder(folder))
    completions = asyncio.run(
        engine.complete(
            prefix_LW,
            [Suffix(token_ids=ids, seed=0) for ids in SUFFIXES],
            GenerationSpec(max_new_tokens=NUM_NEW),
        )
    )
    texts = set()
    for suffix, completion in zip(SUFFIXES, completions, strict=True):
        assert isinstance(completion, Completion)
        assert list(completion.token_ids) == reference_ids(raw, prefix_LW, suffix)
        texts.add(completion.token_ids)
    assert len(texts) == len(SUFFIXES), "the model is random enough to tell the questions apart"


def test_a_sliding_window_is_as_far_as_a_prompt_may_go(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path / "model", "llava-1.6 on mistral")
    assert edited(folder).max_position_embeddings == 8192
    assert edited(folder, text={"sliding_window": 512}).max_position_embeddings == 512


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"vision_feature_layer": [-2, -5]}, r"vision_feature_layer is \[-2, -5\]"),
        ({"vision_feature_layer": -5}, "vision_feature_layer is -5.*4 states"),
        ({"vision_feature_select_strategy": "full"}, "'full'.*'default'"),
        ({"text": {"model_type": "gpt2"}}, "'gpt2'; supported are: llama, mistral, qwen2"),
    ],
)
def test_what_is_no_known_family_is_one_sentence(
    changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    folder = save_checkpoint(tmp_path / "model", "llava-1.6 on yi")
    with pytest.raises(CheckpointError, match=words):
        edited(folder, **changes)


def edited(folder: Path, text: dict[str, Any] | None = None, **changes: Any) -> ModelProfile:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["text_config"] |= text or {}
    path.write_text(json.dumps(config | changes))
    return read_profile(folder)


def test_what_a_config_leaves_out_is_as_in_its_class() -> None:
    classes = (
        *((profiles._TEXT_DEFAULTS, kind) for kind in (LlamaConfig, MistralConfig, Qwen2Config)),
        *((profiles._TOWER_DEFAULTS, kind) for kind in (CLIPVisionConfig, SiglipVisionConfig)),
    )
    for defaults, kind in classes:
        for name, value in defaults[kind.model_type].items():
            assert getattr(kind(), name) == value, (kind, name)


@pytest.mark.parametrize("profile", PRESETS.values(), ids=lambda p: p.id)
def test_the_papers_frames_fit_every_preset(profile: ModelProfile) -> None:
    num_tokens = profile.pooling.num_visual_tokens(profile.num_frames, profile.patch_grid)
    assert num_tokens + 256 <= profile.max_position_embeddings

"""The estimate against torch's profile of fresh processes and transformers' own modules."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForImageTextToText,
    CLIPVisionConfig,
    GenerationConfig,
    LlamaConfig,
    LlavaNextConfig,
    LlavaOnevisionConfig,
    MistralConfig,
    PreTrainedConfig,
    Qwen2Config,
    SiglipVisionConfig,
)

from benchmarks.random_checkpoints import config_of
from sfray.config import JobSpec, parse_job_spec
from sfray.model.memory import GIB, InFlight, MemoryNeed, memory_need, need_of, num_parameters
from sfray.model.presets import PRESETS
from sfray.model.profile import read_profile
from sfray.pooling import SlowFastPooling
from tests.unit.model.tiny_checkpoints import PARITY, VOCABULARY

PROFILE = Path(__file__).with_name("memory_profile.py")


def sizes(width: int, mlp: int, layers: int, kv_heads: int = 4) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "intermediate_size": mlp,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": kv_heads,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 8192,
    }


def tower(width: int, mlp: int) -> dict[str, int]:
    return {
        "hidden_size": width,
        "intermediate_size": mlp,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "patch_size": 14,
    }


SIZES: dict[str, tuple[PreTrainedConfig, tuple[int, int, int, int]]] = {
    "small": (
        LlavaNextConfig(
            vision_config=CLIPVisionConfig(image_size=336, **tower(128, 512)),
            text_config=LlamaConfig(**sizes(256, 688, 4)),
            image_token_index=VOCABULARY - 1,
        ),
        (20, 8, 24, 4),
    ),
    "middle": (
        LlavaOnevisionConfig(
            vision_config=SiglipVisionConfig(
                image_size=384, vision_use_head=False, **tower(128, 512)
            ),
            text_config=Qwen2Config(**sizes(512, 1024, 4, kv_heads=2)),
            image_token_index=VOCABULARY - 1,
        ),
        (10, 2, 16, 2),
    ),
    "large": (
        LlavaNextConfig(
            vision_config=CLIPVisionConfig(image_size=336, **tower(192, 768)),
            text_config=MistralConfig(**sizes(768, 2048, 6, kv_heads=2), sliding_window=None),
            image_token_index=VOCABULARY - 1,
        ),
        (6, 26, 20, 3),
    ),
}


@pytest.mark.parametrize("size", SIZES)
def test_the_estimate_is_what_torch_allocates(size: str, tmp_path: Path) -> None:
    config, (num_frames, num_requests, num_text, num_new) = SIZES[size]
    model = AutoModelForImageTextToText.from_config(config)
    model.generation_config = GenerationConfig(eos_token_id=2, pad_token_id=0)
    model.save_pretrained(tmp_path)
    for name in ("tokenizer.json", "preprocessor_config.json"):
        shutil.copy(PARITY / name, tmp_path)
    arguments = map(str, (tmp_path, num_frames, num_requests, num_text, num_new))
    root = str(Path(__file__).parents[3])
    output = subprocess.run(  # noqa: S603 - this interpreter
        [sys.executable, str(PROFILE), *arguments],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": root},
    ).stdout
    measured = json.loads(output.splitlines()[-1])
    need = need_of(
        read_profile(tmp_path),
        num_frames=num_frames,
        pooling=SlowFastPooling(),
        num_text_tokens=num_text,
        num_new_tokens=num_new,
        item=4,
    )
    in_flight = InFlight(num_requests=num_requests, num_videos=1)
    expected = {
        "weights": need.weights,
        "vision": need.weights + need.vision,
        "engine": need.weights + need.engine(in_flight),
    }
    for phase, peak in measured.items():
        assert expected[phase] == pytest.approx(peak, rel=0.1), (phase, measured, expected)


@pytest.mark.parametrize("model_id", PRESETS)
def test_the_weights_are_those_of_transformers_modules(model_id: str) -> None:
    """Built without memory, by the sizes of the preset."""
    sizes = PRESETS[model_id]
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config_of(sizes))
    encoder = model.model.vision_tower.encoder
    encoder.layers = encoder.layers[: sizes.tower.num_layers_read]
    model.model.vision_tower.post_layernorm = torch.nn.Identity()
    assert num_parameters(sizes) == sum(p.numel() for p in model.parameters())


def job(model_id: str, **changes: Any) -> JobSpec:
    base: dict[str, Any] = {
        "manifest": {"uri": "unused"},
        "task": "qa",
        "model": {"id": model_id},
        "output": {"uri": "unused"},
    }
    return parse_job_spec(base | changes)


def need(model_id: str) -> MemoryNeed:
    return memory_need(job(model_id), PRESETS[model_id])


def test_what_fits_grows_with_the_gpu_and_never_takes_more_than_its_share() -> None:
    seven_b = need("llava-hf/llava-v1.6-vicuna-7b-hf")
    assert seven_b.weights == pytest.approx(7.05e9 * 2, rel=0.01)
    before = InFlight(0, 0)
    for size in (20, 24, 32, 48, 80):
        fitting = seven_b.fitting(size * GIB)
        assert fitting is not None and seven_b.total(fitting) < size * GIB
        assert (fitting.num_videos, fitting.num_requests) >= (
            before.num_videos,
            before.num_requests,
        )
        before = fitting
    assert before == InFlight(), "80 GiB hold all that a replica ever takes"
    assert seven_b.fitting(12 * GIB) is None and seven_b.replicas_on(12 * GIB) == 0
    assert seven_b.fitting(seven_b.least_bytes + GIB) is not None
    assert seven_b.fitting(seven_b.least_bytes - GIB) is None


def test_replicas_share_a_gpu_while_each_can_do_all() -> None:
    small = need("llava-hf/llava-onevision-qwen2-0.5b-ov-hf")
    large = need("llava-hf/llava-v1.6-34b-hf")
    assert small.replicas_on(80 * GIB) > small.replicas_on(10 * GIB) >= 1
    assert large.replicas_on(48 * GIB) == 0 and large.replicas_on(80 * GIB) == 1

"""Trains the demonstration model: `python tools/train_demo_model.py`.

Stages: videos (rendered, encoded, decoded, sampled), tower, features, language; then the
checkpoint is written in half precision and measured on videos of other seeds. `--work` keeps the
videos and the trained tower, so that a second run begins where they are.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from demo_training.data import IMAGE_SIZE, load_or_make_frames
from demo_training.language import Lessons, accuracy, make_model, tower_features, train_language
from demo_training.tower import PATCH, tower_config, train_tower
from demo_training.words import SPECIAL, make_tokenizer
from transformers import (
    CLIPImageProcessor,
    CLIPVisionModel,
    GenerationConfig,
    LlavaNextForConditionalGeneration,
    PreTrainedTokenizerFast,
)

ROOT = Path(__file__).parent.parent
CHECKPOINT = ROOT / "sfray" / "demo" / "checkpoint"
TEMPLATE = ROOT / "sfray" / "prompts" / "templates" / "demo.txt"
FIRST_TRAINING_SEED = 0
FIRST_TEST_SEED = 900_000


def main() -> None:
    options = _options()
    torch.manual_seed(options.seed)
    torch.set_num_threads(2)
    options.work.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    frames = load_or_make_frames(
        options.work / "train.npy", options.num_videos, FIRST_TRAINING_SEED
    )
    test_frames = load_or_make_frames(options.work / "test.npy", 200, FIRST_TEST_SEED)
    tower = CLIPVisionModel(tower_config(num_layers=3))
    tower_file = options.work / "tower.pt"
    if tower_file.exists():
        tower.load_state_dict(torch.load(tower_file, weights_only=True))
    else:
        tower = train_tower(frames, FIRST_TRAINING_SEED, options.tower_steps, batch_size=64)
        torch.save(tower.state_dict(), tower_file)
    tower.eval()
    print(f"tower after {time.monotonic() - started:.0f} s", flush=True)
    template = TEMPLATE.read_text(encoding="utf-8")
    tokenizer = make_tokenizer(template)
    lessons = Lessons(tokenizer, template)
    model = make_model()
    model.model.vision_tower.load_state_dict(tower.state_dict(), strict=False)
    features = tower_features(tower, frames)
    print(f"features after {time.monotonic() - started:.0f} s", flush=True)
    train_language(
        model, lessons, features, FIRST_TRAINING_SEED, options.language_steps, batch_size=16
    )
    save(model, tokenizer, options.output)
    test_features = tower_features(tower, test_frames)
    print(json.dumps(accuracy(model, lessons, test_features, FIRST_TEST_SEED), indent=1))
    print(f"done after {time.monotonic() - started:.0f} s")


def save(
    model: LlavaNextForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, folder: Path
) -> None:
    """Writes a checkpoint folder as the hub has them, weights in half precision."""
    folder.mkdir(parents=True, exist_ok=True)
    model.generation_config = GenerationConfig(
        bos_token_id=SPECIAL.index("<s>"),
        eos_token_id=SPECIAL.index("</s>"),
        pad_token_id=SPECIAL.index("<pad>"),
    )
    model.half().save_pretrained(folder)
    model.float()
    tokenizer.save_pretrained(folder)
    square = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    image_processor = CLIPImageProcessor(size={"shortest_edge": IMAGE_SIZE}, crop_size=square)
    settings = image_processor.to_dict() | {"image_processor_type": "LlavaNextImageProcessor"}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    processor = {
        "processor_class": "LlavaNextProcessor",
        "image_token": "<image>",
        "num_additional_image_tokens": 1,
        "patch_size": PATCH,
        "vision_feature_select_strategy": "default",
    }
    (folder / "processor_config.json").write_text(json.dumps(processor, indent=2) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=CHECKPOINT)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "demo-training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num-videos", type=int, default=8000)
    parser.add_argument("--tower-steps", type=int, default=1500)
    parser.add_argument("--language-steps", type=int, default=2500)
    return parser.parse_args()


if __name__ == "__main__":
    main()

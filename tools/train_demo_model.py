"""Trains the demonstration model: `python tools/train_demo_model.py`.

Stages: videos (rendered, encoded, decoded, sampled), tower, features, language; then the
checkpoint is written in half precision and measured on videos of other seeds. `--work` keeps the
videos, the trained tower and the language model as it was last, so that a run that was cut off
goes on from there.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from demo_training.data import IMAGE_SIZE, load_or_make_frames
from demo_training.language import Lessons, accuracy, make_model, tower_features, train_language
from demo_training.report import accuracy_lines, write_report
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
NUM_TEST_VIDEOS = 200
BATCH_SIZE = 8


def main() -> None:
    options = _options()
    torch.manual_seed(options.seed)
    torch.set_num_threads(2)
    options.work.mkdir(parents=True, exist_ok=True)
    clock = StageClock()
    frames = load_or_make_frames(
        options.work / "train.npy", options.num_videos, FIRST_TRAINING_SEED
    )
    test_frames = load_or_make_frames(options.work / "test.npy", NUM_TEST_VIDEOS, FIRST_TEST_SEED)
    clock.lap("videos")
    tower = load_or_train_tower(options.work / "tower.pt", frames, options.tower_steps)
    clock.lap("vision tower")
    template = TEMPLATE.read_text(encoding="utf-8")
    tokenizer = load_or_make_tokenizer(options.work / "tokenizer", template)
    lessons = Lessons(tokenizer, template)
    model = make_model()
    # Its last layer stays random: the model reads the layer before it.
    model.model.vision_tower.load_state_dict(tower.state_dict(), strict=False)
    features = load_or_make_features(options.work / "features.npy", tower, frames)
    clock.lap("features of the frozen tower")
    language_file = options.work / "language.pt"
    if language_file.exists():
        model.load_state_dict(torch.load(language_file, weights_only=True))
    for _ in train_language(
        model,
        lessons,
        features,
        FIRST_TRAINING_SEED,
        num_steps=options.language_steps,
        batch_size=BATCH_SIZE,
        max_seconds=60 * options.language_minutes,
    ):
        torch.save(model.state_dict(), language_file)
    clock.lap("projector and language model")
    save(model, tokenizer, options.output)
    right = accuracy(model, lessons, tower_features(tower, test_frames), FIRST_TEST_SEED)
    print("\n".join(accuracy_lines(right)))
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    command = f"python {' '.join(sys.argv)}"
    write_report(options.output, command, num_parameters, clock.seconds, right)


class StageClock:
    """How long each stage took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._lap_started = time.monotonic()

    def lap(self, stage: str) -> None:
        now = time.monotonic()
        self.seconds[stage] = now - self._lap_started
        self._lap_started = now
        print(f"{stage}: {self.seconds[stage]:.0f} s", flush=True)


def load_or_train_tower(path: Path, frames: np.ndarray, num_steps: int) -> CLIPVisionModel:
    """The tower without its last layer, trained once and kept in a file."""
    if path.exists():
        tower = CLIPVisionModel(tower_config(num_layers=3))
        tower.load_state_dict(torch.load(path, weights_only=True))
        return tower.eval()
    tower = train_tower(frames, FIRST_TRAINING_SEED, num_steps, batch_size=64)
    torch.save(tower.state_dict(), path)
    return tower


def load_or_make_tokenizer(folder: Path, template: str) -> PreTrainedTokenizerFast:
    """A language model that was begun goes on with the tokens that it knows."""
    if not folder.exists():
        make_tokenizer(template).save_pretrained(folder)
    return PreTrainedTokenizerFast.from_pretrained(folder)


def load_or_make_features(path: Path, tower: CLIPVisionModel, frames: np.ndarray) -> np.ndarray:
    """What the tower says of all frames, float16, computed once and kept in a file."""
    if not path.exists():
        np.save(path, tower_features(tower, frames))
    return np.load(path, mmap_mode="r")


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
    parser.add_argument("--language-steps", type=int, default=5000)
    parser.add_argument("--language-minutes", type=float, default=60.0)
    return parser.parse_args()


if __name__ == "__main__":
    main()

"""How fast the engine answers, against asking one question at a time.

    python benchmarks/bench_engine.py --results benchmarks/results

Side by side in one run, on the same random weights, video and threads: (a) every question decodes,
encodes and prefills anew, as the reference does, on transformers' own `generate`; (b) batches of
8 questions with `generate`, decoding and encoding shared; (c) sfray's light engine. The generated
tokens of all must be equal; where they differ, the row says by how little the logits did.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import av
import numpy as np
import torch
from tokenizers import Tokenizer, models
from torch import Tensor
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
)

from benchmarks.processor import processor
from sfray.config import DecodeSpec, GenerationSpec, StorageSpec, VideosSpec
from sfray.model.engine import Completion, Suffix
from sfray.model.llava import Llava
from sfray.model.prompt_tokens import PromptTokenizer
from sfray.model.transformers_engine import TransformersEngine
from sfray.pooling import SlowFastPooling
from sfray.records import WorkItem
from sfray.stages.decode_video import DecodeVideo

VOCABULARY = 32_000
QUESTION_TOKENS = 20
BATCH = 8
ROWS = {f"{q}x{t}": (q, t) for q in (1, 8, 26) for t in (8, 128)}
Answers = list[list[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table; seconds are of one run after a warm-up of the model."""

    num_questions: int
    num_tokens: int
    one_at_a_time_seconds: float
    batches_seconds: float
    light_seconds: float
    tokens_equal: bool


def make_checkpoint(folder: Path) -> None:
    """A random model of fixed size; its end token is never generated."""
    torch.manual_seed(0)
    vision = CLIPVisionConfig(
        hidden_size=384,
        intermediate_size=1536,
        num_hidden_layers=12,
        num_attention_heads=6,
        image_size=336,
        patch_size=14,
    )
    text = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=512,
        intermediate_size=1376,
        num_hidden_layers=12,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=4096,
        # Wide enough that greedy texts differ from question to question.
        initializer_range=0.08,
    )
    config = LlavaNextConfig(
        vision_config=vision, text_config=text, image_token_index=VOCABULARY - 1
    )
    model = LlavaNextForConditionalGeneration(config)
    model.generation_config.eos_token_id = VOCABULARY
    model.save_pretrained(folder)
    settings = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    words = {f"w{n}": n for n in range(VOCABULARY)}
    Tokenizer(models.WordLevel(words, unk_token="w0")).save(str(folder / "tokenizer.json"))  # noqa: S106 - a word


def write_video(path: Path, num_frames: int = 300) -> None:
    """10 seconds of moving noise at 1280 x 720, H.264."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (90, 160 + num_frames, 3), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 1280, 720, "yuv420p"
        for n in range(num_frames):
            picture = coarse[:, n : n + 160].repeat(8, axis=0).repeat(8, axis=1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


class Bench:
    """The model, the video and the ways to answer."""

    def __init__(self, folder: Path) -> None:
        make_checkpoint(folder)
        write_video(folder / "video.mp4")
        self._llava = Llava(folder, "float32", (24, 24))
        self._engine = TransformersEngine(self._llava, PromptTokenizer.from_folder(folder))
        self._plain = LlavaNextForConditionalGeneration.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="sdpa"
        ).eval()
        self._decode = DecodeVideo(
            videos=VideosSpec(),
            storage=StorageSpec(),
            decode=DecodeSpec(),
            seek="exact",
            num_frames=50,
            image_size=336,
        )
        uri = str(folder / "video.mp4")
        self._item = WorkItem(
            video_id="v",
            video_uri=uri,
            fetch_uri=uri,
            start_seconds=None,
            end_seconds=None,
            requests=(),
        )

    def prefix(self) -> Tensor:
        """(L, W): decodes and encodes the video."""
        video = self._decode(self._item).video
        if video is None:
            raise RuntimeError("the benchmark's own video doesn't decode")
        return self._llava.visual_tokens(video.frames_THWC, SlowFastPooling())

    def one_at_a_time(self, questions: Answers, num_tokens: int) -> Answers:
        """(a)"""
        return [self._generate(self.prefix(), [q], num_tokens)[0] for q in questions]

    def in_batches(self, questions: Answers, num_tokens: int) -> Answers:
        """(b)"""
        prefix = self.prefix()
        answers: Answers = []
        for low in range(0, len(questions), BATCH):
            answers += self._generate(prefix, questions[low : low + BATCH], num_tokens)
        return answers

    def light(self, questions: Answers, num_tokens: int) -> Answers:
        """(c)"""
        suffixes = [Suffix(token_ids=ids, seed=0) for ids in questions]
        generation = GenerationSpec(max_new_tokens=num_tokens)
        done = asyncio.run(self._engine.complete(self.prefix(), suffixes, generation))
        return [list(c.token_ids) for c in done if isinstance(c, Completion)]

    @torch.inference_mode()
    def _generate(self, prefix: Tensor, questions: Answers, num_tokens: int) -> Answers:
        text = self._plain.get_input_embeddings()(torch.tensor(questions))
        embeddings = torch.cat([prefix.expand(len(questions), -1, -1), text], dim=1)
        out = self._plain.generate(
            inputs_embeds=embeddings,
            attention_mask=torch.ones(embeddings.shape[:2], dtype=torch.long),
            max_new_tokens=num_tokens,
            do_sample=False,
            pad_token_id=0,
        )
        return out.tolist()


def measure(bench: Bench, num_questions: int, num_tokens: int) -> Row:
    rng = np.random.default_rng(num_questions)
    questions = rng.integers(3, VOCABULARY - 1, (num_questions, QUESTION_TOKENS)).tolist()

    def timed(way: Callable[[Answers, int], Answers]) -> tuple[float, Answers]:
        started = time.perf_counter()
        answers = way(questions, num_tokens)
        return time.perf_counter() - started, answers

    light_seconds, light = timed(bench.light)
    batches_seconds, batches = timed(bench.in_batches)
    one_seconds, one = timed(bench.one_at_a_time)
    return Row(
        num_questions=num_questions,
        num_tokens=num_tokens,
        one_at_a_time_seconds=one_seconds,
        batches_seconds=batches_seconds,
        light_seconds=light_seconds,
        tokens_equal=one == batches == light,
    )


def table(rows: list[Row]) -> str:
    """Ratios within this run: how many times faster than (a), and than the better of (a), (b)."""
    lines = [
        "| questions | tokens | (b) batches of 8 | (c) light | (c) against the better of (a), (b) "
        "| tokens equal |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        slow = row.one_at_a_time_seconds
        best = min(slow, row.batches_seconds)
        lines.append(
            f"| {row.num_questions} | {row.num_tokens} | {slow / row.batches_seconds:.2f} x "
            f"| {slow / row.light_seconds:.2f} x | {best / row.light_seconds:.2f} x "
            f"| {'yes' if row.tokens_equal else 'no'} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--row", choices=ROWS, action="append", help="only this row; repeatable")
    parser.add_argument("--results", type=Path, help="where the table is written")
    options = parser.parse_args()
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        bench.light([[3, 4]], 2)
        rows = []
        for name in options.row or ROWS:
            rows.append(measure(bench, *ROWS[name]))
            print(asdict(rows[-1]), flush=True)
    text = (
        f"# The light engine against one question at a time, {date.today()}\n\n"
        f"{processor()}, 2 threads, float32; `python -m benchmarks.bench_engine`. How many times\n"
        "faster than (a), one question at a time with decoding, encoding and prefill each.\n\n"
        f"{table(rows)}\n"
    )
    print(text)
    if options.results:
        stem = options.results / f"{date.today()}-engine"
        stem.with_suffix(".md").write_text(text)
        stem.with_suffix(".json").write_text(json.dumps([asdict(r) for r in rows], indent=1))


if __name__ == "__main__":
    main()

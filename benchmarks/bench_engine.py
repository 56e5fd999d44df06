"""How fast the engines answer, against asking one question at a time.

    make setup-vllm && .venv-vllm/bin/python -m benchmarks.bench_engine --results benchmarks/results

Side by side in one run, on the same random weights, videos and threads: (a) every question decodes,
encodes and prefills anew, as the reference does, on transformers' own `generate`; (b) batches of
8 questions with `generate`, decoding and encoding shared; (c) sfray's light engine; (d) sfray with
vLLM, where it is installed. The generated tokens of all must be equal; where they differ, the row
says by how much the two best logits did. A second table says how close the light engine is to the
machine: floating-point operations that each phase needs, over the matrix product's peak. Of 26
questions (a) answers 4, which stand for all, since it does the same work for each.
Shape legend: L prefix positions, W width.
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
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path

import av
import numpy as np
import torch
from tokenizers import Tokenizer, models
from torch import Tensor
from transformers import (
    CLIPVisionConfig,
    DynamicCache,
    LlamaConfig,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
)

from benchmarks.processor import processor
from benchmarks.sample_videos import whole_video
from sfray.config import GenerationSpec
from sfray.model.engines.interface import Completion, Engine, Suffix
from sfray.model.engines.transformers import TransformersEngine
from sfray.model.llava import Llava
from sfray.model.profile import read_profile
from sfray.model.prompt_tokens import PromptTokenizer
from sfray.pooling import SlowFastPooling
from sfray.stages.decode_video import DecodeConfig, DecodeVideo

VOCABULARY = 32_000
END_TOKEN = VOCABULARY - 2
QUESTION_TOKENS = 20
BATCH = 8
TOWER = {"width": 384, "mlp": 1536, "layers": 12, "heads": 6}
LANGUAGE = {"width": 512, "mlp": 1376, "layers": 12, "heads": 8}
# So many videos a row, by questions a video: enough that single questions share decode steps.
NUM_VIDEOS = {26: 1, 1: 3, 8: 1}
# (a) does the same work again for every question: it answers so many of a video, its time is that
# of as many as the others answer.
MOST_ONE_AT_A_TIME = 4
ONE_AT_A_TIME = "one_at_a_time"
ROWS = {f"{q}x{t}": (q, t) for q in NUM_VIDEOS for t in (8, 128)}
# An answer of each question, in the order of videos and questions.
Answers = list[list[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table; seconds of one run after a warm-up, by way.

    `largest_gap` is the largest distance of two logits at a first difference of two ways' tokens;
    None where all are equal.
    """

    num_videos: int
    num_questions: int
    num_tokens: int
    seconds: dict[str, float]
    largest_gap: float | None


def make_checkpoint(folder: Path) -> None:
    """A random model of fixed size; its end token is never generated."""
    torch.manual_seed(0)
    vision = CLIPVisionConfig(
        hidden_size=TOWER["width"],
        intermediate_size=TOWER["mlp"],
        num_hidden_layers=TOWER["layers"],
        num_attention_heads=TOWER["heads"],
        image_size=336,
        patch_size=14,
    )
    text = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=LANGUAGE["width"],
        intermediate_size=LANGUAGE["mlp"],
        num_hidden_layers=LANGUAGE["layers"],
        num_attention_heads=LANGUAGE["heads"],
        num_key_value_heads=LANGUAGE["heads"],
        max_position_embeddings=4096,
        # Wide enough that greedy texts differ from question to question.
        initializer_range=0.08,
    )
    config = LlavaNextConfig(
        vision_config=vision, text_config=text, image_token_index=VOCABULARY - 1
    )
    model = LlavaNextForConditionalGeneration(config)
    # Its logit is 0: never the largest of all.
    torch.nn.init.zeros_(model.lm_head.weight.data[END_TOKEN])
    model.generation_config.eos_token_id = END_TOKEN
    model.save_pretrained(folder)
    settings = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    words = {f"w{n}": n for n in range(VOCABULARY)}
    Tokenizer(models.WordLevel(words, unk_token="w0")).save(str(folder / "tokenizer.json"))  # noqa: S106 - a word


def write_video(path: Path, seed: int, num_frames: int = 300) -> None:
    """10 seconds of moving noise at 1280 x 720, H.264."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (90, 160 + num_frames, 3), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 1280, 720, "yuv420p"
        for n in range(num_frames):
            picture = coarse[:, n : n + 160].repeat(8, axis=0).repeat(8, axis=1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


class Bench:
    """The model, the videos and the ways to answer."""

    def __init__(self, folder: Path) -> None:
        make_checkpoint(folder)
        self._videos = [str(folder / f"{n}.mp4") for n in range(max(NUM_VIDEOS.values()))]
        for seed, video in enumerate(self._videos):
            write_video(Path(video), seed)
        self.llava = Llava(folder, "float32", (24, 24))
        tokenizer = PromptTokenizer.from_folder(folder)
        self.plain = LlavaNextForConditionalGeneration.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="sdpa"
        ).eval()
        self._engines: dict[str, Engine] = {"light": TransformersEngine(self.llava, tokenizer)}
        if find_spec("vllm") is not None:
            from sfray.model.engines.vllm import VllmEngine

            profile = read_profile(folder)
            self._engines["vllm"] = VllmEngine(folder, self.llava, tokenizer, profile, num_gpus=1)
        self._kept_prefix = cache(self.prefix)
        self._decode = DecodeVideo(DecodeConfig(num_frames=50, image_size=336))

    @property
    def ways(self) -> dict[str, Callable[[list[Answers], int], Answers]]:
        ways = {ONE_AT_A_TIME: self._one_at_a_time, "batches": self._in_batches}
        return ways | {name: partial(self._by_engine, name) for name in self._engines}

    def frames(self, video: int) -> np.ndarray:
        decoded = self._decode(whole_video(self._videos[video])).video
        if decoded is None:
            raise RuntimeError("the benchmark's own video doesn't decode")
        return decoded.frames_THWC

    def prefix(self, video: int) -> Tensor:
        """(L, W): decodes and encodes a video."""
        return self.llava.visual_tokens(self.frames(video), SlowFastPooling())

    def _one_at_a_time(self, questions: list[Answers], num_tokens: int) -> Answers:
        """(a)"""
        return [
            self._generate([self.prefix(video)], [question], num_tokens)[0]
            for video, of_video in enumerate(questions)
            for question in of_video
        ]

    def _in_batches(self, questions: list[Answers], num_tokens: int) -> Answers:
        """(b)"""
        prefixes = [self.prefix(video) for video in range(len(questions))]
        pairs = [(prefixes[v], q) for v, of_video in enumerate(questions) for q in of_video]
        answers: Answers = []
        for low in range(0, len(pairs), BATCH):
            batch = pairs[low : low + BATCH]
            answers += self._generate([p for p, _ in batch], [q for _, q in batch], num_tokens)
        return answers

    def _by_engine(self, name: str, questions: list[Answers], num_tokens: int) -> Answers:
        """(c) and (d), as jobs do it: one video decodes while others are answered."""
        return asyncio.run(self._all_videos(self._engines[name], questions, num_tokens))

    async def _all_videos(
        self, engine: Engine, questions: list[Answers], num_tokens: int
    ) -> Answers:
        generation = GenerationSpec(max_new_tokens=num_tokens)
        decoder = asyncio.Lock()

        async def answer(video: int, of_video: Answers) -> Answers:
            async with decoder:
                frames = await asyncio.to_thread(self.frames, video)
            visual = await asyncio.to_thread(self.llava.visual_tokens, frames, SlowFastPooling())
            suffixes = [Suffix(token_ids=ids, seed=0) for ids in of_video]
            done = await engine.complete(visual, suffixes, generation)
            for one in done:
                if not isinstance(one, Completion):
                    raise one
            return [list(one.token_ids) for one in done]

        tasks = (answer(video, of_video) for video, of_video in enumerate(questions))
        return [tokens for of_video in await asyncio.gather(*tasks) for tokens in of_video]

    @torch.inference_mode()
    def _generate(self, prefixes: list[Tensor], questions: Answers, num_tokens: int) -> Answers:
        text = self.plain.get_input_embeddings()(torch.tensor(questions))
        embeddings = torch.cat([torch.stack(prefixes), text], dim=1)
        out = self.plain.generate(
            inputs_embeds=embeddings,
            attention_mask=torch.ones(embeddings.shape[:2], dtype=torch.long),
            max_new_tokens=num_tokens,
            do_sample=False,
            pad_token_id=0,
        )
        return out.tolist()

    @torch.inference_mode()
    def gap(self, video: int, question: list[int], one: list[int], other: list[int]) -> float:
        """How far the logits of two answers' first different tokens are apart."""
        at = next(n for n, (a, b) in enumerate(zip(one, other, strict=True)) if a != b)
        text = self.plain.get_input_embeddings()(torch.tensor(question + one[:at]))
        states = self.plain.model.language_model(
            inputs_embeds=torch.cat([self._kept_prefix(video), text])[None]
        ).last_hidden_state
        logits = self.plain.lm_head(states[0, -1])
        return abs(logits[one[at]] - logits[other[at]]).item()


def measure(bench: Bench, num_questions: int, num_tokens: int) -> Row:
    rng = np.random.default_rng(num_questions)
    num_videos = NUM_VIDEOS[num_questions]
    shape = (num_videos, num_questions, QUESTION_TOKENS)
    questions = rng.integers(3, END_TOKEN, shape).tolist()
    few = [of_video[:MOST_ONE_AT_A_TIME] for of_video in questions]
    seconds: dict[str, float] = {}
    answers: dict[str, dict[tuple[int, int], list[int]]] = {}
    for name, way in bench.ways.items():
        started = time.perf_counter()
        asked = few if name == ONE_AT_A_TIME else questions
        given = way(asked, num_tokens)
        seconds[name] = time.perf_counter() - started
        numbers = [(video, n) for video, of_video in enumerate(asked) for n in range(len(of_video))]
        answers[name] = dict(zip(numbers, given, strict=True))
    seconds[ONE_AT_A_TIME] *= num_questions / len(few[0])
    gaps = [
        bench.gap(video, questions[video][number], answers["batches"][video, number], given)
        for of_way in answers.values()
        for (video, number), given in of_way.items()
        if given != answers["batches"][video, number]
    ]
    return Row(
        num_videos=num_videos,
        num_questions=num_questions,
        num_tokens=num_tokens,
        seconds=seconds,
        largest_gap=max(gaps, default=None),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """What a phase of the light engine needs, and what it gets of the matrix product's peak."""

    name: str
    operations: float
    seconds: float
    peak_per_second: float


@torch.inference_mode()
def phases(bench: Bench) -> list[Phase]:
    """Vision of one video, its prefill, and a decode step of 26 questions."""
    peak = matrix_product_peak()
    frames = bench.frames(0)
    visual = bench.prefix(0)
    language_model = bench.plain.model.language_model
    num_rows, num_steps = 26, 32
    questions = [[[3 + n] * QUESTION_TOKENS for n in range(num_rows)]]
    light = bench.ways["light"]
    few = best_of(3, partial(light, questions, 1))
    many = best_of(3, partial(light, questions, 1 + num_steps))
    positions = len(visual)
    timed = {
        "vision": (
            vision_operations(len(frames)),
            best_of(3, partial(bench.llava.visual_tokens, frames, SlowFastPooling())),
        ),
        "prefill": (
            language_operations(positions, positions / 2),
            best_of(
                3,
                lambda: language_model(inputs_embeds=visual[None], past_key_values=DynamicCache()),
            ),
        ),
        "decode step": (
            language_operations(num_rows, positions + QUESTION_TOKENS)
            + 2 * num_rows * LANGUAGE["width"] * VOCABULARY,
            (many - few) / num_steps,
        ),
    }
    return [
        Phase(name=name, operations=operations, seconds=seconds, peak_per_second=peak)
        for name, (operations, seconds) in timed.items()
    ]


def matrix_product_peak(size: int = 2048) -> float:
    """Floating-point operations a second of a float32 matrix product."""
    left, right = torch.randn(size, size), torch.randn(size, size)
    return 2 * size**3 / best_of(5, lambda: left @ right)


def best_of(times: int, act: Callable[[], object]) -> float:
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        act()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def vision_operations(num_frames: int) -> float:
    """Tower without its unread layer, and projector; a multiply-add counts as two."""
    width, patches = TOWER["width"], (336 // 14) ** 2
    tokens = patches + 1
    layer = 2 * tokens * (4 * width**2 + 2 * width * TOWER["mlp"]) + 4 * tokens**2 * width
    embedding = 2 * patches * 3 * 14**2 * width
    projector = 2 * patches * (width * LANGUAGE["width"] + LANGUAGE["width"] ** 2)
    return num_frames * (embedding + (TOWER["layers"] - 1) * layer + projector)


def language_operations(num_tokens: int, num_seen: float) -> float:
    """All layers for tokens that each see so many positions."""
    width = LANGUAGE["width"]
    weights = 4 * width**2 + 3 * width * LANGUAGE["mlp"]
    return LANGUAGE["layers"] * num_tokens * (2 * weights + 4 * num_seen * width)


def table(rows: list[Row]) -> str:
    """Ratios within this run: how many times faster than (a), and than the better of (a), (b)."""
    lines = [
        "| videos | questions each | tokens | (b) batches of 8 | (c) light | (d) vLLM "
        "| (c) over best of (a), (b) | (d) over best of (a), (b) | tokens |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        slow = row.seconds[ONE_AT_A_TIME]
        best = min(slow, row.seconds["batches"])
        cells = [str(row.num_videos), str(row.num_questions), str(row.num_tokens)]
        cells += [_ratio(slow, row.seconds.get(way)) for way in ("batches", "light", "vllm")]
        cells += [_ratio(best, row.seconds.get(way)) for way in ("light", "vllm")]
        gap = row.largest_gap
        cells.append("equal" if gap is None else f"near-ties, logits up to {gap:.1e} apart")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _ratio(slow: float, seconds: float | None) -> str:
    return f"{slow / seconds:.2f} x" if seconds else "not run"


def phase_table(measured: list[Phase]) -> str:
    lines = ["| phase | operations | of the matrix product's peak |", "|---|---|---|"]
    for phase in measured:
        share = phase.operations / phase.seconds / phase.peak_per_second
        lines.append(f"| {phase.name} | {phase.operations / 1e9:.1f} G | {share:.0%} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--row", choices=ROWS, action="append", help="only this row; repeatable")
    parser.add_argument("--results", type=Path, help="where the tables are written")
    options = parser.parse_args()
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        for way in bench.ways.values():
            way([[[3, 4]]], 2)
        rows: list[Row] = []
        for name in options.row or ROWS:
            rows.append(measure(bench, *ROWS[name]))
            print(asdict(rows[-1]), flush=True)
            save(rows, [], options.results)
        save(rows, phases(bench), options.results)


def save(rows: list[Row], measured: list[Phase], folder: Path | None) -> None:
    """Prints the table and, where a folder is given, writes it, with what there is so far."""
    text = (
        f"# The engines against one question at a time, {date.today()}\n\n"
        f"{processor()}, 2 threads, float32; `python -m benchmarks.bench_engine`. How many times\n"
        "faster than (a), one question at a time with decoding, encoding and prefill each.\n\n"
        f"{table(rows)}\n"
    )
    if measured:
        text += (
            "\nHow close the light engine is to the machine: what each phase needs, over what the\n"
            "matrix product (float32, 2,048 squared) reaches in the same run.\n\n"
            f"{phase_table(measured)}\n"
        )
    print(text, flush=True)
    if folder:
        stem = folder / f"{date.today()}-engine"
        stem.with_suffix(".md").write_text(text)
        about = {
            "command": "python -m benchmarks.bench_engine",
            "date": f"{date.today()}",
            "processor": processor(),
        }
        found = about | {"rows": [asdict(r) for r in rows], "phases": [asdict(p) for p in measured]}
        stem.with_suffix(".json").write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()

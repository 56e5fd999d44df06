"""What only a GPU can show: parity, memory, shares of a GPU, and speed, at models' real sizes.

    python -m benchmarks.check_gpu --results benchmarks/results

Needs a CUDA machine with torch and transformers, no download and no Ray. Weights are random and
drawn on the GPU; each part runs in a process of its own, so that peaks are its own. `--part` runs
a single part, and the table keeps what other parts found before. The exit code is 1 if something
that must hold doesn't.
Shape legend: L prefix positions, W width.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import logging
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from transformers import DynamicCache

from benchmarks.random_checkpoints import save_random
from benchmarks.sample_videos import whole_video
from sfray.config import (
    GenerationSpec,
    parse_job_spec,
)
from sfray.errors import RequestError
from sfray.model.engines.interface import Completion, Engine, Suffix
from sfray.model.engines.transformers import TransformersEngine
from sfray.model.llava import Llava
from sfray.model.memory import GIB, ITEMS_IN_FLIGHT, InFlight, memory_need, need_of, num_parameters
from sfray.model.presets import PRESETS
from sfray.model.profile import ModelProfile
from sfray.model.prompt_tokens import PromptTokenizer
from sfray.pooling import SlowFastPooling
from sfray.records import DecodedItem, DecodedVideo, Generation, Request, VideoFacts
from sfray.stages.answer_prompts import AnswerPrompts
from sfray.stages.decode_video import DecodeConfig, DecodeVideo

PARITY = Path(__file__).parent.parent / "tests" / "resources" / "parity"
IMAGE = -200
# Sums are taken in another order than on the CPU that made the figures; see tests/parity.
FEATURE_TOLERANCE = 1e-4
ESTIMATE_TOLERANCE = 0.1
# In bfloat16 sums in another order choose another token where two logits are so near, in standard
# deviations of all; a wrong token would be several away.
NEAR_TIE = 0.5
LOGPROB_TOLERANCE = 0.05
SEVEN_B = "llava-hf/llava-v1.6-vicuna-7b-hf"
HALF_B = "llava-hf/llava-onevision-qwen2-0.5b-ov-hf"
MEMORY_OF = (
    (SEVEN_B, "bfloat16"),
    (SEVEN_B, "float16"),
    ("llava-hf/llava-v1.6-vicuna-13b-hf", "bfloat16"),
    (HALF_B, "bfloat16"),
    ("llava-hf/llava-v1.6-mistral-7b-hf", "bfloat16"),
    ("llava-hf/llava-onevision-qwen2-7b-ov-hf", "bfloat16"),
)
NUM_FRAMES = 50
QUESTION_TOKENS = 20
# (videos, questions a video, tokens an answer). One question at a time does the same work for
# each: it answers so many, its time is that of as many as the engine answers.
SPEED = ((4, 26, 8), (4, 26, 64), (16, 1, 8), (16, 1, 64))
MOST_ONE_AT_A_TIME = 4
Ids = list[list[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """`holds` is None for what is only told."""

    what: str
    told: str
    holds: bool | None = None
    figures: dict[str, Any] = field(default_factory=dict)


def parity(_: Path) -> list[Finding]:
    """Pixels, features and greedy tokens against those of the reference on a CPU."""
    checkpoint = PARITY / "checkpoint"
    llava = Llava(checkpoint, "float32", (24, 24))
    engine = TransformersEngine(llava, PromptTokenizer.from_folder(checkpoint))
    stage = DecodeVideo(DecodeConfig(num_frames=NUM_FRAMES, image_size=336))
    same_pixels, farthest, equal, smallest_gap = [], 0.0, [], float("inf")
    for path in sorted((PARITY / "expected").glob("*.json")):
        expected = json.loads(path.read_text())
        uri = str(PARITY / "videos" / expected["video"])
        decoded = stage(whole_video(uri)).video
        if decoded is None:
            raise RuntimeError(f"{uri} doesn't decode")
        pixels = llava.pixels(decoded.frames_THWC).cpu().numpy().tobytes()
        same_pixels.append(hashlib.sha256(pixels).hexdigest() == expected["pixels"]["sha256"])
        visual_LW = llava.visual_tokens(decoded.frames_THWC, SlowFastPooling())
        for row, columns in expected["slowfast"]["first_8_columns_of_rows"].items():
            off = (visual_LW[int(row), :8].cpu() - torch.tensor(columns)).abs().max().item()
            farthest = max(farthest, off)
        by_prefix: dict[tuple[int, ...], list[dict[str, Any]]] = {}
        for case in expected["cases"]:
            before = case["input_ids"][: case["input_ids"].index(IMAGE)]
            by_prefix.setdefault(tuple(before), []).append(case)
        for before_ids, cases in by_prefix.items():
            prefix_LW = torch.cat([_embed(llava, list(before_ids)), visual_LW])
            after = [case["input_ids"][len(before_ids) + 1 :] for case in cases]
            for case, one in zip(cases, _complete(engine, [prefix_LW], [after], 32), strict=True):
                equal.append(list(one.token_ids) == case["output_ids"])
                smallest_gap = min(smallest_gap, case["smallest_top2_logit_gap"])
    stage.close()
    return [
        Finding(
            what="pixels equal the reference's, bit for bit",
            told=f"{sum(same_pixels)} of {len(same_pixels)} videos",
            holds=all(same_pixels),
        ),
        Finding(
            what="pooled features, float32",
            told=f"at most {farthest:.1e} off, {FEATURE_TOLERANCE:.0e} allowed",
            holds=farthest <= FEATURE_TOLERANCE,
            figures={"largest_difference": farthest},
        ),
        Finding(
            what="greedy tokens equal the reference's, float32",
            told=f"{sum(equal)} of {len(equal)} cases; least gap of two logits {smallest_gap:.0e}",
            holds=all(equal),
        ),
    ]


def float32(root: Path) -> list[Finding]:
    """A model of real size, where numbers are exact enough for all tokens to be equal."""
    llava = _llava(root, HALF_B, "float32")
    num_tokens = 24
    visual = [llava.visual_tokens(_frames(video, 384), SlowFastPooling()) for video in range(3)]
    questions = _questions(len(visual), 4)
    alone = [
        _generate(llava, visual[video], question, num_tokens)
        for video, of_video in enumerate(questions)
        for question in of_video
    ]
    tokenizer = PromptTokenizer.from_folder(root / _name(HALF_B))
    completions = _complete(TransformersEngine(llava, tokenizer), visual, questions, num_tokens)
    together = [list(one.token_ids) for one in completions]
    different = len({tuple(tokens) for tokens in alone})
    return [
        Finding(
            what=f"{_name(HALF_B)}, float32: greedy tokens equal `generate`, one at a time",
            told=f"{_num_equal(alone, together)} of {len(alone)}, {different} different texts",
            holds=alone == together,
        )
    ]


def squeezed(root: Path) -> list[Finding]:
    """7B with memory for a part of what it takes on: it runs out, takes on less, and goes on."""
    llava = _llava(root, SEVEN_B, "bfloat16")
    tokenizer = PromptTokenizer.from_folder(root / _name(SEVEN_B))
    num_tokens = 32
    visual = [llava.visual_tokens(_frames(video, 336), SlowFastPooling()) for video in range(8)]
    questions = _questions(len(visual), 4)
    engine = TransformersEngine(llava, tokenizer)
    completions = _complete(engine, visual, questions, num_tokens)
    asked = [(video, ids) for video, of_video in enumerate(questions) for ids in of_video]
    off = [
        abs(
            (one.mean_logprob or 0.0)
            - _mean_logprob(llava, visual[video], ids, list(one.token_ids))
        )
        for (video, ids), one in zip(asked, completions, strict=True)
    ]
    torch.cuda.empty_cache()
    # Room for the keys and values of two videos, and the work on one.
    need = _need(SEVEN_B, 2, QUESTION_TOKENS, num_tokens)
    room = torch.cuda.memory_allocated() + 2 * need.video + need.prefill + GIB
    _, total = torch.cuda.mem_get_info()
    torch.cuda.set_per_process_memory_fraction(room / total)
    with _warnings() as warnings:
        crowded = TransformersEngine(llava, tokenizer, in_flight=InFlight())
        again = _complete(crowded, visual, questions, num_tokens)
    return [
        Finding(
            what="7B, bfloat16: mean log-probability of an answer, by transformers' own forward",
            told=f"at most {max(off):.3f} off, {LOGPROB_TOLERANCE:g} allowed",
            holds=max(off) <= LOGPROB_TOLERANCE,
            figures={"largest_difference": max(off)},
        ),
        Finding(
            what="7B, bfloat16: 32 requests of 8 videos with memory for 2 videos",
            told=f"{len(again)} answered; {'; '.join(warnings)}",
            holds=bool(warnings),
        ),
    ]


def _memory(root: Path, model_id: str, dtype: str) -> list[Finding]:
    """The estimate against torch's peaks, step by step."""
    sizes = PRESETS[model_id]
    _checkpoint(root, model_id)
    loading = time.perf_counter()
    llava = _llava(root, model_id, dtype)
    loading = time.perf_counter() - loading
    num_tokens = 16
    need = _need(model_id, 2, QUESTION_TOKENS, num_tokens)
    weights = torch.cuda.memory_allocated()
    frames_THWC = _frames(0, sizes.image_size)
    visual_LW = llava.visual_tokens(frames_THWC, SlowFastPooling())
    torch.cuda.synchronize()
    vision = torch.cuda.max_memory_allocated()
    features = visual_LW.nbytes
    steps = [("weights", need.weights, weights), ("vision", need.weights + need.vision, vision)]
    engine = TransformersEngine(llava, PromptTokenizer.from_folder(root / _name(model_id)))
    for in_flight in (InFlight(26, 1), InFlight(64, 8)):
        num_videos = in_flight.num_videos
        visual = [torch.cat([visual_LW]) for _ in range(num_videos)]
        torch.cuda.reset_peak_memory_stats()
        _complete(engine, visual, _questions(num_videos, in_flight.num_requests // num_videos), 16)
        # A prefix is a copy of the visual tokens in a job; here it is they.
        peak = torch.cuda.max_memory_allocated() - features
        name = f"{in_flight.num_requests} requests of {num_videos} videos"
        estimate = need.weights + need.engine(in_flight) - num_videos * features
        steps.append((name, estimate, peak))
        del visual
    name = f"{_name(model_id)}, {dtype}"
    findings = [
        Finding(
            what=f"{name}: memory of {step}",
            told=f"{peak / GIB:.2f} GiB, estimated {estimate / GIB:.2f} GiB: "
            f"{estimate / peak - 1:+.1%}",
            holds=abs(estimate / peak - 1) <= ESTIMATE_TOLERANCE,
            figures={"estimated_bytes": estimate, "peak_bytes": peak},
        )
        for step, estimate, peak in steps
    ]
    return [*findings, Finding(what=f"{name}: loading", told=f"{loading:.1f} s")]


def speed(root: Path) -> list[Finding]:
    """7B in bfloat16 against one question at a time, and how close that is to the machine."""
    llava = _llava(root, SEVEN_B, "bfloat16")
    tokenizer = PromptTokenizer.from_folder(root / _name(SEVEN_B))
    videos = [_frames(video, 336) for video in range(max(row[0] for row in SPEED))]
    _one_at_a_time(llava, videos[:1], [[[3, 4]]], 2)
    rows = []
    for num_videos, num_questions, num_tokens in SPEED:
        few_videos = min(num_videos, MOST_ONE_AT_A_TIME)
        per_video = -(-MOST_ONE_AT_A_TIME // few_videos)
        questions = [
            of_video[:per_video] for of_video in _questions(num_videos, num_questions)[:few_videos]
        ]
        started = time.perf_counter()
        alone = _one_at_a_time(llava, videos, questions, num_tokens)
        rows.append((alone, (time.perf_counter() - started) / len(alone), questions))
    parts = _phases(llava, videos[0])
    engine = TransformersEngine(llava, tokenizer)
    asyncio.run(_all_videos(llava, engine, videos[:2], [[[3, 4]]] * 2, 2))
    findings = [_attention(llava, videos[0]), *parts]
    for (num_videos, num_questions, num_tokens), (alone, each, few) in zip(
        SPEED, rows, strict=True
    ):
        questions = _questions(num_videos, num_questions)
        started = time.perf_counter()
        given = asyncio.run(_all_videos(llava, engine, videos[:num_videos], questions, num_tokens))
        seconds = time.perf_counter() - started
        same = [
            given[video * num_questions + number]
            for video, of_video in enumerate(few)
            for number in range(len(of_video))
        ]
        asked = [(video, question) for video, of_video in enumerate(few) for question in of_video]
        gaps = [
            _gap(llava, videos[video], question, one, other)
            for (video, question), one, other in zip(asked, alone, same, strict=True)
            if one != other
        ]
        rate = num_videos * num_questions / seconds
        findings.append(
            Finding(
                what=f"7B, bfloat16: {num_videos} videos, {num_questions} questions each, "
                f"{num_tokens} tokens",
                told=f"{num_videos / seconds:.2f} videos/s, {rate:.2f} answers/s; one at a time "
                f"{1 / each:.2f} answers/s: {rate * each:.1f} times; tokens equal in "
                f"{_num_equal(alone, same)} of {len(alone)}"
                + (f", else logits up to {max(gaps):.2g} deviations apart" if gaps else ""),
                figures={
                    "seconds": seconds,
                    "seconds_one_at_a_time": each * num_videos * num_questions,
                    "gaps": gaps,
                },
                holds=max(gaps, default=0) <= NEAR_TIE,
            )
        )
    return [*findings, _decode_steps(llava, engine, videos[0])]


def _one_at_a_time(
    llava: Llava, videos: list[np.ndarray], questions: list[Ids], num_tokens: int
) -> Ids:
    """Every question encodes and prefills anew, as the reference does."""
    return [
        _generate(
            llava,
            llava.visual_tokens(videos[video], SlowFastPooling()),
            question,
            num_tokens,
        )
        for video, of_video in enumerate(questions)
        for question in of_video
    ]


async def _all_videos(
    llava: Llava, engine: Engine, videos: list[np.ndarray], questions: list[Ids], num_tokens: int
) -> Ids:
    """As the model stage does it: a video is encoded while others are answered."""
    generation = GenerationSpec(max_new_tokens=num_tokens)

    async def answer(frames_THWC: np.ndarray, of_video: Ids) -> Ids:
        visual_LW = await asyncio.to_thread(llava.visual_tokens, frames_THWC, SlowFastPooling())
        suffixes = [Suffix(token_ids=ids, seed=0) for ids in of_video]
        completions = _answered_all(await engine.complete(visual_LW, suffixes, generation))
        return [list(one.token_ids) for one in completions]

    tasks = (answer(video, of_video) for video, of_video in zip(videos, questions, strict=True))
    return [tokens for of_video in await asyncio.gather(*tasks) for tokens in of_video]


def _attention(llava: Llava, frames_THWC: np.ndarray) -> Finding:
    """Which of torch's attention kernels the tower and a prefill run on."""

    def kernels(act: Callable[[], object]) -> str:
        with profile(activities=[ProfilerActivity.CPU]) as profiled:
            act()
        names = {event.name for event in profiled.events()}
        return ", ".join(
            sorted(
                name.removeprefix("aten::_scaled_dot_product_").removesuffix("_attention")
                for name in names
                if name.startswith("aten::_scaled_dot_product")
            )
        )

    visual_LW = llava.visual_tokens(frames_THWC, SlowFastPooling())
    tower = kernels(partial(llava.visual_tokens, frames_THWC, SlowFastPooling()))
    prefill = kernels(partial(_prefill, llava, visual_LW))
    return Finding(what="SDPA kernels, bfloat16", told=f"tower: {tower}; prefill: {prefill}")


def _phases(llava: Llava, frames_THWC: np.ndarray) -> list[Finding]:
    """Vision of a video and its prefill: operations over those of a matrix product's peak."""
    sizes = PRESETS[SEVEN_B]
    visual_LW = llava.visual_tokens(frames_THWC, SlowFastPooling())
    square = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    peak = 2 * len(square) ** 3 / _best(lambda: square @ square)
    tower, patches = sizes.tower, sizes.patch_grid[0] * sizes.patch_grid[1]
    width, length = sizes.hidden_size, len(visual_LW)
    layer = 2 * (4 * tower.hidden_size**2 + 2 * tower.hidden_size * tower.intermediate_size)
    seen = 4 * patches * tower.hidden_size
    projector = 2 * (tower.hidden_size * width + width**2)
    operations = {
        "vision of a video": NUM_FRAMES
        * patches
        * (tower.num_layers_read * (layer + seen) + projector),
        "prefill of a video": length
        * (2 * _layer_parameters(sizes) + sizes.num_layers * 4 * length / 2 * width),
    }
    seconds = {
        "vision of a video": _best(partial(llava.visual_tokens, frames_THWC, SlowFastPooling())),
        "prefill of a video": _best(partial(_prefill, llava, visual_LW)),
    }
    return [
        Finding(
            what=f"7B, bfloat16: {name}",
            told=f"{seconds[name] * 1000:.0f} ms, {needed / 1e12:.1f} T operations: "
            f"{needed / seconds[name] / peak:.0%} of a matrix product's {peak / 1e12:.0f} T/s",
            figures={"operations": needed, "seconds": seconds[name], "peak_per_second": peak},
        )
        for name, needed in operations.items()
    ]


def _decode_steps(llava: Llava, engine: Engine, frames_THWC: np.ndarray) -> Finding:
    """Milliseconds of a decode step, from answers of two lengths."""
    visual_LW = llava.visual_tokens(frames_THWC, SlowFastPooling())
    told, figures = [], {}
    for num_videos, num_questions in ((1, 1), (1, 26), (8, 1), (8, 8)):
        visual, questions = [visual_LW] * num_videos, _questions(num_videos, num_questions)
        short, long = (
            _best(partial(_complete, engine, visual, questions, num_tokens), 2)
            for num_tokens in (1, 33)
        )
        milliseconds = (long - short) / 32 * 1000
        told.append(f"{num_videos} x {num_questions}: {milliseconds:.1f} ms")
        figures[f"{num_videos}x{num_questions}"] = milliseconds
    return Finding(
        what="7B, bfloat16: a decode step of videos x questions",
        told=", ".join(told),
        figures=figures,
    )


def halves(root: Path) -> list[Finding]:
    """Two replicas at half a GPU, at once, as jobs make them: each held to its half."""
    _checkpoint(root, SEVEN_B)
    with _pool(2) as pool:
        running = [pool.submit(_replica, root, 0.5) for _ in range(2)]
        told = [future.result() for future in running]
    together = min(one["ended"] for one in told) - max(one["began"] for one in told)
    findings = [
        Finding(
            what="two replicas of 7B at 0.5 GPU answer at once",
            told=f"{together:.1f} s together; answers of both are "
            + ("equal" if told[0]["texts"] == told[1]["texts"] else "different"),
            holds=together > 0,
        )
    ]
    for number, one in enumerate(told, 1):
        findings.append(
            Finding(
                what=f"replica {number} of 2",
                told=f"{one['num_answers']} of {one['num_requests']} answered in "
                f"{one['ended'] - one['began']:.1f} s, {one['in_flight']}; "
                f"{one['reserved'] / GIB:.1f} of {one['share'] / GIB:.1f} GiB taken, "
                f"{one['peak'] / GIB:.1f} GiB allocated, {one['estimate'] / GIB:.1f} GiB "
                f"estimated; beyond its half: {one['beyond']}"
                + "".join(f"; {warning}" for warning in one["warnings"]),
                holds=one["num_answers"] == one["num_requests"]
                and one["reserved"] <= one["share"]
                and one["peak"] <= one["estimate"] * (1 + ESTIMATE_TOLERANCE)
                and one["beyond"] == "out of memory"
                and not one["warnings"],
                figures={name: value for name, value in one.items() if name != "texts"},
            )
        )
    return findings


def _replica(root: Path, share: float) -> dict[str, Any]:
    spec = parse_job_spec(
        {
            "manifest": {"uri": "unused"},
            "task": "qa",
            "model": {"id": str(root / _name(SEVEN_B)), "engine": "transformers"},
            "generation": {"max_new_tokens": 32},
            "resources": {"num_gpus_per_replica": share},
            "output": {"uri": "unused"},
        }
    )
    stage = AnswerPrompts(spec)
    items = [_decoded(video, 8) for video in range(2 * ITEMS_IN_FLIGHT)]
    torch.cuda.reset_peak_memory_stats()
    began = time.time()
    with _warnings() as warnings:
        texts = asyncio.run(_answered(stage, items))
    ended = time.time()
    _, total = torch.cuda.mem_get_info()
    in_flight = memory_need(spec, PRESETS[SEVEN_B]).fitting(share * total)
    if in_flight is None:
        raise RuntimeError(f"7B doesn't fit into {share} of {total / GIB:.0f} GiB")
    peak, reserved = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
    return {
        "began": began,
        "ended": ended,
        "texts": texts,
        "num_requests": 8 * len(items),
        "num_answers": sum(text is not None for text in texts),
        "in_flight": f"{in_flight.num_requests} requests of {in_flight.num_videos} videos",
        "peak": peak,
        "reserved": reserved,
        "share": share * total,
        "estimate": memory_need(spec, PRESETS[SEVEN_B]).total(in_flight),
        "warnings": list(warnings),
        "beyond": _beyond(int(share * total) - torch.cuda.memory_allocated() + GIB),
    }


async def _answered(stage: AnswerPrompts, items: list[DecodedItem]) -> list[str | None]:
    """As many items in flight as in a job; None for what failed."""
    places = asyncio.Semaphore(ITEMS_IN_FLIGHT)

    async def answer(item: DecodedItem) -> list[str | None]:
        async with places:
            outcomes = await stage(item)
        results = (outcome.result for outcome in outcomes)
        return [r.text if isinstance(r, Generation) else None for r in results]

    return [text for texts in await asyncio.gather(*map(answer, items)) for text in texts]


def _beyond(num_bytes: int) -> str:
    torch.cuda.empty_cache()
    try:
        torch.empty(num_bytes, dtype=torch.uint8, device="cuda")
    except torch.OutOfMemoryError:
        return "out of memory"
    return "allocated"


def _decoded(video: int, num_questions: int) -> DecodedItem:
    requests = tuple(
        Request(request_id=f"{video}/{n}", prompt_id=str(n), prompt=" ".join(f"w{i}" for i in ids))
        for n, ids in enumerate(_questions(video + 1, num_questions)[video])
    )
    frames_THWC = _frames(video, 336)
    return DecodedItem(
        item=whole_video(f"{video}.mp4", requests),
        video=DecodedVideo(
            frames_THWC=frames_THWC,
            frame_indices=np.arange(NUM_FRAMES),
            pts_seconds=np.arange(NUM_FRAMES, dtype=np.float64),
            facts=VideoFacts(),
            reader="none",
            reader_reason="made up",
        ),
        failure=None,
    )


def _frames(seed: int, size: int) -> np.ndarray:
    """uint8 (50, size, size, 3), coarse coloured squares."""
    coarse = np.random.default_rng(seed).integers(0, 256, (NUM_FRAMES, 12, 12, 3), np.uint8)
    side = size // 12
    return np.ascontiguousarray(coarse.repeat(side, axis=1).repeat(side, axis=2))


def _questions(num_videos: int, num_questions: int) -> list[Ids]:
    """Of each video; the first of more are the same."""
    return [
        [
            np.random.default_rng((video, number)).integers(3, 30_000, QUESTION_TOKENS).tolist()
            for number in range(num_questions)
        ]
        for video in range(num_videos)
    ]


def _name(model_id: str) -> str:
    return model_id.rpartition("/")[2]


def _checkpoint(root: Path, model_id: str) -> Path:
    folder = root / _name(model_id)
    if not folder.exists():
        with _pool() as pool:
            pool.submit(save_random, folder, PRESETS[model_id], "cuda").result()
    return folder


def _llava(root: Path, model_id: str, dtype: str) -> Llava:
    return Llava(_checkpoint(root, model_id), dtype, PRESETS[model_id].patch_grid)


def _need(model_id: str, item: int, num_text_tokens: int, num_new_tokens: int) -> Any:
    return need_of(
        PRESETS[model_id],
        num_frames=NUM_FRAMES,
        pooling=SlowFastPooling(),
        num_text_tokens=num_text_tokens,
        num_new_tokens=num_new_tokens,
        item=item,
    )


def _layer_parameters(sizes: ModelProfile) -> int:
    """Of the language model's layers, without embeddings and without tower."""
    return num_parameters(sizes) - num_parameters(replace(sizes, num_layers=0))


@torch.inference_mode()
def _embed(llava: Llava, ids: list[int]) -> Tensor:
    return llava.model.get_input_embeddings()(torch.tensor(ids, device=llava.device))


@torch.inference_mode()
def _prefill(llava: Llava, visual_LW: Tensor) -> Tensor:
    return llava.model.model.language_model(
        inputs_embeds=visual_LW[None], past_key_values=DynamicCache()
    ).last_hidden_state


@torch.inference_mode()
def _generate(llava: Llava, visual_LW: Tensor, question: list[int], num_tokens: int) -> list[int]:
    embeddings = torch.cat([visual_LW, _embed(llava, question)])[None]
    out = llava.model.generate(
        inputs_embeds=embeddings,
        attention_mask=torch.ones(embeddings.shape[:2], dtype=torch.long, device=llava.device),
        max_new_tokens=num_tokens,
        do_sample=False,
    )
    return out[0].tolist()


@torch.inference_mode()
def _mean_logprob(llava: Llava, visual_LW: Tensor, question: list[int], answer: list[int]) -> float:
    embeddings = torch.cat([visual_LW, _embed(llava, question + list(answer))])
    states_LW = _prefill(llava, embeddings)[0, -len(answer) - 1 : -1]
    logprobs_LV = llava.model.lm_head(states_LW).float().log_softmax(-1)
    return logprobs_LV.gather(-1, torch.tensor(answer, device=llava.device)[:, None]).mean().item()


@torch.inference_mode()
def _gap(
    llava: Llava, frames_THWC: np.ndarray, question: list[int], one: list[int], other: list[int]
) -> float:
    """How far the logits of two answers' first different tokens are apart, over their deviation."""
    at = next(n for n, (a, b) in enumerate(zip(one, other, strict=True)) if a != b)
    visual_LW = llava.visual_tokens(frames_THWC, SlowFastPooling())
    embeddings = torch.cat([visual_LW, _embed(llava, question + one[:at])])
    states_LW = _prefill(llava, embeddings)[0]
    logits_V = llava.model.lm_head(states_LW[-1]).float()
    return (logits_V[one[at]] - logits_V[other[at]]).abs().item() / logits_V.std().item()


def _complete(
    engine: Engine, prefixes: list[Tensor], questions: list[Ids], num_tokens: int
) -> list[Completion]:
    generation = GenerationSpec(max_new_tokens=num_tokens)

    async def of_all() -> list[list[Completion | RequestError]]:
        calls = (
            engine.complete(prefix, [Suffix(token_ids=ids, seed=0) for ids in ids_], generation)
            for prefix, ids_ in zip(prefixes, questions, strict=True)
        )
        return await asyncio.gather(*calls)

    return [one for of_video in asyncio.run(of_all()) for one in _answered_all(of_video)]


def _answered_all(results: list[Completion | RequestError]) -> list[Completion]:
    for result in results:
        if isinstance(result, RequestError):
            raise result
    return [result for result in results if isinstance(result, Completion)]


def _num_equal(one: Ids, other: Ids) -> int:
    return sum(a == b for a, b in zip(one, other, strict=True))


def _best(act: Callable[[], object], times: int = 5) -> float:
    seconds = []
    for _ in range(times):
        torch.cuda.synchronize()
        started = time.perf_counter()
        act()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


@contextlib.contextmanager
def _warnings() -> Iterator[list[str]]:
    """What sfray warns of meanwhile."""
    told: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("sfray")
    logger.addHandler(handler)
    yield told
    logger.removeHandler(handler)


def _pool(num_processes: int = 1) -> ProcessPoolExecutor:
    """Of fresh processes: CUDA survives no fork, and an engine keeps its memory."""
    return ProcessPoolExecutor(
        num_processes, multiprocessing.get_context("spawn"), max_tasks_per_child=1
    )


PARTS: dict[str, Callable[[Path], list[Finding]]] = {
    "parity": parity,
    "float32": float32,
    "speed": speed,
    "halves": halves,
    "squeezed": squeezed,
    **{
        f"memory-{_name(model_id)}-{dtype}": partial(_memory, model_id=model_id, dtype=dtype)
        for model_id, dtype in MEMORY_OF
    },
}


def save(name: str, findings: list[Finding], folder: Path, about: dict[str, str]) -> None:
    """Writes the table, with what other calls found on the same day on the same card."""
    stem = folder / f"{about['date']}-gpu"
    path = stem.with_suffix(".json")
    before = json.loads(path.read_text()) if path.exists() else {}
    same = {key: before.get(key) for key in about} == about
    parts = (before["parts"] if same else {}) | {name: [asdict(f) for f in findings]}
    path.write_text(json.dumps(about | {"parts": parts}, indent=1) + "\n")
    lines = [
        f"# What a GPU shows, {about['date']}",
        "",
        f"{about['card']}, torch {about['torch']}, transformers {about['transformers']}; "
        f"`{about['command']}`.",
        "Random weights at the models' real sizes, 50 frames, 3,680 visual tokens.",
        "",
        "| part | check | found | holds |",
        "|---|---|---|---|",
    ]
    words = {True: "yes", False: "**no**", None: ""}
    lines += [
        f"| {part} | {f['what']} | {f['told']} | {words[f['holds']]} |"
        for part, found in parts.items()
        for f in found
    ]
    stem.with_suffix(".md").write_text("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=PARTS, action="append", help="only this; repeatable")
    parser.add_argument("--results", type=Path, help="where table and figures are written")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("torch sees no GPU here")
    about = {
        "command": "python -m benchmarks.check_gpu",
        "date": f"{date.today()}",
        "card": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    holds = True
    with tempfile.TemporaryDirectory() as root:
        for name in options.part or PARTS:
            with _pool() as pool:
                findings = pool.submit(PARTS[name], Path(root)).result()
            for finding in findings:
                print(f"{finding.holds!s:5} {finding.what}: {finding.told}", flush=True)
            holds = holds and all(finding.holds is not False for finding in findings)
            if options.results:
                save(name, findings, options.results, about)
    if not holds:
        raise SystemExit(1)


if __name__ == "__main__":
    main()

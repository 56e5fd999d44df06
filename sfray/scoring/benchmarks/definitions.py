"""The benchmarks of the SlowFast-LLaVA paper (arXiv 2407.15841v2) and its published numbers."""

from __future__ import annotations

from sfray.errors import SpecError
from sfray.scoring.benchmarks.benchmark import Benchmark, Columns, Scorer, Split

_OPEN_ENDED = "arXiv 2407.15841v2, table 1 (judged by GPT-3.5-turbo-0125)"
_MULTIPLE_CHOICE = "arXiv 2407.15841v2, table 2"
_GENERATION = "arXiv 2407.15841v2, table 3 (judged by GPT-3.5-turbo-0125)"
_7B = "SF-LLaVA-7B"
_34B = "SF-LLaVA-34B"


def _judged(small: tuple[float, float], large: tuple[float, float]) -> dict[str, dict[str, float]]:
    names = ("judge_accuracy", "judge_score")
    return {
        _7B: dict(zip(names, small, strict=True)),
        _34B: dict(zip(names, large, strict=True)),
    }


def _accuracy(small: float, large: float) -> dict[str, dict[str, float]]:
    return {_7B: {"accuracy": small}, _34B: {"accuracy": large}}


def _generation(*scores: float) -> dict[str, float]:
    names = ("correctness", "detail", "context", "temporal", "consistency", "mean")
    return dict(zip(names, scores, strict=True))


_ALL = (
    Benchmark(
        name="msvd-qa",
        title="MSVD-QA",
        scorer=Scorer.OPEN_ENDED,
        splits=(Split("test", 13157), Split("validation", 6415, 245)),
        published=_judged((79.1, 4.1), (79.9, 4.1)),
        source=_OPEN_ENDED,
        video_stems=("{}", "vid{}"),
        extensions=(".avi", ".mp4", ".mkv", ".webm"),
        question_types=None,
    ),
    Benchmark(
        name="msrvtt-qa",
        title="MSRVTT-QA",
        scorer=Scorer.OPEN_ENDED,
        splits=(Split("test", 72821), Split("validation", 12278)),
        published=_judged((65.8, 3.6), (67.4, 3.7)),
        source=_OPEN_ENDED,
        video_stems=("{}", "video{}"),
        question_types=None,
    ),
    Benchmark(
        name="tgif-qa",
        title="TGIF-QA",
        scorer=Scorer.OPEN_ENDED,
        has_options=None,
        splits=(
            Split("test of FrameQA", 13691, 7132),
            Split("test of action", 2274),
            Split("test of transition", 6232),
            Split("test of count", 3554),
        ),
        published=_judged((78.7, 4.2), (80.6, 4.3)),
        source=f"{_OPEN_ENDED}, FrameQA",
        # `question_id` and `key` name the GIF; these name the question.
        columns=Columns(unique_id=("vid_id", "video_id"), video=("video_name", "gif_name")),
        extensions=(".gif", ".mp4", ".webm"),
        video_names=r"tumblr_.*",
        question_types={"0": "object", "1": "number", "2": "colour", "3": "location"},
    ),
    Benchmark(
        name="activitynet-qa",
        title="ActivityNet-QA",
        scorer=Scorer.OPEN_ENDED,
        splits=(Split("test", 8000, 800), Split("validation", 18000, 1800)),
        published=_judged((55.5, 3.4), (59.2, 3.5)),
        source=_OPEN_ENDED,
        video_stems=("v_{}", "{}"),
        extensions=(".mp4", ".mkv", ".webm"),
        question_types={
            "0": "motion",
            "1": "spatial relation",
            "2": "temporal relation",
            "3": "yes or no",
            "4": "colour",
            "5": "object",
            "6": "location",
            "7": "number",
            "8": "other",
        },
    ),
    Benchmark(
        name="next-qa",
        title="NExT-QA",
        scorer=Scorer.MULTIPLE_CHOICE,
        has_options=True,
        splits=(Split("validation", 4996, 570), Split("test", 8564)),
        published=_accuracy(64.2, 72.0),
        source=_MULTIPLE_CHOICE,
        video_names=r"\d+",
        columns=Columns(video=("video_name", "video", "video_id")),
    ),
    Benchmark(
        name="egoschema",
        title="EgoSchema",
        scorer=Scorer.MULTIPLE_CHOICE,
        has_options=True,
        answers_are_public=False,
        splits=(Split("subset with answers", 500, 500), Split("full set", 5031)),
        published=_accuracy(47.2, 55.8),
        source=f"{_MULTIPLE_CHOICE}, subset with answers",
        video_names=r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
        # A video has one question, and the question is called as its video.
        columns=Columns(unique_id=("q_uid", "video_name")),
    ),
    Benchmark(
        name="intentqa",
        title="IntentQA",
        scorer=Scorer.MULTIPLE_CHOICE,
        has_options=True,
        splits=(Split("test", 2134),),
        published=_accuracy(60.1, 66.5),
        source=_MULTIPLE_CHOICE,
        video_names=r"\d+",
        columns=Columns(video=("video_name", "video", "video_id")),
    ),
    Benchmark(
        name="vcgbench",
        title="VCGBench",
        scorer=Scorer.GENERATION,
        splits=(
            Split("generic", 1996, 499),
            Split("temporal", 499, 499),
            Split("consistency, 499 pairs", 998, 499),
            Split("all", 3493, 499),
        ),
        published={
            _7B: _generation(3.09, 2.70, 3.57, 2.52, 3.35, 3.04),
            _34B: _generation(3.48, 2.96, 3.84, 2.77, 3.57, 3.32),
        },
        source=_GENERATION,
        video_stems=("v_{}", "{}"),
        extensions=(".mp4", ".mkv", ".webm"),
    ),
)
BENCHMARKS = {benchmark.name: benchmark for benchmark in _ALL}


def benchmark_named(name: str) -> Benchmark:
    """The benchmark of that name; raises `SpecError` naming those that there are."""
    try:
        return BENCHMARKS[name]
    except KeyError:
        raise SpecError(f"benchmark {name!r} is not one of: {', '.join(BENCHMARKS)}") from None

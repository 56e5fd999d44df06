"""The table of an evaluation: score, interval and coverage, the published numbers beside them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from sfray.scoring.benchmarks.benchmark import Scorer
from sfray.scoring.benchmarks.definitions import BENCHMARKS
from sfray.scoring.bootstrap import VideoBootstrap, interval
from sfray.scoring.metrics import ASPECTS, Row, Scored, is_answered, score, scorer_of

_MISSING_CODES = ("not_found",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """What was asked and what became of it.

    Attributes:
        num_videos_missing: videos that were not found.
        num_undecided: multiple-choice answers that name no option, or several; they are wrong.
        num_empty: answers without text; they are wrong.
        num_without_reference: questions that no score covers.
    """

    num_asked: int
    num_answered: int
    num_videos: int
    num_videos_missing: int
    failures: dict[str, int]
    num_undecided: int
    num_empty: int
    num_without_reference: int

    @property
    def share(self) -> float:
        return self.num_answered / self.num_asked if self.num_asked else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Grouping:
    """What asking a clip's questions together spared, in one output and configuration.

    Attributes:
        num_fetches_saved: questions less clips.
        num_passes_saved: the same over what was answered: so many decodes, so many encodes and
            so many prefills of the frames.
    """

    num_questions: int
    num_clips: int
    num_fetches_saved: int
    num_passes_saved: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One metric over some questions; `low` and `high` bound its 95 % interval."""

    metric: str
    title: str
    question_type: str | None
    value: float
    low: float
    high: float
    num_scored: int
    num_open: int
    published: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One benchmark in one output, as one model configuration answered it."""

    output: str
    benchmark: str
    title: str
    scorer: str
    model_id: str
    fingerprint: str
    split: str | None
    source: str | None
    coverage: Coverage
    grouping: Grouping
    lines: tuple[Line, ...]
    by_type: tuple[Line, ...]

    def as_dict(self) -> dict[str, Any]:
        """The section as JSON values."""
        return asdict(self) | {"coverage": asdict(self.coverage) | {"share": self.coverage.share}}


def make_report(output: str, rows: Sequence[Row], verdicts: Sequence[Row]) -> list[Section]:
    """The sections of one output.

    Args:
        rows: one for each request that was asked, failures and unfinished ones too.
        verdicts: the judge's log of the output; empty without a judge.
    """
    groups: dict[tuple[str, str, Scorer], list[Row]] = defaultdict(list)
    by_fingerprint: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["benchmark"] or "", row["fingerprint"], scorer_of(row)].append(row)
        by_fingerprint[row["fingerprint"]].append(row)
    grouping = {fingerprint: _grouping(asked) for fingerprint, asked in by_fingerprint.items()}
    return [
        _section(output, *group, asked, verdicts, grouping[group[1]])
        for group, asked in sorted(groups.items())
    ]


def _section(
    output: str,
    name: str,
    fingerprint: str,
    scorer: Scorer,
    rows: list[Row],
    verdicts: Sequence[Row],
    grouping: Grouping,
) -> Section:
    benchmark = BENCHMARKS.get(name)
    scored = score(rows, verdicts)
    bootstrap = VideoBootstrap([row["video_id"] for row in rows])
    lines = [_line(s, None, bootstrap) for s in scored]
    lines += _mean_of_aspects(scored, bootstrap)
    splits = benchmark.splits if benchmark else ()
    coverage = _coverage(rows)
    return Section(
        output=output,
        benchmark=name,
        title=benchmark.title if benchmark else name or "no benchmark",
        scorer=scorer.value,
        model_id=next((row["model_id"] for row in rows if row["model_id"]), ""),
        fingerprint=fingerprint,
        split=next((s.name for s in splits if s.has_size(len(rows), coverage.num_videos)), None),
        source=benchmark.source if benchmark else None,
        coverage=coverage,
        grouping=grouping,
        lines=tuple(_with_published(line, name) for line in lines),
        by_type=tuple(_lines_by_type(scored, bootstrap)),
    )


def _coverage(rows: Sequence[Row]) -> Coverage:
    answered = [row for row in rows if is_answered(row)]
    missing = {r["video_id"] for r in rows if r["code"] in _MISSING_CODES}
    undecided = [
        r for r in answered if scorer_of(r) is Scorer.MULTIPLE_CHOICE and r["choice"] is None
    ]
    return Coverage(
        num_asked=len(rows),
        num_answered=len(answered),
        num_videos=len({row["video_id"] for row in rows}),
        num_videos_missing=len(missing),
        failures=dict(sorted(Counter(r["code"] for r in rows if r["code"]).items())),
        num_undecided=len(undecided),
        num_empty=sum(not row["text"].strip() for row in answered),
        num_without_reference=sum(not row["reference_answer"] for row in rows),
    )


def _grouping(rows: Sequence[Row]) -> Grouping:
    answered = [row for row in rows if is_answered(row)]
    num_clips, num_answered_clips = (
        len({(r["video_id"], r["start_seconds"], r["end_seconds"]) for r in asked})
        for asked in (rows, answered)
    )
    return Grouping(
        num_questions=len(rows),
        num_clips=num_clips,
        num_fetches_saved=len(rows) - num_clips,
        num_passes_saved=len(answered) - num_answered_clips,
    )


def _line(scored: Scored, question_type: str | None, bootstrap: VideoBootstrap) -> Line:
    low, high = interval(bootstrap.means(scored.values, scored.videos))
    return Line(
        metric=scored.name,
        title=scored.title,
        question_type=question_type,
        value=float(scored.values.mean()),
        low=low,
        high=high,
        num_scored=len(scored.values),
        num_open=scored.num_open,
    )


def _lines_by_type(scored: Sequence[Scored], bootstrap: VideoBootstrap) -> list[Line]:
    lines = []
    for whole in scored:
        types = sorted(set(whole.types))
        for name in types if len(types) > 1 else ():
            of_type = np.array([t == name for t in whole.types])
            videos = tuple(v for v, chosen in zip(whole.videos, of_type, strict=True) if chosen)
            part = Scored(
                name=whole.name,
                title=whole.title,
                values=whole.values[of_type],
                videos=videos,
                types=(name,) * len(videos),
                keys=(),
            )
            lines.append(_line(part, name or "(none)", bootstrap))
    return lines


def _mean_of_aspects(scored: Sequence[Scored], bootstrap: VideoBootstrap) -> list[Line]:
    """VCGBench's mean of five scores for each judge that gave all five."""
    by_judge: dict[str, dict[str, Scored]] = defaultdict(dict)
    for part in scored:
        if part.name in ASPECTS:
            by_judge[part.title.partition("(")[2]][part.name] = part
    lines = []
    for judge, parts in by_judge.items():
        if parts.keys() != set(ASPECTS):
            continue
        means = np.mean([bootstrap.means(p.values, p.videos) for p in parts.values()], axis=0)
        low, high = interval(means)
        lines.append(
            Line(
                metric="mean",
                title=f"mean of five, 0 to 5 ({judge}",
                question_type=None,
                value=float(np.mean([p.values.mean() for p in parts.values()])),
                low=low,
                high=high,
                num_scored=sum(len(p.values) for p in parts.values()),
                num_open=sum(p.num_open for p in parts.values()),
            )
        )
    return lines


def _with_published(line: Line, name: str) -> Line:
    published = BENCHMARKS[name].published if name in BENCHMARKS else {}
    numbers = {m: values[line.metric] for m, values in published.items() if line.metric in values}
    return Line(**{f: getattr(line, f) for f in line.__slots__} | {"published": numbers})

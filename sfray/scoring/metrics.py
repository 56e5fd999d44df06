"""From results and a judge's verdicts to values, one for each question or pair of questions.

A question without an answer, because its video is missing or its request failed, has the value 0:
it was asked, so it counts. A question without a reference answer has no value.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sfray.scoring.benchmarks.benchmark import Scorer
from sfray.scoring.multiple_choice import is_right
from sfray.scoring.open_ended import counted, exact_match, token_f1

Row = Mapping[str, Any]
GENERIC_ASPECTS = ("correctness", "detail", "context")
ASPECTS = (*GENERIC_ASPECTS, "temporal", "consistency")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """The values of one metric.

    Attributes:
        name: of the metric; `title` says it to people, with its unit.
        values: float64 (n,), of each unit, a question or a pair.
        num_open: units that have an answer but not the verdict of a judge, counted with 0.
    """

    name: str
    title: str
    values: np.ndarray
    videos: tuple[str, ...]
    types: tuple[str, ...]
    keys: tuple[str, ...]
    num_open: int = 0


def scorer_of(row: Row) -> Scorer:
    """What the manifest says, else what follows from the question."""
    if row["scorer"]:
        return Scorer(row["scorer"])
    return Scorer.MULTIPLE_CHOICE if row["options"] else Scorer.OPEN_ENDED


def aspects_of(row: Row) -> tuple[str, ...]:
    """What a judge is asked about the answer to a question."""
    scorer = scorer_of(row)
    if scorer is Scorer.OPEN_ENDED:
        return ("answer",)
    if scorer is not Scorer.GENERATION:
        return ()
    part = row["question_type"]
    return GENERIC_ASPECTS if part not in ("temporal", "consistency") else (part,)


def score(rows: Sequence[Row], verdicts: Iterable[Row]) -> list[Scored]:
    """All metrics of rows that share a scorer.

    Args:
        rows: results with the report's columns; `code` is set where there is no answer.
        verdicts: a judge's, each of one request (the first of a pair) and aspect.
    """
    usable = [row for row in rows if row["reference_answer"]]
    if not usable:
        return []
    scorer = scorer_of(usable[0])
    if scorer is Scorer.MULTIPLE_CHOICE:
        return [_of(usable, "accuracy", "accuracy, %", [100 * _chosen(row) for row in usable])]
    if scorer is Scorer.COUNT:
        return _counts(usable)
    judged = _judged(usable, verdicts)
    if scorer is Scorer.GENERATION:
        return [*judged, _lexical(usable, "token_f1", "token F1, % (no judge)", token_f1)]
    return [
        *judged,
        _lexical(usable, "exact_match", "exact match, % (no judge)", exact_match),
        _lexical(usable, "token_f1", "token F1, % (no judge)", token_f1),
    ]


def is_answered(row: Row) -> bool:
    """Whether the request has an answer, be it empty."""
    return row["code"] is None


def _of(
    rows: Sequence[Row], name: str, title: str, values: list[float], num_open: int = 0
) -> Scored:
    return Scored(
        name=name,
        title=title,
        values=np.array(values, dtype=np.float64),
        videos=tuple(row["video_id"] for row in rows),
        types=tuple(row["question_type"] or "" for row in rows),
        keys=tuple(unit_key(row) for row in rows),
        num_open=num_open,
    )


def unit_key(row: Row) -> str:
    """What a question is called in every run: its video, clip and id."""
    return f"{row['video_id']}|{row['start_seconds']}|{row['end_seconds']}|{row['prompt_id']}"


def _chosen(row: Row) -> bool:
    return is_answered(row) and is_right(row["choice"], row["reference_answer"], row["options"])


def _lexical(rows: Sequence[Row], name: str, title: str, measure: Any) -> Scored:
    values = [
        100 * measure(row["text"], row["reference_answer"]) if is_answered(row) else 0.0
        for row in rows
    ]
    return _of(rows, name, title, values)


def _counts(rows: Sequence[Row]) -> list[Scored]:
    """Exact match over all; the squared error only where an answer names a number."""
    said = [counted(row["text"]) if is_answered(row) else None for row in rows]
    wanted = [counted(row["reference_answer"]) for row in rows]
    right = [100.0 * (s is not None and s == w) for s, w in zip(said, wanted, strict=True)]
    numbered = [
        (row, float((s - w) ** 2))
        for row, s, w in zip(rows, said, wanted, strict=True)
        if s is not None and w is not None
    ]
    scored = [_of(rows, "count_accuracy", "exact count, %", right)]
    if numbered:
        errors = [error for _, error in numbered]
        title = "mean squared error of answers that name a number"
        scored.append(_of([row for row, _ in numbered], "count_mse", title, errors))
    return scored


def _judged(rows: Sequence[Row], verdicts: Iterable[Row]) -> list[Scored]:
    """A metric for each judge (model and prompts) and aspect."""
    by_judge: dict[tuple[str, str], dict[tuple[str, str], Row]] = defaultdict(dict)
    wanted = {row["request_id"] for row in rows}
    for verdict in verdicts:
        if verdict["request_id"] in wanted:
            judge = (verdict["judge_model"], verdict["prompt_fingerprint"])
            by_judge[judge][verdict["request_id"], verdict["aspect"]] = verdict
    scored = []
    for (model, fingerprint), known in by_judge.items():
        who = f"judge {model}, prompts {fingerprint}"
        for aspect in ("answer", *ASPECTS):
            units = judge_units(rows, aspect)
            if not units:
                continue
            found = [known.get((unit[0]["request_id"], aspect)) for unit in units]
            num_open = sum(
                verdict is None and all(is_answered(row) and row["text"].strip() for row in unit)
                for unit, verdict in zip(units, found, strict=True)
            )
            first = [unit[0] for unit in units]
            points = [float((v and v["score"]) or 0) for v in found]
            if aspect != "answer":
                scored.append(_of(first, aspect, f"{aspect}, 0 to 5 ({who})", points, num_open))
                continue
            right = [100.0 * bool(v and v["verdict"]) for v in found]
            title = f"accuracy, % ({who})"
            scored.append(_of(first, "judge_accuracy", title, right, num_open))
            title = f"score, 0 to 5 ({who})"
            scored.append(_of(first, "judge_score", title, points, num_open))
    return scored


def judge_units(rows: Sequence[Row], aspect: str) -> list[tuple[Row, ...]]:
    """What a judge looks at for an aspect: one row each, or the two of a pair."""
    asked = [row for row in rows if aspect in aspects_of(row) and row["reference_answer"]]
    if aspect != "consistency":
        return [(row,) for row in asked]
    pairs: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in asked:
        pairs[row["video_id"], row["pair_id"] or row["prompt_id"]].append(row)
    return [tuple(sorted(pair, key=unit_key)) for pair in pairs.values()]

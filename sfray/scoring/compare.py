"""Two runs on the same questions: paired differences and how sure they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sfray.errors import SpecError
from sfray.scoring.bootstrap import VideoBootstrap, interval, two_sided_p
from sfray.scoring.metrics import Row, Scored, score, scorer_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One metric of A and of B on the questions that both were asked.

    Attributes:
        difference: of the means, B less A, with its 95 % interval `low` to `high`.
        p_value: two-sided, of no difference, by the paired bootstrap over videos.
        num_better, num_worse: questions on which B has a higher or lower value.
        num_only_a, num_only_b: questions that only one of both was asked; in no number here.
    """

    benchmark: str
    metric: str
    title: str
    value_a: float
    value_b: float
    difference: float
    low: float
    high: float
    p_value: float
    num_shared: int
    num_better: int
    num_worse: int
    num_only_a: int
    num_only_b: int

    def as_dict(self) -> dict[str, Any]:
        """The comparison as JSON values."""
        return asdict(self)


def compare(
    rows_a: Sequence[Row],
    verdicts_a: Sequence[Row],
    rows_b: Sequence[Row],
    verdicts_b: Sequence[Row],
) -> list[Comparison]:
    """Every metric that both have, by benchmark.

    Raises:
        SpecError: an output holds several configurations, or they share no question.
    """
    a = _scored(rows_a, verdicts_a, "A")
    b = _scored(rows_b, verdicts_b, "B")
    found = [_compared(key[0], a[key], b[key]) for key in a if key in b]
    comparisons = [comparison for comparison in found if comparison is not None]
    if not comparisons:
        raise SpecError("A and B share no question that one metric scores in both")
    return comparisons


def _scored(
    rows: Sequence[Row], verdicts: Sequence[Row], which: str
) -> dict[tuple[str, str, str], Scored]:
    configurations = {row["fingerprint"] for row in rows}
    if len(configurations) > 1:
        raise SpecError(
            f"output {which} holds answers of {len(configurations)} configurations "
            f"({', '.join(sorted(configurations))}); compare outputs of one each"
        )
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["benchmark"] or "", scorer_of(row).value), []).append(row)
    return {
        (name, part.name, part.title): part
        for (name, _), asked in sorted(groups.items())
        for part in score(asked, verdicts)
    }


def _compared(benchmark: str, a: Scored, b: Scored) -> Comparison | None:
    place_b = {key: number for number, key in enumerate(b.keys)}
    shared = [(number, place_b[key]) for number, key in enumerate(a.keys) if key in place_b]
    if not shared:
        return None
    values_a = a.values[[i for i, _ in shared]]
    values_b = b.values[[j for _, j in shared]]
    videos = [a.videos[i] for i, _ in shared]
    differences = values_b - values_a
    means = VideoBootstrap(videos).means(differences, videos)
    low, high = interval(means)
    return Comparison(
        benchmark=benchmark,
        metric=a.name,
        title=a.title,
        value_a=float(values_a.mean()),
        value_b=float(values_b.mean()),
        difference=float(differences.mean()),
        low=low,
        high=high,
        p_value=two_sided_p(means),
        num_shared=len(shared),
        num_better=int((differences > 0).sum()),
        num_worse=int((differences < 0).sum()),
        num_only_a=len(a.keys) - len(shared),
        num_only_b=len(b.keys) - len(shared),
    )

"""What the demonstration model is right about, and what it costs to take something away.

    python benchmarks/bench_demo_ablations.py --output build/ablations

Writes unseen videos as H.264 files, runs them through `sfray.run` as they are and in four spoilt
forms, and prints the share of exact answers by kind of question. A model that looks at what it
says it looks at loses much on the questions that a form concerns.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sfray.commands.demo import demo_job
from sfray.config import PoolingSpec, StorageSpec
from sfray.demo.questions import KINDS
from sfray.demo.videos import write_sample_set
from sfray.pipeline.cluster import connected
from sfray.results.read import current_state
from sfray.runs.run import run_job

FIRST_SEED = 900_000
TASKS = ("caption", "qa", "multiple_choice")
COLUMNS = ("caption", *(f"{kind} {form}" for kind in KINDS for form in ("open", "choice")))
Scores = dict[str, list[bool]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One form of the videos or of the pooling, and the questions that it concerns."""

    name: str
    concerns: tuple[str, ...] = ()
    spoil: Callable[[np.ndarray], np.ndarray] | None = None
    pooling: PoolingSpec = field(default_factory=PoolingSpec)


ARMS = (
    Arm(name="as it is"),
    Arm(
        name="frames reversed",
        concerns=("motion", "order"),
        spoil=lambda frames_THWC: frames_THWC[::-1],
    ),
    Arm(
        name="red and blue swapped",
        concerns=("colour",),
        spoil=lambda frames_THWC: frames_THWC[..., ::-1],
    ),
    Arm(
        name="no slow pathway",
        concerns=("shape",),
        pooling=PoolingSpec(num_slow_frames=0),
    ),
    Arm(name="no fast pathway", concerns=("flashes",), pooling=PoolingSpec(fast_grid="off")),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--num-videos", type=int, default=200)
    options = parser.parse_args()
    with connected(None):
        scores = {arm.name: measure(arm, options.output, options.num_videos) for arm in ARMS}
    print(share_table(scores))
    print(totals_line(scores[ARMS[0].name]))
    print(cost_table(scores))


def measure(arm: Arm, output: Path, num_videos: int) -> Scores:
    """Runs the three tasks on the videos of an arm; right or wrong, by column of the table."""
    folder = output / arm.name.replace(" ", "-")
    manifests = write_sample_set(folder / "videos", num_videos, FIRST_SEED, arm.spoil)
    scores: Scores = defaultdict(list)
    for task in TASKS:
        spec = demo_job(task, manifests[task], folder / task)
        run_job(spec.model_copy(update={"pooling": arm.pooling}))
        for row in current_state(str(folder / task), StorageSpec()).to_pylist():
            scores[_column(task, row)].append(_is_right(row))
    return scores


def _column(task: str, row: dict[str, Any]) -> str:
    if task == "caption":
        return "caption"
    return f"{row['kind']} {'open' if task == 'qa' else 'choice'}"


def _is_right(row: dict[str, Any]) -> bool:
    """A failure is a wrong answer."""
    return (row["choice"] or row["text"]) == row["reference_answer"]


def share_table(scores: dict[str, Scores]) -> str:
    """Percent of exact answers, one row an arm."""
    lines = [_line("exact answers, %", *COLUMNS), _line(*["---"] * (len(COLUMNS) + 1))]
    for name, by_column in scores.items():
        lines.append(_line(name, *(f"{_percent(by_column[column]):.1f}" for column in COLUMNS)))
    counts = next(iter(scores.values()))
    return "\n".join([*lines, _line("asked", *(str(len(counts[column])) for column in COLUMNS))])


def totals_line(by_column: Scores) -> str:
    """Captions, open questions and multiple choice as a whole."""
    open_hits = [hit for column in COLUMNS if column.endswith(" open") for hit in by_column[column]]
    choices = [hit for column in COLUMNS if column.endswith(" choice") for hit in by_column[column]]
    return (
        f"\nIn all: captions {_percent(by_column['caption']):.1f} %, open questions "
        f"{_percent(open_hits):.1f} %, multiple choice {_percent(choices):.1f} %.\n"
    )


def cost_table(scores: dict[str, Scores]) -> str:
    """What each arm costs on the questions that it concerns, in points."""
    whole, *spoilt = ARMS
    lines = [_line("taken away", "questions", "before", "after", "cost"), _line(*["---"] * 5)]
    for arm in spoilt:
        for kind in arm.concerns:
            columns = (f"{kind} open", f"{kind} choice")
            before, after = (
                _percent([hit for column in columns for hit in scores[name][column]])
                for name in (whole.name, arm.name)
            )
            cells = (f"{before:.1f}", f"{after:.1f}", f"{before - after:.1f}")
            lines.append(_line(arm.name, kind, *cells))
    return "\n".join(lines)


def _percent(hits: list[bool]) -> float:
    return 100 * float(np.mean(hits)) if hits else float("nan")


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()

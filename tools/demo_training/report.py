"""The words that stand beside the weights: how they were made and how right they are."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path

_HEADER = """# The weights of the demonstration model

A model of a toy world: coloured shapes that move, and nothing else. Its architecture is that of
`llava-hf/llava-v1.6-vicuna-7b-hf` in small: a CLIP vision tower, the LLaVA projector and a Llama,
{parameters:.1f} million parameters in all, stored in half precision, run in single.

Trained from random weights, on {when}, {processor}:

    {command}

| stage | minutes |
|---|---|
"""
_ACCURACY = """
Exact answers on {num_videos} unseen videos (H.264, other seeds), measured at the end of training:

| questions | right, % | asked |
|---|---|---|
"""
_FOOTER = """
`benchmarks/bench_demo_ablations.py` measures the same through whole jobs, and what it costs to
reverse the frames, to swap colours or to take a pathway away.
"""


def accuracy_groups(right: dict[str, list[bool]]) -> dict[str, list[bool]]:
    """Captions, open questions and multiple choice as a whole, then every kind alone."""
    groups: dict[str, list[bool]] = {"captions": right["caption"]}
    for title, ending in (("open questions", " open"), ("multiple choice", " choice")):
        kinds = [kind for kind in sorted(right) if kind.endswith(ending)]
        groups[title] = [hit for kind in kinds for hit in right[kind]]
    return groups | {kind: right[kind] for kind in sorted(right) if kind != "caption"}


def accuracy_lines(right: dict[str, list[bool]]) -> list[str]:
    return [
        f"| {name} | {100 * sum(hits) / len(hits):.1f} | {len(hits)} |"
        for name, hits in accuracy_groups(right).items()
    ]


def write_report(
    folder: Path,
    command: str,
    num_parameters: int,
    stage_seconds: dict[str, float],
    right: dict[str, list[bool]],
) -> None:
    """Writes README.md beside the weights.

    Args:
        right: by kind of question, for each one asked whether the whole answer was right.
    """
    header = _HEADER.format(
        parameters=num_parameters / 1e6, when=date.today(), processor=processor(), command=command
    )
    seconds = stage_seconds | {"in all": sum(stage_seconds.values())}
    stages = "".join(f"| {name} | {value / 60:.1f} |\n" for name, value in seconds.items())
    accuracy = _ACCURACY.format(num_videos=len(right["caption"]))
    table = "\n".join(accuracy_lines(right))
    text = f"{header}{stages}{accuracy}{table}\n{_FOOTER}"
    (folder / "README.md").write_text(text, encoding="utf-8")


def processor() -> str:
    """Such as `AMD EPYC, 2 cores`."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return f"{line.split(':', 1)[1].strip()}, {os.cpu_count()} cores"
    return f"{os.cpu_count()} cores"

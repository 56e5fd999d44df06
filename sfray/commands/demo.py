"""`sfray demo`: sample videos of the toy world, the three tasks on them, answers and scores."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.table import Table

from sfray.config import JobSpec, StorageSpec, parse_job_spec
from sfray.demo.questions import CAPTION_PROMPT
from sfray.demo.videos import write_sample_set
from sfray.pipeline.cluster import connected
from sfray.process import program_name
from sfray.results.read import current_state
from sfray.runs.run import run_job

_WHAT_IT_IS = (
    "This is a demonstration model of a toy world: it knows coloured shapes that move, nothing "
    "else. The real one is one line of a job file away:\n"
    "    model: {id: llava-hf/llava-v1.6-vicuna-7b-hf}"
)
_NUM_QUESTIONS_SHOWN = 12


def run_demo(
    folder: Path, num_videos: int, first_seed: int, console: Console
) -> list[dict[str, Any]]:
    """Makes videos in `folder`, captions and questions them, prints answers and scores.

    Returns:
        all answers: task, video_id, prompt, answer, reference_answer.
    """
    console.print(_WHAT_IT_IS, markup=False)
    manifests = write_sample_set(folder / "videos", num_videos, first_seed)
    with connected(None):
        states = {
            task: _answer(task, manifest, folder / task) for task, manifest in manifests.items()
        }
    captions = Table("video", "caption", "right one", title="Captions")
    for row in states["caption"]:
        captions.add_row(row["video_id"], _said(row), row["reference_answer"])
    console.print(captions)
    asked = Table("video", "question", "answer", "right one", title="Questions")
    for row in [*states["qa"], *states["multiple_choice"]][:_NUM_QUESTIONS_SHOWN]:
        asked.add_row(row["video_id"], row["prompt"], _said(row), row["reference_answer"])
    console.print(asked)
    scores = Table("task", "right", "asked", "share", title="Scores (exact match)")
    for task, rows in states.items():
        right = sum(_said(row) == row["reference_answer"] for row in rows)
        scores.add_row(task, str(right), str(len(rows)), f"{right / len(rows):.0%}")
    console.print(scores)
    console.print(f"Videos, manifests and results are in {folder}/.", markup=False)
    look = f"next: {program_name()} show {shlex.quote(str(folder / 'qa'))}"
    console.print(look, markup=False, soft_wrap=True)
    names = ("task", "video_id", "prompt", "reference_answer")
    return [
        {name: row[name] for name in names} | {"answer": _said(row)}
        for rows in states.values()
        for row in rows
    ]


def demo_job(task: str, manifest: Path, output: Path) -> JobSpec:
    """The job that the demonstration runs for a task."""
    spec: dict[str, Any] = {
        "name": f"demo-{task.replace('_', '-')}",
        "manifest": {"uri": str(manifest)},
        "task": task,
        "model": {"id": "demo"},
        "generation": {"max_new_tokens": 32},
        "output": {"uri": str(output)},
    }
    if task == "caption":
        spec["prompts"] = [{"prompt_id": "caption", "text": CAPTION_PROMPT}]
    else:
        spec["manifest"]["passthrough"] = ["kind"]
    return parse_job_spec(spec)


def _answer(task: str, manifest: Path, output: Path) -> list[dict[str, Any]]:
    spec = demo_job(task, manifest, output)
    summary = run_job(spec)
    state = current_state(str(output), StorageSpec())
    asked = state.filter(pc.is_in(state["fingerprint"], pa.array(summary.fingerprints)))
    return asked.to_pylist()


def _said(row: dict[str, Any]) -> str:
    if row["code"] is not None:
        return f"{row['code']}: {row['message']}"
    return row["choice"] or row["text"]

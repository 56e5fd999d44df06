"""How well `sfray plan --measure` predicts what a job then takes.

    python -m benchmarks.bench_plan --results benchmarks/results

Real videos, the demonstration model, this machine: a random sample is measured and the whole
predicted, then the job runs. The job's time is that of its summary, the start of Ray included. A
machine that does other things at the same time says nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np

from benchmarks.processor import processor
from sfray.commands.forecast import forecast
from sfray.config import load_job_spec
from sfray.demo.videos import write_sample_set
from sfray.planning.outlook import outlook

# Task, videos, how many times larger than 128 pixels their frames are.
JOBS = (("caption", 300, 1), ("qa", 150, 3), ("caption", 100, 8))


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One job: the prediction from a sample, and what it took; seconds."""

    job: str
    num_measured: int
    predicted: float
    low: float
    high: float
    took: float

    @property
    def error(self) -> float:
        return self.predicted / self.took - 1


def write_job(folder: Path, task: str, num_videos: int, scale: int) -> Path:
    """A job on videos whose frames are enlarged `scale` times."""

    def enlarged(frames_THWC: np.ndarray) -> np.ndarray:
        return frames_THWC.repeat(scale, axis=1).repeat(scale, axis=2)

    manifests = write_sample_set(folder / "videos", num_videos, 500_000, alter=enlarged)
    path = folder / "job.yaml"
    spec = {
        "name": f"{task}-{scale}",
        "manifest": {"uri": str(manifests[task])},
        "task": task,
        "model": {"id": "demo"},
        "output": {"uri": str(folder / "out")},
    }
    if task == "caption":
        spec["prompts"] = [{"prompt_id": "caption", "text": "Describe this video."}]
    path.write_text(json.dumps(spec))
    return path


def compare(folder: Path, task: str, num_videos: int, scale: int, num_measured: int) -> Row:
    """Predicts a job, then runs it in a process of its own."""
    path = write_job(folder, task, num_videos, scale)
    seen = outlook(load_job_spec(path))
    predicted = forecast(seen, num_measured, 0, (None, None), None, None).prediction.seconds
    subprocess.run([sys.executable, "-m", "sfray", "run", str(path)], check=True)  # noqa: S603 - our own command
    (summary,) = (folder / "out" / "_sfray" / "runs").glob("*/summary.json")
    return Row(
        job=f"{task}, {num_videos} videos of {128 * scale}x{128 * scale}",
        num_measured=num_measured,
        predicted=predicted.middle,
        low=predicted.low,
        high=predicted.high,
        took=json.loads(summary.read_text())["seconds"],
    )


def table(rows: list[Row]) -> str:
    """The results as markdown."""
    lines = [
        "# What `sfray plan --measure` predicts, and what the job takes",
        "",
        f"{processor()}, {date.today()}; `python -m benchmarks.bench_plan`. The demonstration",
        f"model; load average {os.getloadavg()[1]:.1f} over the last five minutes.",
        "",
        "| job | clips measured | predicted, s (95 % interval) | took, s | error |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.job} | {row.num_measured} | {row.predicted:.0f} ({row.low:.0f} to {row.high:.0f}) "
        f"| {row.took:.0f} | {row.error:+.0%} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, help="a folder for the dated table")
    parser.add_argument("--measure", type=int, default=20, help="clips of each job")
    options = parser.parse_args()
    rows = []
    for task, num_videos, scale in JOBS:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(compare(Path(folder), task, num_videos, scale, options.measure))
            print(rows[-1], flush=True)
    print(table(rows))
    if options.results:
        (options.results / f"{date.today()}-plan.md").write_text(table(rows), encoding="utf-8")


if __name__ == "__main__":
    main()

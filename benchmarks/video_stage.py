"""Decode throughput of a whole job on two cores against the same work in a bare loop.

The job is a real one (Ray Data, child processes, results log) but for the model, which answers at
once. The loop is two processes that call the reader and do nothing else. Both take turns; videos a
second are counted from the first tenth of the videos on, when all processes are warm, and the
processor time of a video from then on: of the loop, and of the job's decode workers with their
children. What else the job takes of the two cores is the driver's, Ray's and the model's actor's.
Ratios are of a turn, since a shared machine's pace changes within minutes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from benchmarks.instant_stages import InstantAnswer
from benchmarks.sample_videos import Case, write
from benchmarks.video_reading import IMAGE_SIZE, NUM_FRAMES, with_sfray
from sfray.config import parse_job_spec
from sfray.pipeline.actors import Stages
from sfray.records import DecodedItem, Outcome
from sfray.runs.run import run_job
from sfray.stages.decode_video import DecodeConfig, DecodeVideo
from sfray.telemetry.stage_load import DECODE_STAGE

NUM_VIDEOS, NUM_CORES, ROUNDS = 80, 2, 5
# Seldom: looking through a job's processes takes processor time too.
SAMPLE_SECONDS = 1
CASES = [Case("libx264", "mp4", height, 10, 30) for height in (360, 720)]


@dataclass(frozen=True)
class NotingAnswer:
    """Answers at once, and adds a line with the time to a file."""

    times: Path

    async def __call__(self, decoded: DecodedItem) -> list[Outcome]:
        with self.times.open("a") as file:
            file.write(f"{time.time()}\n")
        return await InstantAnswer()(decoded)


def measure(folder: Path, only: str) -> Iterator[dict[str, Any]]:
    """A row for each video whose name holds `only`."""
    for case in CASES:
        if only in case.name:
            path = write(case, folder)
            rounds = [
                {way: asdict(_run(way, path)) for way in ("loop", "job")} for _ in range(ROUNDS)
            ]
            yield {"name": case.name, "rounds": rounds}


@dataclass(frozen=True)
class Pace:
    """Of one run; `stage_cpu_seconds` are of a video."""

    videos_a_second: float
    stage_cpu_seconds: float


def _run(way: str, path: Path) -> Pace:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(NUM_VIDEOS):
            (folder / f"{number:04d}.mp4").symlink_to(path.resolve())
        shares = range(NUM_CORES) if way == "loop" else range(1)
        command = [sys.executable, "-m", "benchmarks.video_stage", way, name]
        processes = [subprocess.Popen([*command, str(share)]) for share in shares]  # noqa: S603
        roots = [psutil.Process(process.pid) for process in processes]
        samples = []
        while any(process.poll() is None for process in processes):
            samples.append((time.time(), sum(_cpu_seconds(root, way) for root in roots)))
            time.sleep(SAMPLE_SECONDS)
        if any(process.returncode for process in processes):
            raise RuntimeError(f"a process of the {way} failed")
        times = [float(line) for log in folder.glob("times-*") for line in log.open()]
        if len(times) != NUM_VIDEOS:
            raise RuntimeError(f"{len(times)} of {NUM_VIDEOS} videos came")
    times = sorted(times)[NUM_VIDEOS // 10 :]
    while_warm = [sample for sample in samples if times[0] <= sample[0] <= times[-1]]
    (began, cpu_before), (ended, cpu_after) = while_warm[0], while_warm[-1]
    num_videos = sum(began < moment <= ended for moment in times)
    return Pace(
        videos_a_second=(len(times) - 1) / (times[-1] - times[0]),
        stage_cpu_seconds=(cpu_after - cpu_before) / num_videos,
    )


def _cpu_seconds(root: psutil.Process, way: str) -> float:
    """Of the loop's process, or of a job's decode workers and their children."""
    if way == "loop":
        stage = [root]
    else:
        workers = [p for p in root.children(recursive=True) if DECODE_STAGE in _command(p)]
        stage = [*workers, *(child for worker in workers for child in worker.children())]
    total = 0.0
    for process in stage:
        with suppress(psutil.NoSuchProcess):  # it has just ended
            times = process.cpu_times()
            total += times.user + times.system
    return total


def _command(process: psutil.Process) -> str:
    with suppress(psutil.NoSuchProcess):
        return " ".join(process.cmdline())
    return ""


def _loop(folder: Path, share: int) -> None:
    with (folder / f"times-{share}").open("w") as file:
        for path in sorted(folder.glob("*.mp4"))[share::NUM_CORES]:
            with_sfray(path, seek="exact")
            file.write(f"{time.time()}\n")


def _job(folder: Path) -> None:
    lines = [json.dumps({"video_uri": str(path)}) for path in folder.glob("*.mp4")]
    (folder / "manifest.jsonl").write_text("\n".join(lines))
    spec = parse_job_spec(
        {
            "name": "stage",
            "manifest": {"uri": str(folder / "manifest.jsonl")},
            "task": "caption",
            "prompts": [{"prompt_id": "caption", "text": "What happens?"}],
            "model": {"id": "demo"},
            "resources": {"decode_workers": {"min": NUM_CORES, "max": NUM_CORES}},
            "output": {"uri": str(folder / "output")},
        }
    )
    config = DecodeConfig(decode=spec.decode, num_frames=NUM_FRAMES, image_size=IMAGE_SIZE)
    decode = partial(DecodeVideo, config)
    stages = Stages(make_decode=decode, make_answer=partial(NotingAnswer, folder / "times-job"))
    summary = run_job(spec, address="local", stages=stages)
    if summary.exit_code:
        raise SystemExit(f"the run ended with exit code {summary.exit_code}")


def report(rows: list[dict[str, Any]]) -> str:
    """The table, by the middle one of the rounds' ratios."""
    lines = [
        "| video | loop, videos/s | job, videos/s | job / loop "
        "| processor time of loop / of decode stage |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        loops, jobs = ([one[way] for one in row["rounds"]] for way in ("loop", "job"))
        rates = [median(one["videos_a_second"] for one in ways) for ways in (loops, jobs)]
        pairs = list(zip(loops, jobs, strict=True))
        pace = median(job["videos_a_second"] / loop["videos_a_second"] for loop, job in pairs)
        own = median(loop["stage_cpu_seconds"] / job["stage_cpu_seconds"] for loop, job in pairs)
        cells = [row["name"], *(f"{figure:.2f}" for figure in (*rates, pace, own))]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + (
        f"\n\n{NUM_VIDEOS} videos on {NUM_CORES} cores, the middle one of {ROUNDS} rounds in turns."
        " All of a job shares the cores: driver, Ray and the model's actor too.\n"
    )


if __name__ == "__main__":
    if sys.argv[1] == "loop":
        _loop(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        _job(Path(sys.argv[2]))

"""Decode throughput of a whole job on two cores against the same work in a bare loop.

The job is a real one (Ray Data, child processes, results log) but for the model, which answers at
once. The loop is two processes that call the reader and do nothing else. Both take turns; videos a
second are counted from the first tenth of the videos on, when all processes are warm.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.instant_stages import InstantAnswer
from benchmarks.sample_videos import Case, write
from benchmarks.video_reading import IMAGE_SIZE, NUM_FRAMES, with_sfray
from sfray.config import parse_job_spec
from sfray.pipeline.actors import Stages
from sfray.pipeline.run import run_job
from sfray.records import DecodedItem, Outcome
from sfray.stages.decode_video import DecodeVideo

NUM_VIDEOS, NUM_CORES, ROUNDS = 120, 2, 3
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
            rates: dict[str, list[float]] = {"loop": [], "job": []}
            for _ in range(ROUNDS):
                for way, measured in rates.items():
                    measured.append(_videos_a_second(way, path))
            yield {"name": case.name, "videos_a_second": rates}


def _videos_a_second(way: str, path: Path) -> float:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(NUM_VIDEOS):
            (folder / f"{number:04d}.mp4").symlink_to(path.resolve())
        shares = range(NUM_CORES) if way == "loop" else range(1)
        command = [sys.executable, "-m", "benchmarks.video_stage", way, name]
        processes = [subprocess.Popen([*command, str(share)]) for share in shares]  # noqa: S603
        exit_codes = [process.wait() for process in processes]
        if any(exit_codes):
            raise RuntimeError(f"a process of the {way} failed")
        times = [float(line) for log in folder.glob("times-*") for line in log.open()]
        if len(times) != NUM_VIDEOS:
            raise RuntimeError(f"{len(times)} of {NUM_VIDEOS} videos came")
    times = sorted(times)[NUM_VIDEOS // 10 :]
    return (len(times) - 1) / (times[-1] - times[0])


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
    decode = partial(
        DecodeVideo,
        videos=spec.videos,
        storage=spec.storage,
        decode=spec.decode,
        seek="exact",
        num_frames=NUM_FRAMES,
        image_size=IMAGE_SIZE,
    )
    stages = Stages(make_decode=decode, make_answer=partial(NotingAnswer, folder / "times-job"))
    summary = run_job(spec, address="local", stages=stages)
    if summary.exit_code:
        raise SystemExit(f"the run ended with exit code {summary.exit_code}")


def report(rows: list[dict[str, Any]]) -> str:
    """The table, by the best round of each."""
    lines = ["| video | loop, videos/s | job, videos/s | job / loop |", "|---|---|---|---|"]
    for row in rows:
        loop, job = (max(row["videos_a_second"][way]) for way in ("loop", "job"))
        lines.append(f"| {row['name']} | {loop:.2f} | {job:.2f} | {job / loop:.2f} |")
    return "\n".join(lines) + (
        f"\n\n{NUM_VIDEOS} videos on {NUM_CORES} cores, the best of {ROUNDS} rounds in turns.\n"
    )


if __name__ == "__main__":
    if sys.argv[1] == "loop":
        _loop(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        _job(Path(sys.argv[2]))

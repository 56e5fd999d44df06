"""Makes small outputs of all kinds: `python -m tests.golden.make_outputs FOLDER`.

Each release whose format differs from those before it adds a folder of them to
`tests/golden/outputs/`; what is there is never made again, since it stands for outputs that people
have. Each case is a folder with a job file and a manifest, whose paths are relative to it, and the
output of the nights that are told in `CASES`.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray
import yaml

from sfray.commands.retry import retry_output
from sfray.config import StorageSpec, load_job_spec
from sfray.runs.run import run_job

VIDEOS = Path(__file__).parent / "videos"
OUTPUT = "output"
# Is not there in the first night.
LATE = "late.mp4"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One output.

    Attributes:
        job: the job file.
        write: writes the rows of the manifest, the job's `manifest.uri`.
        nights: how many of the rows the manifest has in each night.
        sets: the overrides of the runs of one night.
        retries: whether failures are tried again in the end, once `LATE` is there.
    """

    job: dict[str, Any]
    write: Callable[[Path, list[dict[str, Any]]], None]
    rows: list[dict[str, Any]]
    nights: tuple[int, ...]
    sets: tuple[tuple[str, ...], ...] = ((),)
    retries: bool = False


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_json_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path)


def job(task: str, manifest_uri: str, **changes: Any) -> dict[str, Any]:
    base = {
        "name": task.replace("_", "-"),
        "manifest": {"uri": manifest_uri},
        "videos": {"root": "videos"},
        "task": task,
        "model": {"id": "demo", "dtype": "float32"},
        "generation": {"max_new_tokens": 24},
        "limits": {"max_failure_ratio": 1.0},
        "output": {"uri": OUTPUT},
    }
    for key, value in changes.items():
        section = base.get(key)
        base[key] = {**section, **value} if isinstance(section, dict) else value
    return base


def clip(uri: str, start: str, end: str, source: str, flags: str) -> dict[str, Any]:
    return {
        "path": uri,
        "start_seconds": start,
        "end_seconds": end,
        "source": source,
        "flags": flags,
        "clip_id": f"theirs-{source}",
        "answer": f"reference {source}",
    }


def question(uri: str, number: int, **more: Any) -> dict[str, Any]:
    asked = ["What colour is the object?", "What shape is the object?", "Where does it move?"]
    return {
        "video_uri": uri,
        "video_id": uri.removesuffix(".mp4"),
        "question_id": f"{uri[:-4]}/{number}",
        "question": asked[number],
        "answer": "red",
        "kind": f"kind {number}",
        **more,
    }


CASES = {
    "caption": Case(
        job=job(
            "caption",
            "manifest.csv",
            manifest={
                "columns": {"video_uri": "path"},
                "passthrough": ["source", "flags", "clip_id"],
            },
            prompts=[
                {"prompt_id": "caption", "text": "Describe this video in detail."},
                {"prompt_id": "with_source", "text": "What does {source} show?"},
            ],
        ),
        write=write_csv,
        rows=[
            clip("one.mp4", "", "", "a", "night"),
            clip("missing.mp4", "", "", "b", ""),
            clip(LATE, "", "", "c", ""),
            clip("", "", "", "d", "no address"),
            clip("two.mp4", "0.25", "1.5", "e", "day"),
            clip("broken.mp4", "", "", "f", "day"),
        ],
        nights=(4, 6),
        retries=True,
    ),
    "qa": Case(
        job=job("qa", "manifest.parquet", template="template.txt"),
        write=write_parquet,
        rows=[
            {
                "video_uri": uri,
                "video_id": uri.removesuffix(".mp4"),
                "prompts": [
                    {"prompt_id": f"{uri}-{n}", "text": text, "answer": "red"}
                    for n, text in enumerate(("What colour is the object?", "What moves?"))
                ],
            }
            for uri in ("one.mp4", "two.mp4", "missing.mp4")
        ],
        nights=(2, 3),
    ),
    "multiple_choice": Case(
        job=job("multiple_choice", "manifest.jsonl", manifest={"passthrough": ["kind", "weights"]}),
        write=write_json_lines,
        rows=[
            question("one.mp4", n, options=["red", "blue", "green"], weights=[0.5, n])
            for n in range(3)
        ],
        nights=(3,),
    ),
    "windows": Case(
        job=job(
            "caption",
            "manifest.parquet",
            sampling={"windows": {"seconds": 1.0, "overlap_seconds": 0.25}},
            prompts=[{"prompt_id": "caption", "text": "Describe this video in detail."}],
        ),
        write=write_parquet,
        rows=[{"video_uri": uri, "start_seconds": None} for uri in ("one.mp4", "two.mp4")]
        + [{"video_uri": "broken.mp4", "start_seconds": 0.5}],
        nights=(1, 3),
    ),
    "partition": Case(
        job=job("qa", "manifest.parquet", manifest={"passthrough": ["kind"]}),
        write=write_parquet,
        rows=[question(uri, n) for uri in ("one.mp4", "two.mp4", "missing.mp4") for n in (0, 1)],
        nights=(6,),
        sets=(("output.partition=0/2",), ("output.partition=1/2",)),
    ),
}


@contextmanager
def local_ray() -> Iterator[None]:
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


def make_case(case: Case, folder: Path) -> None:
    """Writes job file, manifest and videos into a folder, and runs the nights there."""
    folder.mkdir(parents=True)
    shutil.copytree(VIDEOS, folder / "videos")
    (folder / "template.txt").write_text(
        "USER: <image>\nLook closely. {question} ASSISTANT:", encoding="utf-8"
    )
    (folder / "job.yaml").write_text(yaml.safe_dump(case.job, sort_keys=False), encoding="utf-8")
    # Ray's workers are where the driver was when it started.
    with chdir(folder), local_ray():
        for number in case.nights:
            case.write(Path(case.job["manifest"]["uri"]), case.rows[:number])
            for overrides in case.sets:
                run_job(load_job_spec("job.yaml", overrides))
        if case.retries:
            shutil.copy("videos/two.mp4", f"videos/{LATE}")
            retry_output(OUTPUT, StorageSpec(), ("not_found",), False, None)
    shutil.rmtree(folder / "videos")
    shutil.rmtree(folder / OUTPUT / "_sfray" / "tmp", ignore_errors=True)


def main(arguments: Sequence[str]) -> None:
    target = Path(arguments[0])
    os.environ["RAY_AUTH_MODE"] = "disabled"
    for name, case in CASES.items():
        make_case(case, target / name)


if __name__ == "__main__":
    main(sys.argv[1:])
